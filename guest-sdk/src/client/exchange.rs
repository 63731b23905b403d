//! One call on the wire: the request out, the answer in, and a clock that ends both.

use std::time::Duration;

use http::{Method, StatusCode};

use super::error::TOO_SLOW;
use super::target::Target;
use super::{ClientError, ClientErrorKind, Result};
use crate::Headers;
use crate::bindings::wasi::clocks::monotonic_clock;
use crate::bindings::wasi::http::outgoing_handler;
use crate::bindings::wasi::http::types::{
    self, Fields, IncomingBody, IncomingResponse, OutgoingBody, OutgoingRequest, Scheme,
};
use crate::bindings::wasi::io::poll::{self, Pollable};
use crate::bindings::wasi::io::streams::{InputStream, OutputStream, StreamError};

/// Bytes asked of the host at a time.
const READ_BYTES: u64 = 256 * 1024;
/// Of an answer's body: one that never ends must not take the whole memory.
const MOST_BYTES: usize = 64 << 20;

/// An answer whose head is here.
#[derive(Debug)]
pub(super) struct Incoming {
    response: IncomingResponse,
    deadline: Deadline,
}

pub(super) fn send(
    method: &Method,
    target: &Target,
    headers: &[(String, String)],
    body: &[u8],
    timeout: Option<Duration>,
) -> Result<Incoming> {
    let deadline = Deadline::after(timeout);
    let request = request(method, target, headers, body)?;
    // The request's only body: it is there.
    let outgoing = request.body().map_err(|()| refused("a body"))?;
    let answer = outgoing_handler::handle(request, None).map_err(|code| ClientError::from_host(&code))?;
    // A server may answer, or be found missing, before it has read everything: what it says counts, not how much of
    // the body it took.
    let unsent = write(outgoing, body, &deadline);
    if let Err(error @ ClientError { kind: ClientErrorKind::TimedOut, .. }) = unsent {
        return Err(error);
    }
    deadline.wait(&answer.subscribe())?;
    match answer.get() {
        Some(Ok(Ok(response))) => Ok(Incoming { response, deadline }),
        Some(Ok(Err(code))) => Err(ClientError::from_host(&code)),
        // Ready and taken once: the host breaks its promise.
        None | Some(Err(())) => Err(ClientError::new(ClientErrorKind::Broken, "the host gave no answer")),
    }
}

fn request(method: &Method, target: &Target, headers: &[(String, String)], body: &[u8]) -> Result<OutgoingRequest> {
    let length = body.len().to_string();
    let mut entries: Vec<(&str, &[u8])> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    if !body.is_empty() || *method == Method::POST || *method == Method::PUT {
        entries.push(("content-length", length.as_bytes()));
    }
    let fields = Fields::from_list(&entries)
        .map_err(|error| refused(&format!("these header fields ({error}): {}", names(headers))))?;
    let request = OutgoingRequest::new(fields);
    let scheme = if target.is_secure { Scheme::Https } else { Scheme::Http };
    request.set_method(&wire_method(method)).map_err(|()| refused("this method"))?;
    request.set_scheme(Some(&scheme)).map_err(|()| refused("this scheme"))?;
    request.set_authority(Some(&target.authority)).map_err(|()| refused("this host"))?;
    request.set_path_with_query(Some(&target.path_with_query)).map_err(|()| refused("this path"))?;
    Ok(request)
}

fn refused(what: &str) -> ClientError {
    ClientError::new(ClientErrorKind::Invalid, format!("a request may not have {what}"))
}

/// Without the values, which may be secrets.
fn names(headers: &[(String, String)]) -> String {
    headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

fn wire_method(method: &Method) -> types::Method {
    match method.as_str() {
        "GET" => types::Method::Get,
        "HEAD" => types::Method::Head,
        "POST" => types::Method::Post,
        "PUT" => types::Method::Put,
        "DELETE" => types::Method::Delete,
        "CONNECT" => types::Method::Connect,
        "OPTIONS" => types::Method::Options,
        "TRACE" => types::Method::Trace,
        "PATCH" => types::Method::Patch,
        other => types::Method::Other(other.to_owned()),
    }
}

fn write(outgoing: OutgoingBody, body: &[u8], deadline: &Deadline) -> Result<()> {
    let gone = |_| ClientError::new(ClientErrorKind::Unreachable, "it did not take the whole request");
    let stream = outgoing.write().map_err(|()| refused("a body"))?;
    let mut left = body;
    while !left.is_empty() {
        let room = usize::try_from(stream.check_write().map_err(gone)?).unwrap_or(usize::MAX);
        if room == 0 {
            deadline.wait(&stream.subscribe())?;
            continue;
        }
        let (now, later) = left.split_at(room.min(left.len()));
        stream.write(now).map_err(gone)?;
        left = later;
    }
    finish(outgoing, stream)
}

fn finish(outgoing: OutgoingBody, stream: OutputStream) -> Result<()> {
    // A child goes before its parent.
    drop(stream);
    OutgoingBody::finish(outgoing, None).map_err(|code| ClientError::from_host(&code))
}

impl Incoming {
    pub(super) fn status(&self) -> Result<StatusCode> {
        let status = self.response.status();
        let odd =
            |_| ClientError::new(ClientErrorKind::Broken, format!("it answered with {status}, which is no status"));
        StatusCode::from_u16(status).map_err(odd)
    }

    pub(super) fn headers(&self) -> Headers {
        Headers::new(self.response.headers().entries())
    }

    pub(super) fn read_to_end(self) -> Result<Vec<u8>> {
        let gone = |()| ClientError::new(ClientErrorKind::Broken, "the host has already given the answer's body away");
        let body = self.response.consume().map_err(gone)?;
        let stream = body.stream().map_err(gone)?;
        let bytes = read(&stream, &self.deadline);
        drop(stream);
        drop::<IncomingBody>(body);
        bytes
    }
}

fn read(stream: &InputStream, deadline: &Deadline) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match stream.read(READ_BYTES) {
            Ok(chunk) if chunk.is_empty() => deadline.wait(&stream.subscribe())?,
            // Most bodies are one chunk: keep it as it came.
            Ok(chunk) if bytes.is_empty() => bytes = chunk,
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(cause)) => {
                return Err(match types::http_error_code(&cause) {
                    Some(code) => ClientError::from_host(&code),
                    None => {
                        let words = format!("its answer ended early: {}", cause.to_debug_string());
                        ClientError::new(ClientErrorKind::Broken, words)
                    }
                });
            }
        }
        if bytes.len() > MOST_BYTES {
            let words = format!("its answer is larger than {} MiB", MOST_BYTES >> 20);
            return Err(ClientError::new(ClientErrorKind::Broken, words));
        }
    }
}

/// Ready when the time is over; `None` leaves that to the host.
#[derive(Debug)]
struct Deadline(Option<Pollable>);

impl Deadline {
    fn after(timeout: Option<Duration>) -> Self {
        let nanoseconds = |timeout: Duration| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        Deadline(timeout.map(|timeout| monotonic_clock::subscribe_duration(nanoseconds(timeout))))
    }

    fn wait(&self, ready: &Pollable) -> Result<()> {
        let Some(deadline) = &self.0 else {
            ready.block();
            return Ok(());
        };
        match poll::poll(&[ready, deadline]).contains(&0) {
            true => Ok(()),
            false => Err(ClientError::new(ClientErrorKind::TimedOut, TOO_SLOW)),
        }
    }
}
