//! The little of HTTP this service needs, on `wasi:http` handles: read a request's body, send a response.

use crate::bindings::wasi::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use crate::bindings::wasi::io::streams::StreamError;

/// What `blocking-write-and-flush` takes at most; it traps on more.
const WRITE_SIZE: usize = 4096;
const READ_SIZE: u64 = 4096;

pub struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: String,
}

impl Response {
    /// One line of text, or several: the line break at the end is added where it lacks.
    pub fn text(status: u16, text: &str) -> Self {
        let line_break = if text.ends_with('\n') { "" } else { "\n" };
        Self { status, headers: Vec::new(), body: format!("{text}{line_break}") }
            .with("content-type", "text/plain; charset=utf-8")
    }

    pub fn json(json: &str) -> Self {
        Self { status: 200, headers: Vec::new(), body: json.to_owned() }.with("content-type", "application/json")
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    /// Sends it. From here on nobody is left to tell of a failure: the client is gone.
    pub fn send(self, out: ResponseOutparam) {
        let length = self.body.len().to_string();
        let message = self.with("content-length", &length);
        let response = OutgoingResponse::new(Fields::from_list(&message.headers).unwrap_or_default());
        // Only a status outside 100 to 999 is refused, and none of ours is.
        let _ = response.set_status_code(message.status);
        let body = response.body();
        ResponseOutparam::set(out, Ok(response));
        let Ok(body) = body else { return };
        // The stream is a child of the body: it has to be gone before the body is finished.
        if let Ok(stream) = body.write() {
            for part in message.body.as_bytes().chunks(WRITE_SIZE) {
                if stream.blocking_write_and_flush(part).is_err() {
                    return;
                }
            }
        }
        let _ = OutgoingBody::finish(body, None);
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self::new()
    }
}

/// The first header of that name, if it is text.
pub fn header(request: &IncomingRequest, name: &str) -> Option<String> {
    request.headers().get(name).into_iter().next().and_then(|value| String::from_utf8(value).ok())
}

/// The whole body; more than `limit` bytes, or a body that ends in an error, is the answer to send.
pub fn read_body(request: &IncomingRequest, limit: usize) -> Result<Vec<u8>, Response> {
    let gone = || Response::text(400, "the body was taken already");
    let body = request.consume().map_err(|()| gone())?;
    let stream = body.stream().map_err(|()| gone())?;
    let mut received = Vec::new();
    loop {
        match stream.blocking_read(READ_SIZE) {
            Ok(part) => received.extend_from_slice(&part),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(Response::text(400, &format!("the body could not be read: {}", error.to_debug_string())));
            }
        }
        if received.len() > limit {
            return Err(Response::text(413, &format!("the body is longer than {limit} bytes")));
        }
    }
    drop(stream);
    IncomingBody::finish(body);
    Ok(received)
}
