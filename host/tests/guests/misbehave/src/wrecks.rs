//! Ways for an instance to end: traps, and the endless.

use std::arch::wasm32;
use std::hint::black_box;

use fixture::bindings::wasi::http::types::OutgoingBody;
use fixture::{Object, Reply, Request, ResponseOutparam, write_all};

const MIB: usize = 1 << 20;

pub fn trap() -> ! {
    wasm32::unreachable()
}

pub fn panic() -> ! {
    panic!("this guest panics when asked to")
}

pub fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Takes memory, and touches it, until there is none: then the allocator aborts, as it does in any Rust program.
pub fn allocate() -> ! {
    let mut hoard = Vec::new();
    loop {
        hoard.push(black_box(vec![1_u8; MIB]));
    }
}

/// Asks once for `?pages=` pages of 64 KiB and lives on, whatever the host says.
pub fn grow(request: &Request) -> Reply {
    let pages = usize::try_from(request.number("pages", 65_535)).unwrap_or(usize::MAX);
    let grown = match wasm32::memory_grow::<0>(pages) {
        usize::MAX => Err(Object::error("memory", &format!("memory.grow by {pages} pages was denied"))),
        _ => Ok(wasm32::memory_size::<0>() as u64),
    };
    Reply::outcome(grown, |ok, pages| ok.number("pages", pages))
}

/// Runs out of the host's stack, not out of the guest's own in linear memory: the frames hold only locals.
pub fn recurse(request: &Request) -> Reply {
    Reply::text(200, descend(request.number("from", 1)).to_string())
}

/// The compiler cannot make a loop of it: what follows the call depends on its result, twice.
#[inline(never)]
fn descend(depth: u64) -> u64 {
    if depth == 0 {
        return 1;
    }
    let below = descend(depth.wrapping_add(1));
    below.rotate_left((below as u32) ^ (depth as u32)) ^ depth
}

/// Traps when the status and the first bytes are on their way already.
pub fn trap_midway(out: ResponseOutparam) -> ! {
    let body: OutgoingBody = Reply::start(out);
    if let Ok(stream) = body.write() {
        let _ = write_all(&stream, b"the beginning of an answer");
    }
    trap()
}
