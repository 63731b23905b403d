//! A service of the SDK built for `wasm32-wasip1`, the target of those whose dependencies want WASI underneath.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;

use support::guests::fixture;
use support::host::{Shared, TestHost};

/// `examples/hello`, whose other build the other tests serve.
const HELLO: &str = "hello-wasip1";

static HOST: Shared = Shared::new(|| TestHost::serve(&[&fixture(HELLO)], &[]));

#[test]
fn it_is_a_core_module_on_preview_1() {
    let module = fs::read(fixture(HELLO)).unwrap();
    assert_eq!(&module[..8], b"\0asm\x01\0\0\0", "a core module, which only the host makes a component");
    let holds = |bytes: &[u8]| module.windows(bytes.len()).any(|window| window == bytes);
    assert!(holds(b"wasi_snapshot_preview1"), "it imports preview 1, so serving it proves the adapter");
    // With its length before it, as exports are written. Debian's build has `_initialize`, rustup's has neither:
    // wit-bindgen runs the constructors.
    assert!(!holds(b"\x06_start"), "a command runs once and ends; a service is called");
}

#[test]
fn it_answers() {
    let host = HOST.get();
    let answer = host.service(HELLO).get("/").expect(200);
    assert_eq!(answer.text(), "Hello from Wharf.\n");
}

#[test]
fn bodies_go_in_and_out_whole() {
    let host = HOST.get();
    // Longer than any one buffer on the way, and no text.
    let body: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    assert!(host.service(HELLO).post("/echo", &body).expect(200).body == body, "the echo differs");
}

#[test]
fn what_it_does_not_know_is_its_404() {
    let host = HOST.get();
    assert_eq!(host.service(HELLO).get("/nowhere").status, 404);
}
