//! A service with WASI preview 1 underneath, as C libraries and `wasm32-wasip1` builds have: a host must put the
//! adapter in. It calls preview 1 directly, so that it needs no such library to build.
//!
//! `GET /` writes `hello from preview 1` to standard error and answers how many bytes of it were taken.

use std::sync::atomic::{AtomicU32, Ordering};

use fixture::{IncomingRequest, Object, Reply, ResponseOutparam};

const STDERR: i32 = 2;
const LINE: &[u8] = b"hello from preview 1\n";

/// `ciovec` of preview 1: one piece of memory to write.
#[repr(C)]
struct Piece {
    start: *const u8,
    length: usize,
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn fd_write(fd: i32, pieces: *const Piece, count: usize, written: *mut u32) -> i32;
}

struct Service;

impl fixture::Guest for Service {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        let piece = Piece { start: LINE.as_ptr(), length: LINE.len() };
        let written = AtomicU32::new(0);
        // SAFETY: `piece` describes one live slice, and `written` is a place for one u32.
        let errno = unsafe { fd_write(STDERR, &raw const piece, 1, written.as_ptr()) };
        let result = if errno == 0 { Ok(written.load(Ordering::Relaxed)) } else { Err(errno) };
        let result = result.map_err(|errno| Object::error("errno", &format!("fd_write returned {errno}")));
        Reply::outcome(result, |ok, written| ok.number("written", written.into())).send(out);
    }
}

fixture::export!(Service);
