//! Too much of everything that goes out: log lines, response bodies.

use fixture::bindings::wasi::cli::{stderr::get_stderr, stdout::get_stdout};
use fixture::bindings::wasi::http::types::OutgoingBody;
use fixture::bindings::wasi::io::streams::{OutputStream, StreamError};
use fixture::{Object, Reply, Request, ResponseOutparam, WRITE_SIZE, write_all};

const GB: u64 = 1_000_000_000;
const BODY_PIECE: u64 = 64 * 1024;

/// `?bytes=` (default 1 GB) to standard error, in lines of 4 KiB. Whatever the host refuses ends it.
pub fn log_flood(request: &Request) -> Reply {
    let wanted = request.number("bytes", GB);
    let mut line = vec![b'x'; WRITE_SIZE];
    if let Some(last) = line.last_mut() {
        *last = b'\n';
    }
    let log = get_stderr();
    let mut written = 0;
    while written < wanted {
        if let Err(error) = log.blocking_write_and_flush(&line) {
            return Reply::json(refused(&error).number("written", written).finish());
        }
        written += line.len() as u64;
    }
    Reply::json(Object::ok().number("written", written).finish())
}

/// `?line=` and a line break to standard error, or with `?stream=stdout` to standard output.
pub fn log(request: &Request) -> Reply {
    let line = request.query("line").unwrap_or_default() + "\n";
    let stream = if request.query("stream").as_deref() == Some("stdout") { get_stdout() } else { get_stderr() };
    let written = write_all(&stream, line.as_bytes()).map_err(|error| refused(&error));
    Reply::outcome(written, |ok, ()| ok)
}

/// Streams `?bytes=` (default 2 GB) in pieces of 64 KiB; stops when the host refuses more.
pub fn big_body(request: &Request, out: ResponseOutparam) {
    let wanted = request.number("bytes", 2 * GB);
    let body = Reply::start(out);
    let sent = body.write().is_ok_and(|stream| stream_bytes(&stream, wanted).is_ok());
    if sent {
        let _ = OutgoingBody::finish(body, None);
    }
}

/// Sends a beginning, then drops the body without finishing it.
pub fn drop_body(out: ResponseOutparam) {
    let body = Reply::start(out);
    if let Ok(stream) = body.write() {
        let _ = write_all(&stream, b"the beginning of an answer");
    }
}

fn stream_bytes(stream: &OutputStream, wanted: u64) -> Result<(), StreamError> {
    let piece = vec![b'.'; BODY_PIECE as usize];
    let ready = stream.subscribe();
    let mut left = wanted;
    while left > 0 {
        ready.block();
        let length = stream.check_write()?.min(left).min(BODY_PIECE);
        if let Some(part) = piece.get(..length as usize).filter(|part| !part.is_empty()) {
            stream.write(part)?;
        }
        left -= length;
    }
    stream.blocking_flush()
}

fn refused(error: &StreamError) -> Object {
    match error {
        StreamError::Closed => Object::error("closed", "the stream is closed"),
        StreamError::LastOperationFailed(error) => Object::error("failed", &error.to_debug_string()),
    }
}
