//! [`Request`]: what a handler's extractors read from.

use std::cell::OnceCell;

use http::Method;

use crate::body::{Body, BodyStream};
use crate::headers::Headers;
use crate::{Error, Result};

/// One request. A handler rarely sees it: its arguments are made from it, see
/// [`FromRequest`](crate::FromRequest). A test makes one and gives it to
/// [`Router::call`](crate::Router::call):
///
/// ```
/// use wharf_guest::{Method, Request, Router};
///
/// let app = Router::new().post("/echo", |body: String| body);
/// let response = app.call(Request::new(Method::POST, "/echo").with_body("hello"));
/// assert_eq!(response.body(), Some(b"hello".as_slice()));
/// ```
#[derive(Debug)]
pub struct Request {
    method: Method,
    path: String,
    query: String,
    /// Set by the router: the pattern's parameters, decoded, in the pattern's order.
    parameters: Vec<(String, String)>,
    headers: OnceCell<Headers>,
    body: Body,
}

impl Request {
    /// A request without header fields and body. `path_with_query` is as on the wire, still
    /// percent-encoded: `/faces?draw=1`.
    pub fn new(method: Method, path_with_query: &str) -> Self {
        let mut request = Request::with_source(method, path_with_query, Body::Bytes(Vec::new()));
        request.headers = OnceCell::from(Headers::default());
        request
    }

    /// A request whose header fields and body are the host's and read when first asked for.
    pub(crate) fn with_source(method: Method, path_with_query: &str, body: Body) -> Self {
        let (path, query) = path_with_query.split_once('?').unwrap_or((path_with_query, ""));
        let path = if path.is_empty() { "/" } else { path };
        Request {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            parameters: Vec::new(),
            headers: OnceCell::new(),
            body,
        }
    }

    /// Add a header field.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.get_or_init(|| self.body.headers());
        if let Some(headers) = self.headers.get_mut() {
            headers.push(name, value);
        }
        self
    }

    /// Replace the body.
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.headers.get_or_init(|| self.body.headers());
        self.body = Body::Bytes(body.into());
        self
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path, still percent-encoded.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What follows the `?`, still encoded; empty if there was none.
    pub fn query(&self) -> &str {
        &self.query
    }

    /// The path parameters: name and decoded value, in the order of the route's pattern.
    pub fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    pub(crate) fn set_parameters(&mut self, parameters: Vec<(String, String)>) {
        self.parameters = parameters;
    }

    /// All header fields.
    pub fn headers(&self) -> &Headers {
        self.headers.get_or_init(|| self.body.headers())
    }

    /// The first header field of that name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)
    }

    /// Take the whole body into the guest's memory. Works once: a second extractor that wants the body
    /// gets a 500 that says so. A body the host cut off is a 413 (too large), 408 (too slow) or 400.
    pub fn take_body(&mut self) -> Result<Vec<u8>> {
        match self.open_body()? {
            BodyStream::Bytes(bytes) => Ok(bytes),
            BodyStream::Host(stream) => stream.read_to_end(),
        }
    }

    /// Take the body without reading it.
    pub(crate) fn open_body(&mut self) -> Result<BodyStream> {
        // The header fields belong to what `open` consumes.
        self.headers();
        std::mem::replace(&mut self.body, Body::Taken).open()?.ok_or_else(|| {
            Error::internal("two extractors of one handler want the request's body; it can be read once")
        })
    }
}
