//! What the end-to-end tests share: a real host in a process of its own, an HTTP client that can also misbehave,
//! the built guests, and a browser. It must know the host only from outside: its program, its ports, its log.
//!
//! - [`host`]: [`TestHost`](host::TestHost) starts `wharf serve` and reads its log; [`Shared`](host::Shared) lends one
//!   host to all tests of a file
//! - [`daemon`]: a host that keeps images and containers, and the clients that drive it: `docker`, `wharf`
//! - [`engine`]: the same API without a client program; [`archives`]: archives for it, also ones no program would make
//! - [`golden`]: what a program prints, compared to files
//! - [`registry`]: a real registry on loopback, and a line to it that breaks
//! - [`traffic`]: those who keep a host busy while it is killed, and remember what it acknowledged
//! - [`tutorial`]: its compose file, and the ports that needs
//! - [`http`]: requests, whole or broken, and answers, whole or cut short
//! - [`guests`]: where the built guests and the models are
//! - [`machines`]: machines made of a few files: GPUs, a driver and libraries that are stubs, Jetsons
//! - [`pictures`]: pictures that were never taken: bombs, and tiles enlarged and inverted
//! - [`python`]: an interpreter with the packages that a test asks for
//! - [`browser`]: headless Chromium over its debugging pipe

#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

pub mod archives;
pub mod browser;
pub mod daemon;
pub mod engine;
pub mod golden;
pub mod guests;
pub mod host;
pub mod http;
pub mod machines;
pub mod pictures;
pub mod python;
pub mod registry;
pub mod traffic;
pub mod tutorial;

use std::time::{Duration, Instant};

/// The longest anything may take that should happen at once, on a machine busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Ask until the answer is yes. For what has no event to wait for, such as the end of a process or a gauge.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "still not after {} s: {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(10));
    }
}
