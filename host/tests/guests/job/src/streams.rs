//! Whole reads and writes over `wasi:io`.

use crate::bindings::wasi::io::streams::{InputStream, OutputStream, StreamError};

/// What `blocking-write-and-flush` takes at most; it traps on more.
const WRITE_SIZE: usize = 4096;
const READ_SIZE: u64 = 64 << 10;

pub fn write(to: &OutputStream, bytes: &[u8]) -> Result<(), String> {
    bytes.chunks(WRITE_SIZE).try_for_each(|part| to.blocking_write_and_flush(part)).map_err(|error| words(&error))
}

/// Up to the end of `from`.
pub fn copy(from: &InputStream, to: &OutputStream) -> Result<(), String> {
    loop {
        match from.blocking_read(READ_SIZE) {
            Ok(bytes) => write(to, &bytes)?,
            Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(words(&error)),
        }
    }
}

fn words(error: &StreamError) -> String {
    match error {
        StreamError::Closed => "the stream is closed".to_owned(),
        StreamError::LastOperationFailed(cause) => cause.to_debug_string(),
    }
}
