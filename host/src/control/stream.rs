//! Bodies that come in pieces: frames of a container's output, JSON lines. Each piece leaves as soon as it is there.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::unfold;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::container::runtime::Stream;

pub const FRAMED: HeaderValue = HeaderValue::from_static("application/vnd.docker.multiplexed-stream");
pub const RAW: HeaderValue = HeaderValue::from_static("application/vnd.docker.raw-stream");
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How output travels: framed, so that a client tells the streams apart, or bytes as they are for a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Framed,
    Raw,
}

impl Wire {
    pub fn of(tty: bool) -> Wire {
        if tty { Wire::Raw } else { Wire::Framed }
    }

    /// Framed output had no type of its own before version 1.42.
    pub fn content_type(self, minor: u16) -> HeaderValue {
        if self == Wire::Framed && minor >= 42 { FRAMED } else { RAW }
    }

    pub fn pack(self, stream: Stream, payload: Bytes) -> Bytes {
        match self {
            Wire::Framed => frame(stream, &payload),
            Wire::Raw => payload,
        }
    }
}

/// Stream, three zeros, length (big endian), payload.
fn frame(stream: Stream, payload: &[u8]) -> Bytes {
    let number = match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    let mut frame = BytesMut::with_capacity(8 + payload.len());
    frame.put_slice(&[number, 0, 0, 0]);
    // Payloads are lines and chunks: far below 4 GiB.
    frame.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    frame.put_slice(payload);
    frame.freeze()
}

/// One object on a line of its own, as clients split them.
pub fn line(value: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.extend_from_slice(b"\r\n");
    line.into()
}

/// A body that ends when the senders are gone. Its headers leave before its first piece.
pub fn body(pieces: mpsc::Receiver<Bytes>) -> Body {
    let pieces = unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((Ok::<_, Infallible>(piece), pieces))
    });
    Body::from_stream(pieces)
}

pub fn response(content_type: HeaderValue, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_carry_stream_and_length() {
        assert_eq!(Wire::Framed.pack(Stream::Stdout, "hi\n".into()), &b"\x01\0\0\0\0\0\0\x03hi\n"[..]);
        assert_eq!(Wire::Framed.pack(Stream::Stderr, Bytes::new()), &b"\x02\0\0\0\0\0\0\0"[..]);
        let long = Wire::Framed.pack(Stream::Stdout, vec![b'x'; 0x01_02_03].into());
        assert_eq!(&long[..8], b"\x01\0\0\0\0\x01\x02\x03");
        assert_eq!(Wire::Raw.pack(Stream::Stderr, "hi".into()), "hi");
    }

    #[test]
    fn old_clients_know_one_type_only() {
        assert_eq!(Wire::Framed.content_type(50), FRAMED);
        assert_eq!(Wire::Framed.content_type(41), RAW);
        assert_eq!(Wire::Raw.content_type(50), RAW);
    }

    #[test]
    fn lines_end_as_clients_split_them() {
        assert_eq!(line(&serde_json::json!({"a": 1})), "{\"a\":1}\r\n");
    }
}
