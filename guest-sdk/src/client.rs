//! Outgoing HTTP: how a service calls another one.
//!
//! Containers of one network reach each other by name: `http://maskdetection:5000/predict` is the container
//! `maskdetection` and the port it listens on inside. Everything else is refused unless the network allows it. This
//! is how `examples/facedetection` has `examples/maskdetection` look at a face:
//!
//! ```rust
#![doc = include_str!("../../examples/facedetection/src/masks.rs")]
//! ```
//!
//! A status is not an error here: [`Response::error_for_status`] makes it one. What goes wrong is a
//! [`ClientError`](crate::ClientError); passed on with `?` it is a 504 where time ran out, a 500 where the call itself
//! makes no sense, else a 502.

mod error;
mod exchange;
mod target;

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Headers;

use exchange::Incoming;
use target::Target;

pub use error::{ClientError, ClientErrorKind};

type Result<T> = std::result::Result<T, ClientError>;

/// Call `url` with GET.
pub fn get(url: &str) -> Call {
    request(Method::GET, url)
}

/// Call `url` with POST.
pub fn post(url: &str) -> Call {
    request(Method::POST, url)
}

/// Call `url`, e.g. `http://maskdetection:5000/predict`, with any method. Nothing happens before
/// [`send`](Call::send).
pub fn request(method: Method, url: &str) -> Call {
    Call { method, url: url.to_owned(), headers: Vec::new(), body: Ok(Vec::new()), timeout: None }
}

/// A call that is not sent yet.
#[derive(Debug)]
#[must_use = "nothing is called before `send`"]
pub struct Call {
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    /// An error waits for `send`, so that calls read as one chain.
    body: Result<Vec<u8>>,
    timeout: Option<Duration>,
}

impl Call {
    /// Add a header field. `host` and `content-length` are set for you.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Set the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Ok(body.into());
        self
    }

    /// Set the body, and its content type.
    pub fn json(mut self, value: &impl Serialize) -> Self {
        let unwritable = |error| ClientError::new(ClientErrorKind::Invalid, format!("the body is no JSON: {error}"));
        self.body = serde_json::to_vec(value).map_err(unwritable);
        self.header("content-type", "application/json")
    }

    /// The longest the whole call may take, the answer's body included. Without it the caller's own deadline is the
    /// limit, and nobody is left to hear of it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Call, and wait for the answer's head.
    pub fn send(self) -> Result<Response> {
        let target = Target::parse(&self.url)?;
        let incoming = exchange::send(&self.method, &target, &self.headers, &self.body?, self.timeout)
            .map_err(|error| error.calling(&self.method, &self.url))?;
        Ok(Response {
            status: incoming.status()?,
            headers: incoming.headers(),
            called: format!("{} {}", self.method, self.url),
            body: Body::Host(incoming),
        })
    }
}

/// An answer. Its body is still on its way.
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    headers: Headers,
    /// For messages.
    called: String,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Host(Incoming),
    #[cfg(test)]
    Bytes(Vec<u8>),
}

impl Response {
    /// The status, whatever it is.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// All header fields.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The first header field of that name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// An error if the status is 400 or more; the body's beginning is in its message.
    pub fn error_for_status(self) -> Result<Self> {
        /// Enough for a sentence.
        const QUOTED: usize = 200;
        if !self.status.is_client_error() && !self.status.is_server_error() {
            return Ok(self);
        }
        let (status, called) = (self.status, self.called.clone());
        let body = self.bytes().unwrap_or_default();
        let words = String::from_utf8_lossy(body.get(..QUOTED).unwrap_or(&body)).into_owned();
        let message = format!("{called}: it answered {status}: {}", words.trim());
        Err(ClientError::new(ClientErrorKind::Status(status), message.trim_end_matches(": ").to_owned()))
    }

    /// The whole body; at most 64 MiB.
    pub fn bytes(self) -> Result<Vec<u8>> {
        match self.body {
            Body::Host(incoming) => incoming.read_to_end().map_err(|error| error.about(&self.called)),
            #[cfg(test)]
            Body::Bytes(bytes) => Ok(bytes),
        }
    }

    /// The body as text; what is no UTF-8 is replaced.
    pub fn text(self) -> Result<String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The body, which must be JSON of that shape.
    pub fn json<T: DeserializeOwned>(self) -> Result<T> {
        let called = self.called.clone();
        let body = self.bytes()?;
        serde_json::from_slice(&body).map_err(|error| {
            ClientError::new(ClientErrorKind::Broken, format!("{called}: its answer is not the JSON expected: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> Response {
        Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: Headers::default(),
            called: "POST http://masks:5000/".to_owned(),
            body: Body::Bytes(body.into()),
        }
    }

    #[test]
    fn a_call_that_makes_no_sense_is_never_sent() {
        for url in ["masks:5000/predict", "ftp://masks/", "http://", "/predict"] {
            assert_eq!(post(url).send().unwrap_err().kind, ClientErrorKind::Invalid, "{url}");
        }
        let unwritable = std::collections::HashMap::from([((1, 2), 3)]);
        let error = post("http://masks/").json(&unwritable).send().unwrap_err();
        assert_eq!(error.kind, ClientErrorKind::Invalid);
        assert!(error.message.starts_with("the body is no JSON"), "{error}");
    }

    #[test]
    fn a_status_is_an_error_only_where_asked() {
        assert_eq!(answered(404, "").status(), 404);
        assert!(answered(204, "").error_for_status().is_ok());
        assert!(answered(302, "").error_for_status().is_ok());
        let error = answered(503, "{\"error\":\"busy\"}\n").error_for_status().unwrap_err();
        assert_eq!(error.kind, ClientErrorKind::Status(StatusCode::SERVICE_UNAVAILABLE));
        let words = "POST http://masks:5000/: it answered 503 Service Unavailable";
        assert_eq!(error.message, format!("{words}: {{\"error\":\"busy\"}}"));
        assert_eq!(answered(503, "").error_for_status().unwrap_err().message, words);
    }

    #[test]
    fn an_answer_of_another_shape_says_where() {
        assert_eq!(answered(200, "[1,2]").json::<Vec<u32>>(), Ok(vec![1, 2]));
        let error = answered(200, "{}").json::<Vec<u32>>().unwrap_err();
        assert_eq!(error.kind, ClientErrorKind::Broken);
        assert!(error.message.starts_with("POST http://masks:5000/: its answer is not the JSON expected: "), "{error}");
        assert_eq!(answered(200, "hello").text().as_deref(), Ok("hello"));
    }
}
