//! Where the address space is small (39 bits on a Jetson, `ulimit -v` here), guest memories are reserved smaller and the
//! host serves all the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::process::Command;

use support::guests::{example, library, read_source};
use support::host::{Ended, Scratch, TestHost, WHARF, run};

/// In KiB. 1000 memories of 4 GiB do not fit, 1000 of 256 MiB do.
const SMALL: u64 = 600_000_000;
/// Neither fits.
const TINY: u64 = 100_000_000;

/// `wharf` with an address space of so many KiB.
fn confined(kib: u64, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {kib} && exec \"$0\" \"$@\""), WHARF]).args(arguments);
    command
}

fn doctor(kib: u64) -> Ended {
    run(confined(kib, &["doctor"]).env("ORT_DYLIB_PATH", library()))
}

/// `wharf serve` with digits, confined; `data` as scratch, so that the component is compiled under the limit too.
fn serve(kib: u64, data: &Scratch, flags: &[&str]) -> Command {
    let mut command =
        confined(kib, &["serve", "--http", "127.0.0.1:0", "-p", "127.0.0.1:0:5000", "--log-format", "json"]);
    command.arg("--data").arg(&data.0).arg(example("digits")).args(flags);
    command
}

#[test]
fn a_small_address_space_is_served_with_smaller_reservations() {
    let data = Scratch::new();
    let host = TestHost::start(&mut serve(SMALL, &data, &[]));
    let warned = host.log().wait_for("warning", |line| line.message().starts_with("address space is small"));
    assert!(warned.message().ends_with("guest memories are reserved at 256 MiB each"), "{}", warned.text);
    // Fresh instances one after the other: each gets its memory out of the smaller pool.
    let seven = read_source("examples/digits/testdata/seven.png");
    for _ in 0..5 {
        assert_eq!(host.service("digits").post("/predict", &seven).expect(200).json()["digit"], 7);
    }
    assert_eq!(host.stop(), Some(0));

    // The same folder in a wide address space: code compiled for the other layout is not taken for this one's.
    let host = TestHost::serve_from(&data.0, &[&example("digits")], &[]);
    assert_eq!(host.service("digits").post("/predict", &seven).expect(200).json()["digit"], 7);
    assert!(!host.log().text().contains("address space is small"), "{}", host.log().text());
}

#[test]
fn more_memory_than_a_small_reservation_is_an_error_that_names_the_most() {
    let ended = run(serve(SMALL, &Scratch::new(), &["--memory", "512m"]).env("ORT_DYLIB_PATH", library()));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("memory limit of 536870912 bytes: this host accepts"), "{}", ended.stderr);
    assert!(ended.stderr.contains("to 268435456 bytes"), "{}", ended.stderr);
}

#[test]
fn doctor_says_which_reservations_fit() {
    let small = doctor(SMALL);
    assert_eq!(small.code, Some(0), "{small:?}");
    assert!(small.stdout.contains("256 MiB address space each (explicit bounds checks)"), "{}", small.stdout);
    let tiny = doctor(TINY);
    assert_eq!(tiny.code, Some(1), "{tiny:?}");
    assert!(tiny.stdout.contains("raise `ulimit -v`"), "{}", tiny.stdout);
}

#[test]
fn where_nothing_fits_the_error_says_what_to_raise() {
    let ended = run(serve(TINY, &Scratch::new(), &[]).env("ORT_DYLIB_PATH", library()));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    for words in ["cannot reserve address space for guest memories", "raise `ulimit -v`"] {
        assert!(ended.stderr.contains(words), "{words:?} is not in:\n{}", ended.stderr);
    }
}
