//! HTTP/1.1 as the load generator needs it: requests made once and sent as they are, responses framed by
//! `content-length` or chunks. Written by hand so that the generator takes little of the cores it shares
//! with the server it measures.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No response of these scenarios is larger; one that is larger is a fault of the server.
const LARGEST_RESPONSE: usize = 16 << 20;

/// A whole request, ready to write.
pub fn request(method: &str, path: &str, content_type: &str, body: &[u8]) -> Bytes {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: bench\r\n");
    if method != "GET" {
        text.push_str(&format!("content-type: {content_type}\r\ncontent-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes.into()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

/// One keep-alive connection.
pub struct Connection<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::with_capacity(16 << 10) }
    }

    /// Send `request` and wait for all of the answer. After an error the connection is of no more use.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Response> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if let Some(response) = parse(&self.buffer)? {
                return Ok(response);
            }
            ensure!(self.buffer.len() < LARGEST_RESPONSE, "response of more than {LARGEST_RESPONSE} bytes");
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "connection closed after {} bytes of a response", self.buffer.len());
        }
    }
}

/// One exchange on a connection of its own.
pub async fn fetch(address: SocketAddr, request: &[u8]) -> Result<Response> {
    Connection::open(address).await?.exchange(request).await
}

enum Framing {
    Length(usize),
    Chunked,
}

/// The response in `buffer`, or `None` while it is incomplete.
fn parse(buffer: &[u8]) -> Result<Option<Response>> {
    let Some(end) = position(buffer, b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = buffer.split_at(end + 4);
    let head = std::str::from_utf8(head).context("response head is not text")?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("no status in {status_line:?}"))?;
    // These have no body, and say nothing about it.
    let framing = if matches!(status, 204 | 304) { Framing::Length(0) } else { framing(lines)? };
    let body = match framing {
        Framing::Length(length) => body.get(..length).map(<[u8]>::to_vec),
        Framing::Chunked => join_chunks(body)?,
    };
    Ok(body.map(|body| Response { status, body }))
}

fn framing<'a>(headers: impl Iterator<Item = &'a str>) -> Result<Framing> {
    let mut length = None;
    for (name, value) in headers.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.parse().with_context(|| format!("content-length is {value:?}"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            ensure!(value.eq_ignore_ascii_case("chunked"), "transfer-encoding is {value:?}");
            return Ok(Framing::Chunked);
        }
    }
    length.map(Framing::Length).context("response has neither content-length nor chunks")
}

/// The chunks up to the empty one, or `None` while that has not arrived.
fn join_chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let Some(end) = position(rest, b"\r\n") else { return Ok(None) };
        let (size, after) = rest.split_at(end);
        let size = std::str::from_utf8(size).unwrap_or("?").split(';').next().unwrap_or_default();
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { bail!("chunk size is {size:?}") };
        let after = after.get(2..).unwrap_or_default();
        // Chunk, then its line end; no server here sends trailers after the empty chunk.
        let (Some(chunk), Some(next)) = (after.get(..size), after.get(size.saturating_add(2)..)) else {
            return Ok(None);
        };
        if size == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(chunk);
        rest = next;
    }
}

fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(text: &str) -> Option<String> {
        parse(text.as_bytes()).unwrap().map(|response| String::from_utf8(response.body).unwrap())
    }

    #[test]
    fn a_response_with_a_length() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(parse(text.as_bytes()).unwrap(), Some(Response { status: 200, body: b"hello".to_vec() }));
    }

    #[test]
    fn every_prefix_is_incomplete() {
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
        ] {
            for end in 0..text.len() {
                assert_eq!(body_of(&text[..end]), None, "{:?}", &text[..end]);
            }
            assert_eq!(body_of(text).as_deref(), Some("hello"));
        }
    }

    #[test]
    fn a_status_without_a_body_needs_no_framing() {
        assert_eq!(body_of("HTTP/1.1 204 No Content\r\n\r\n").as_deref(), Some(""));
    }

    #[test]
    fn nonsense_is_an_error() {
        for text in [
            "HTTP/1.1\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nz\r\n",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn requests_with_a_body_state_its_length() {
        let text = request("POST", "/classify", "image/jpeg", b"abc");
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.starts_with("POST /classify HTTP/1.1\r\n"));
        assert!(text.contains("content-length: 3\r\n"));
        assert!(text.ends_with("\r\n\r\nabc"));
    }
}
