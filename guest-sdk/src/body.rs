//! Bodies: a request's, in the host or in memory, and a response's on its way out.

use http::StatusCode;

use crate::bindings::wasi::http::types::{self, ErrorCode, IncomingBody, IncomingRequest, OutgoingBody};
use crate::bindings::wasi::io::streams::{InputStream, OutputStream, StreamError};
use crate::headers::Headers;
use crate::{Error, Result};

/// Bytes asked of the host at a time.
const READ_BYTES: u64 = 256 * 1024;

/// A request's body that nobody has opened yet.
#[derive(Debug)]
pub(crate) enum Body {
    Host(IncomingRequest),
    Bytes(Vec<u8>),
    Taken,
}

/// An opened body.
pub(crate) enum BodyStream {
    Host(HostStream),
    Bytes(Vec<u8>),
}

impl Body {
    /// The header fields that came with it.
    pub(crate) fn headers(&self) -> Headers {
        match self {
            Body::Host(request) => Headers::new(request.headers().entries()),
            Body::Bytes(_) | Body::Taken => Headers::default(),
        }
    }

    /// `None` if it was opened before.
    pub(crate) fn open(self) -> Result<Option<BodyStream>> {
        match self {
            Body::Host(request) => HostStream::open(&request).map(|stream| Some(BodyStream::Host(stream))),
            Body::Bytes(bytes) => Ok(Some(BodyStream::Bytes(bytes))),
            Body::Taken => Ok(None),
        }
    }
}

/// A body the host holds, as a stream. Field order matters: a child must be dropped before its parent.
pub(crate) struct HostStream {
    stream: InputStream,
    _body: IncomingBody,
}

impl HostStream {
    fn open(request: &IncomingRequest) -> Result<Self> {
        let gone = |()| Error::internal("the host has already given the request's body away");
        let body = request.consume().map_err(gone)?;
        let stream = body.stream().map_err(gone)?;
        Ok(HostStream { stream, _body: body })
    }

    pub(crate) fn stream(&self) -> &InputStream {
        &self.stream
    }

    pub(crate) fn read_to_end(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            match self.stream.blocking_read(READ_BYTES) {
                // Most bodies are one chunk: keep it as it came.
                Ok(chunk) if bytes.is_empty() => bytes = chunk,
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                Err(StreamError::Closed) => return Ok(bytes),
                Err(StreamError::LastOperationFailed(cause)) => {
                    let words = cause.to_debug_string();
                    return Err(broken_body(types::http_error_code(&cause), &words));
                }
            }
        }
    }
}

/// The error of a body that ended before it was whole.
pub(crate) fn broken_body(code: Option<ErrorCode>, words: &str) -> Error {
    match code {
        Some(ErrorCode::HttpRequestBodySize(limit)) => Error::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            match limit {
                Some(limit) => format!("the request's body is larger than the limit of {limit} bytes"),
                None => "the request's body is too large".to_owned(),
            },
        ),
        Some(ErrorCode::ConnectionReadTimeout | ErrorCode::ConnectionTimeout) => {
            Error::new(StatusCode::REQUEST_TIMEOUT, "the request's body came too slowly")
        }
        _ => Error::bad_request(format!("the request's body ended early: {words}")),
    }
}

/// Write all bytes, as many at a time as the host has room for. An error means that the caller is gone.
pub(crate) fn write_all(stream: &OutputStream, mut bytes: &[u8]) -> std::result::Result<(), StreamError> {
    while !bytes.is_empty() {
        let room = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
        if room == 0 {
            stream.subscribe().block();
            continue;
        }
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        stream.write(now)?;
        bytes = later;
    }
    stream.flush()
}

/// Write to a response's body through its stream, then end the body. What `write` says decides: a body
/// that is dropped instead of ended reaches the caller as cut off.
pub(crate) fn send<E>(
    body: OutgoingBody,
    write: impl FnOnce(&OutputStream) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let Ok(stream) = body.write() else { return Ok(()) };
    let written = write(&stream);
    drop(stream);
    if written.is_ok() {
        // A failure here is a caller who left; there is nobody to tell.
        let _ = OutgoingBody::finish(body, None);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_off_body_says_why() {
        let large = broken_body(Some(ErrorCode::HttpRequestBodySize(Some(10))), "");
        assert_eq!(
            (large.status().as_u16(), large.message()),
            (413, "the request's body is larger than the limit of 10 bytes")
        );
        assert_eq!(broken_body(Some(ErrorCode::ConnectionReadTimeout), "").status().as_u16(), 408);
        assert_eq!(broken_body(None, "connection reset").status().as_u16(), 400);
    }
}
