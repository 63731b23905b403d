//! What can go wrong in a handler, and the status its caller sees.
//!
//! | what happened | status |
//! |---|---|
//! | inference: `invalid-argument` (wrong shape, datatype, input name) | 400 |
//! | inference: `not-found` (the service asks for a model its image does not hold) | 500 |
//! | inference: `unavailable` (queue full, host stopping) | 503, `retry-after: 1` |
//! | inference: `deadline-exceeded` | 504 |
//! | inference: `internal` (the model failed) | 500 |
//! | picture: `empty`, `malformed`, `invalid-argument` | 400 |
//! | picture: `unsupported-format` | 415 |
//! | picture: `too-large` (more pixels than the container allows) | 413 |
//! | body: over the size limit / too slow / cut off | 413 / 408 / 400 |
//! | outgoing call: refused, no such host, unreachable, wrong answer / too slow / makes no sense | 502 / 504 / 500 |
//! | extractors: not what the content type should be / not well-formed / wrong fields | 415 / 400 / 422 |

use std::fmt;

use http::StatusCode;

use crate::bindings::wharf::inference::tensors;
use crate::bindings::wharf::vision::images;

/// What a handler returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed request: a status and a sentence for the caller. As a response it is
/// `{"error": "the sentence"}`; from 500 on it is also logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    status: StatusCode,
    message: String,
    retry_after: Option<u32>,
}

impl Error {
    /// An error of any status. `map_err(|e| Error::new(StatusCode::CONFLICT, e))` keeps a cause's words.
    pub fn new(status: StatusCode, message: impl fmt::Display) -> Self {
        Error { status, message: message.to_string(), retry_after: None }
    }

    /// 400: the caller's fault. `map_err(Error::bad_request)` keeps a cause's words.
    pub fn bad_request(message: impl fmt::Display) -> Self {
        Error::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404: there is no such thing.
    pub fn not_found(message: impl fmt::Display) -> Self {
        Error::new(StatusCode::NOT_FOUND, message)
    }

    /// 422: well-formed, but it makes no sense here.
    pub fn unprocessable(message: impl fmt::Display) -> Self {
        Error::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// 500: the service's own fault.
    pub fn internal(message: impl fmt::Display) -> Self {
        Error::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub(crate) fn unsupported_media_type(message: impl fmt::Display) -> Self {
        Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    /// Ask the caller to come back after so many seconds: the header `retry-after`.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The status the caller sees.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The sentence the caller sees.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn retry_after_seconds(&self) -> Option<u32> {
        self.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Whose fault a failed inference is. See the table in [`Error`]'s module.
pub type InferenceErrorKind = tensors::ErrorKind;

/// A tensor or a model said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferenceError {
    /// Whose fault it is.
    pub kind: InferenceErrorKind,
    /// One sentence that names the field, what was seen and what was expected.
    pub message: String,
}

impl InferenceError {
    pub(crate) fn new(kind: InferenceErrorKind, message: impl Into<String>) -> Self {
        InferenceError { kind, message: message.into() }
    }
}

impl fmt::Display for InferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InferenceError {}

impl From<tensors::Error> for InferenceError {
    fn from(error: tensors::Error) -> Self {
        InferenceError { kind: error.kind, message: error.message }
    }
}

impl From<InferenceError> for Error {
    fn from(error: InferenceError) -> Self {
        match error.kind {
            InferenceErrorKind::InvalidArgument => Error::bad_request(error.message),
            InferenceErrorKind::NotFound | InferenceErrorKind::Internal => Error::internal(error.message),
            InferenceErrorKind::Unavailable => {
                Error::new(StatusCode::SERVICE_UNAVAILABLE, error.message).retry_after(1)
            }
            InferenceErrorKind::DeadlineExceeded => Error::new(StatusCode::GATEWAY_TIMEOUT, error.message),
        }
    }
}

/// What is wrong with a picture, or with what was asked of it.
pub type VisionErrorKind = images::ErrorKind;

/// A picture could not be read, changed or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisionError {
    /// What is wrong.
    pub kind: VisionErrorKind,
    /// One sentence that says what was seen and what was expected.
    pub message: String,
}

impl fmt::Display for VisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for VisionError {}

impl From<images::Error> for VisionError {
    fn from(error: images::Error) -> Self {
        VisionError { kind: error.kind, message: error.message }
    }
}

impl From<VisionError> for Error {
    fn from(error: VisionError) -> Self {
        let status = match error.kind {
            VisionErrorKind::Empty | VisionErrorKind::Malformed | VisionErrorKind::InvalidArgument => {
                StatusCode::BAD_REQUEST
            }
            VisionErrorKind::UnsupportedFormat => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            VisionErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            VisionErrorKind::Body => StatusCode::BAD_REQUEST,
        };
        Error::new(status, error.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inference_error_becomes_the_status_of_the_table() {
        let status = |kind| Error::from(InferenceError::new(kind, "m")).status().as_u16();
        assert_eq!(status(InferenceErrorKind::InvalidArgument), 400);
        assert_eq!(status(InferenceErrorKind::NotFound), 500);
        assert_eq!(status(InferenceErrorKind::Unavailable), 503);
        assert_eq!(status(InferenceErrorKind::DeadlineExceeded), 504);
        assert_eq!(status(InferenceErrorKind::Internal), 500);
        let busy = Error::from(InferenceError::new(InferenceErrorKind::Unavailable, "queue full"));
        assert_eq!((busy.message(), busy.retry_after_seconds()), ("queue full", Some(1)));
    }

    #[test]
    fn a_picture_error_becomes_the_status_of_the_table() {
        let status = |kind| Error::from(VisionError { kind, message: String::new() }).status().as_u16();
        assert_eq!(status(VisionErrorKind::Empty), 400);
        assert_eq!(status(VisionErrorKind::Malformed), 400);
        assert_eq!(status(VisionErrorKind::UnsupportedFormat), 415);
        assert_eq!(status(VisionErrorKind::TooLarge), 413);
    }
}
