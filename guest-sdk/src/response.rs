//! [`Response`], and what can become one.

use std::borrow::Cow;

use http::StatusCode;
use serde::Serialize;

use crate::picture::Encoded;
use crate::{Error, Image, Json};

/// An answer: status, header fields, body.
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    headers: Vec<(String, String)>,
    body: Content,
    /// For the log: why this is a 5xx.
    failure: Option<String>,
}

/// A response's body.
#[derive(Debug)]
pub(crate) enum Content {
    Bytes(Cow<'static, [u8]>),
    /// Encoded by the host on its way out.
    Picture(Encoded),
}

impl Response {
    /// An answer with a status and nothing else.
    pub fn new(status: StatusCode) -> Self {
        Response { status, headers: Vec::new(), body: Content::Bytes(Cow::Borrowed(&[])), failure: None }
    }

    fn with_content(content_type: &str, body: Content) -> Self {
        Response { body, ..Response::new(StatusCode::OK) }.with_header("content-type", content_type)
    }

    /// Change the status.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Set a header field, in place of one of the same name.
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Set the body; the content type stays.
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Content::Bytes(Cow::Owned(body.into()));
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The value of a header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body's bytes; `None` for a picture, which the host encodes when it sends it.
    pub fn body(&self) -> Option<&[u8]> {
        match &self.body {
            Content::Bytes(bytes) => Some(bytes),
            Content::Picture(_) => None,
        }
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(crate) fn into_parts(self) -> (StatusCode, Vec<(String, String)>, Content) {
        (self.status, self.headers, self.body)
    }
}

/// What a handler may return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made a response",
    note = "text, bytes, `Json`, `Html`, `Image`, `(StatusCode, T)` and `Result<T, Error>` of these can"
)]
pub trait IntoResponse {
    /// Make the response.
    fn into_response(self) -> Response;
}

/// An HTML page.
#[derive(Clone, Debug)]
pub struct Html<T>(pub T);

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Response {
        Response::new(StatusCode::OK)
    }
}

impl IntoResponse for StatusCode {
    fn into_response(self) -> Response {
        Response::new(self)
    }
}

fn text(content_type: &str, text: Cow<'static, str>) -> Response {
    let bytes = match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    Response::with_content(content_type, Content::Bytes(bytes))
}

impl IntoResponse for &'static str {
    fn into_response(self) -> Response {
        text("text/plain; charset=utf-8", Cow::Borrowed(self))
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Response {
        text("text/plain; charset=utf-8", Cow::Owned(self))
    }
}

impl<T: Into<Cow<'static, str>>> IntoResponse for Html<T> {
    fn into_response(self) -> Response {
        text("text/html; charset=utf-8", self.0.into())
    }
}

impl IntoResponse for Vec<u8> {
    fn into_response(self) -> Response {
        Response::with_content("application/octet-stream", Content::Bytes(Cow::Owned(self)))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => Response::with_content("application/json", Content::Bytes(Cow::Owned(bytes))),
            Err(error) => Error::internal(format!("the answer cannot be written as JSON: {error}")).into_response(),
        }
    }
}

/// As JPEG; see [`Image::encoded`] for other formats.
impl IntoResponse for Image {
    fn into_response(self) -> Response {
        self.encoded(crate::Format::Jpeg).into_response()
    }
}

impl IntoResponse for Encoded {
    fn into_response(self) -> Response {
        Response::with_content(self.media_type(), Content::Picture(self))
    }
}

impl<T: IntoResponse> IntoResponse for (StatusCode, T) {
    fn into_response(self) -> Response {
        self.1.into_response().with_status(self.0)
    }
}

impl<T: IntoResponse, E: Into<Error>> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(answer) => answer.into_response(),
            Err(error) => error.into().into_response(),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
        }
        // A struct of one string always serialises.
        let body = serde_json::to_vec(&Body { error: self.message() }).unwrap_or_default();
        let mut response =
            Response::with_content("application/json", Content::Bytes(Cow::Owned(body))).with_status(self.status());
        if let Some(seconds) = self.retry_after_seconds() {
            response = response.with_header("retry-after", seconds.to_string());
        }
        if self.status().is_server_error() {
            response.failure = Some(format!("{} {}", self.status().as_u16(), self.message()));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_follow_from_types() {
        assert_eq!("hello".into_response().header("Content-Type"), Some("text/plain; charset=utf-8"));
        assert_eq!(Html("<p>").into_response().header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(vec![1u8].into_response().header("content-type"), Some("application/octet-stream"));
        let json = (StatusCode::CREATED, Json([1, 2])).into_response();
        assert_eq!((json.status().as_u16(), json.body()), (201, Some(b"[1,2]".as_slice())));
    }

    #[test]
    fn an_error_is_json_and_may_ask_to_come_back() {
        let error = Error::new(StatusCode::SERVICE_UNAVAILABLE, "the \"queue\" is full").retry_after(2);
        let response = Err::<&str, _>(error).into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.header("retry-after"), Some("2"));
        assert_eq!(response.body(), Some(br#"{"error":"the \"queue\" is full"}"#.as_slice()));
        assert_eq!(response.failure(), Some("503 the \"queue\" is full"));
        assert_eq!(Error::bad_request("no").into_response().failure(), None);
    }

    #[test]
    fn an_answer_json_cannot_write_is_a_500() {
        let unwritable = std::collections::HashMap::from([((1, 2), 3)]);
        assert_eq!(Json(unwritable).into_response().status(), 500);
    }
}
