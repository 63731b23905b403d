//! What the daemon sends bit by bit: frames of stdout and stderr, and JSON objects one after the other.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

/// Length of a frame's header: type, three zeros, length.
const HEADER: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Stdout,
    Stderr,
}

/// Takes a multiplexed stream apart, however it was cut; a raw one (of a terminal) is all stdout.
#[derive(Debug)]
pub struct Frames {
    raw: bool,
    pending: BytesMut,
}

impl Frames {
    pub fn new(raw: bool) -> Frames {
        Frames { raw, pending: BytesMut::new() }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole frame of what came so far.
    pub fn take(&mut self) -> Result<Option<(Channel, Bytes)>> {
        if self.raw {
            let all = self.pending.split().freeze();
            return Ok((!all.is_empty()).then_some((Channel::Stdout, all)));
        }
        let [kind, _, _, _, a, b, c, d, ..] = self.pending[..] else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if self.pending.len() < HEADER + length {
            return Ok(None);
        }
        self.pending.advance(HEADER);
        let text = self.pending.split_to(length).freeze();
        match kind {
            0 | 1 => Ok(Some((Channel::Stdout, text))),
            2 => Ok(Some((Channel::Stderr, text))),
            3 => Err(Error::new(
                ErrorKind::Failed,
                format!("error from daemon in stream: {}", String::from_utf8_lossy(&text)),
            )),
            other => Err(Error::new(ErrorKind::Failed, format!("unrecognized input header: {other}"))),
        }
    }
}

/// JSON objects of a response, one a line or without lines at all.
pub struct Objects {
    body: Incoming,
    pending: BytesMut,
    ended: bool,
}

impl Objects {
    pub fn new(body: Incoming) -> Objects {
        Objects { body, pending: BytesMut::new(), ended: false }
    }

    pub async fn next(&mut self) -> Result<Option<Value>> {
        self.next_as().await
    }

    /// The same as another type, e.g. [`super::json::Json`].
    pub async fn next_as<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        loop {
            if let Some(value) = take(&mut self.pending, self.ended)? {
                return Ok(Some(value));
            }
            if self.ended {
                return Ok(None);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.pending.extend_from_slice(&bytes);
                    }
                }
                Some(Err(error)) => return Err(Error::new(ErrorKind::Io, "the daemon broke off").because(error)),
                None => self.ended = true,
            }
        }
    }
}

fn take<T: DeserializeOwned>(pending: &mut BytesMut, ended: bool) -> Result<Option<T>> {
    let mut values = serde_json::Deserializer::from_slice(pending).into_iter::<T>();
    match values.next() {
        None => Ok(None),
        Some(Ok(value)) => {
            let used = values.byte_offset();
            pending.advance(used);
            Ok(Some(value))
        }
        Some(Err(error)) if error.is_eof() && !ended => Ok(None),
        Some(Err(error)) => Err(Error::new(ErrorKind::Failed, "the daemon's answer is not JSON").because(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let mut wire = vec![1, 0, 0, 0, 0, 0, 0, 2, b'h', b'i'];
        wire.extend([2, 0, 0, 0, 0, 0, 0, 1, b'!']);
        for size in 1..wire.len() {
            let mut frames = Frames::new(false);
            let mut seen = Vec::new();
            for part in wire.chunks(size) {
                frames.push(part);
                while let Some(frame) = frames.take().unwrap() {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, [(Channel::Stdout, Bytes::from("hi")), (Channel::Stderr, Bytes::from("!"))]);
        }
    }

    #[test]
    fn a_system_error_is_one() {
        let mut frames = Frames::new(false);
        frames.push(&[3, 0, 0, 0, 0, 0, 0, 1, b'x']);
        assert!(frames.take().unwrap_err().to_string().ends_with("in stream: x"));
    }

    #[test]
    fn objects_one_after_the_other() {
        let mut pending = BytesMut::from(&b"{\"a\":1}\r\n{\"b\":2}{\"c\""[..]);
        assert_eq!(take::<Value>(&mut pending, false).unwrap().unwrap()["a"], 1);
        assert_eq!(take::<Value>(&mut pending, false).unwrap().unwrap()["b"], 2);
        assert!(take::<Value>(&mut pending, false).unwrap().is_none());
        assert!(take::<Value>(&mut pending, true).is_err());
    }
}
