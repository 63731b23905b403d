//! The Docker Engine API over its unix socket, asked without any client program: as fast as the host answers, and with
//! requests that no client would send.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::PATIENCE;
use super::archives::{self, Entry};
use super::daemon::TestDaemon;
use super::http::{Answer, Client, Exchange};

/// Asks one host, with a new connection for each request.
#[derive(Clone, Debug)]
pub struct Engine(PathBuf);

impl Engine {
    pub fn at(socket: &Path) -> Engine {
        Engine(socket.to_owned())
    }

    pub fn of(daemon: &TestDaemon) -> Engine {
        Engine(daemon.socket())
    }

    pub fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(&self.0)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Send a request and leave the answer for later.
    pub fn send(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> io::Result<Exchange<UnixStream>> {
        let mut stream = self.connect()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: api.moby.localhost\r\nconnection: close\r\n\
             content-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        // A server that has heard enough closes early; its answer says why.
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
        Ok(Exchange::over(stream))
    }

    /// An error where the host ends before it has answered.
    pub fn ask(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> io::Result<Answer> {
        let answer = self.send(method, path, content_type, body)?.answer()?;
        if !answer.complete {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut short"));
        }
        Ok(answer)
    }

    #[track_caller]
    pub fn raw(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.ask(method, path, "application/json", body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.raw("GET", path, b"")
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.raw("POST", path, body.to_string().as_bytes())
    }

    /// A verb, which has no body.
    #[track_caller]
    pub fn verb(&self, path: &str) -> Answer {
        self.raw("POST", path, b"")
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.raw("DELETE", path, b"")
    }

    /// `docker build`: its answer, whose last line tells how it went.
    pub fn try_build(&self, query: &str, context: &[u8]) -> io::Result<Answer> {
        self.ask("POST", &format!("/build?{query}"), "application/x-tar", context)
    }

    /// `docker build -t TAG` of these files; the image's id.
    #[track_caller]
    pub fn build(&self, tag: &str, files: &[Entry<'_>]) -> String {
        let answer = self.try_build(&format!("t={tag}"), &archives::tar(files)).unwrap().expect(200);
        built(&answer).unwrap_or_else(|| panic!("{tag} is not built: {}", answer.text()))
    }

    /// The id of a container made of this request.
    #[track_caller]
    pub fn create(&self, name: &str, spec: &Value) -> String {
        let answer = self.post(&format!("/containers/create?name={name}"), spec).expect(201);
        answer.json()["Id"].as_str().unwrap().to_owned()
    }

    /// `docker run -d`.
    #[track_caller]
    pub fn run(&self, name: &str, spec: &Value) -> String {
        let id = self.create(name, spec);
        self.verb(&format!("/containers/{id}/start")).expect(204);
        id
    }

    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        self.get(&format!("/containers/{container}/json")).expect(200).json()
    }

    /// The address at which a container's port 5000 is published.
    #[track_caller]
    pub fn published(&self, container: &str) -> Client {
        let inspected = self.inspect(container);
        let port = inspected["NetworkSettings"]["Ports"]["5000/tcp"][0]["HostPort"].as_str();
        let port = port.unwrap_or_else(|| panic!("no published port: {}", inspected["NetworkSettings"]));
        Client(SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap())))
    }

    /// What `docker logs` shows of both streams, line by line. `tail` is a number or `all`.
    #[track_caller]
    pub fn logs(&self, container: &str, tail: &str) -> Vec<String> {
        self.try_logs(container, tail).unwrap_or_else(|error| panic!("logs of {container}: {error}"))
    }

    pub fn try_logs(&self, container: &str, tail: &str) -> io::Result<Vec<String>> {
        let path = format!("/containers/{container}/logs?stdout=1&stderr=1&tail={tail}");
        Ok(unframe(&self.ask("GET", &path, "", b"")?.expect(200).body))
    }
}

/// A container of an image that publishes port 5000 at any port of loopback.
pub fn service(image: &str) -> Value {
    json!({
        "Image": image, "ExposedPorts": {"5000/tcp": {}},
        "HostConfig": {"PortBindings": {"5000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]}},
    })
}

/// The id that a build's or load's answer ends with, unless it ends with an error.
pub fn built(answer: &Answer) -> Option<String> {
    let lines = progress(answer);
    let id = lines.iter().find_map(|line| line["aux"]["ID"].as_str());
    (failure(answer).is_none()).then(|| id.map(str::to_owned)).flatten()
}

/// The error of an answer: of its status, or of its last line.
pub fn failure(answer: &Answer) -> Option<String> {
    let last = progress(answer).pop()?;
    let message = if answer.status >= 400 { &last["message"] } else { &last["error"] };
    message.as_str().map(str::to_owned)
}

fn progress(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line:?}"))).collect()
}

/// Frames of a multiplexed stream hold a line each.
fn unframe(mut frames: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some((head, rest)) = frames.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (line, rest) = rest.split_at(length);
        lines.push(String::from_utf8_lossy(line).trim_end_matches('\n').to_owned());
        frames = rest;
    }
    assert!(frames.is_empty(), "a frame is cut");
    lines
}

/// Nothing more will be sent; what the other side says is still read.
pub fn finish(stream: &UnixStream) {
    let _ = stream.shutdown(Shutdown::Write);
}
