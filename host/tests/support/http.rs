//! HTTP/1.1 over one socket at a time, with nothing hidden: a client library would retry, pool and forbid exactly what
//! these tests are about.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::PATIENCE;

/// Asks one address, with a new connection for each request.
#[derive(Clone, Copy, Debug)]
pub struct Client(pub SocketAddr);

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body ended as announced, rather than with the connection.
    pub complete: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {} {}", self.status, self.text()))
    }

    /// The sentence of `{"error": "…"}`.
    #[track_caller]
    pub fn error(&self) -> String {
        let json = self.json();
        json["error"].as_str().unwrap_or_else(|| panic!("no error: {json}")).to_owned()
    }

    /// The body, where the status is the expected one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.text());
        assert!(self.complete, "cut short after {} bytes", self.body.len());
        self
    }
}

impl Client {
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    /// From a host that may be killed meanwhile.
    pub fn try_get(&self, path: &str) -> io::Result<Answer> {
        let stream = TcpStream::connect(self.0)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        (&stream)
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.0).as_bytes())?;
        let answer = Exchange::over(stream).answer()?;
        if answer.complete { Ok(answer) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.request("POST", path, &[], body)
    }

    #[track_caller]
    pub fn post_as(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        self.request("POST", path, &[("content-type", content_type)], body)
    }

    #[track_caller]
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut exchange = self.send(method, path, headers, body);
        exchange.answer().unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Send a request and leave the answer for later.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Exchange {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.0);
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let exchange = self.connect();
        let _ = write!(head, "content-length: {}\r\n\r\n", body.len());
        // A server that has heard enough closes early; its answer says why.
        let _ = exchange.write(&[head.as_bytes(), body].concat());
        exchange
    }

    #[track_caller]
    pub fn connect(&self) -> Exchange {
        let stream = TcpStream::connect(self.0).unwrap_or_else(|error| panic!("cannot connect to {}: {error}", self.0));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Exchange(BufReader::new(stream))
    }

    /// Whether anybody listens here.
    pub fn is_listening(&self) -> bool {
        TcpStream::connect(self.0).is_ok()
    }
}

/// One connection.
pub struct Exchange<S = TcpStream>(BufReader<S>);

impl Exchange {
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_ref().write_all(bytes)
    }

    /// Another handle of the connection, for a thread that sends.
    pub fn another(&self) -> TcpStream {
        self.0.get_ref().try_clone().unwrap()
    }

    /// Nothing more will be sent.
    pub fn finish(&self) {
        let _ = self.0.get_ref().shutdown(Shutdown::Write);
    }
}

impl<S: Read> Exchange<S> {
    pub fn over(stream: S) -> Exchange<S> {
        Exchange(BufReader::new(stream))
    }

    pub fn stream(&self) -> &S {
        self.0.get_ref()
    }

    pub fn answer(&mut self) -> io::Result<Answer> {
        let (status, headers) = self.head()?;
        let mut body = Vec::new();
        let complete = self.body(&headers, |part| body.extend_from_slice(part))?;
        Ok(Answer { status, headers, body, complete })
    }

    /// Status, length of the body and whether it was complete: for bodies larger than a test should hold.
    pub fn measure(&mut self) -> io::Result<(u16, u64, bool)> {
        let (status, headers) = self.head()?;
        let mut length = 0;
        let complete = self.body(&headers, |part| length += part.len() as u64)?;
        Ok((status, length, complete))
    }

    /// The beginning of the answer alone; its body may be endless.
    pub fn status(&mut self) -> io::Result<u16> {
        self.head().map(|(status, _)| status)
    }

    fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| match first.is_empty() {
            true => broken("the connection was closed without an answer"),
            false => broken(&format!("no status line: {first:?}")),
        })?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok((status, headers));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken(&format!("no header: {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Without its line break; empty at the end of the connection too.
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Whether the body was complete.
    fn body(&mut self, headers: &[(String, String)], mut take: impl FnMut(&[u8])) -> io::Result<bool> {
        let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        if header("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            loop {
                let Ok(size) = u64::from_str_radix(&self.line()?, 16) else { return Ok(false) };
                let whole = self.part(size, &mut take)?;
                self.line()?;
                if size == 0 || !whole {
                    return Ok(whole);
                }
            }
        }
        match header("content-length").and_then(|length| length.parse().ok()) {
            Some(length) => self.part(length, &mut take),
            None => self.part(u64::MAX, &mut take).map(|_| true),
        }
    }

    /// Whether all `size` bytes came.
    fn part(&mut self, size: u64, take: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        let mut left = size;
        let mut buffer = [0; 64 << 10];
        while left > 0 {
            let room = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            match self.0.read(&mut buffer[..room]) {
                Ok(0) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
                Ok(read) => {
                    take(&buffer[..read]);
                    left -= read as u64;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
