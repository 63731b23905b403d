//! What failures look like to a client: the only place that turns them into statuses and `{"error": …}`.

use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use wharf_tensor::infer::{InferError, InferErrorKind};

/// Seconds after which an overloaded host is worth another try: a full queue empties within one request's time.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

#[derive(Debug, thiserror::Error)]
pub enum OipError {
    /// The request was understood as far as a model; it or its tensors are wrong, or the model failed.
    #[error(transparent)]
    Infer(#[from] InferError),
    #[error("no endpoint at {path}; see /v2, /v2/health/ready, /v2/models/NAME and /v2/models/NAME/infer")]
    UnknownPath { path: String },
    #[error("method {method} is not allowed here; use {allow}")]
    Method { method: String, allow: &'static str },
    #[error("the body is larger than the limit of {limit} bytes")]
    BodyTooLarge { limit: usize },
    #[error("the body did not arrive within {seconds} s")]
    BodyTooSlow { seconds: f32 },
    #[error("the body could not be read: {reason}")]
    BodyUnreadable { reason: String },
    #[error("Content-Encoding {encoding:?} is not supported; send the body uncompressed")]
    Encoding { encoding: String },
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}

impl OipError {
    fn status(&self) -> StatusCode {
        match self {
            OipError::Infer(error) => match error.kind {
                InferErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
                InferErrorKind::NotFound => StatusCode::NOT_FOUND,
                InferErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                InferErrorKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
                // HTTP has no status for it; common servers answer so.
                InferErrorKind::Cancelled => StatusCode::BAD_REQUEST,
                InferErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            },
            OipError::UnknownPath { .. } => StatusCode::NOT_FOUND,
            OipError::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            OipError::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            OipError::BodyTooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
            OipError::BodyUnreadable { .. } => StatusCode::BAD_REQUEST,
            OipError::Encoding { .. } => StatusCode::NOT_IMPLEMENTED,
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            OipError::Method { allow, .. } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            OipError::Infer(error) if error.kind == InferErrorKind::Unavailable => {
                headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
            }
            // The rest of the body is still on its way: nothing after it could be told from it.
            OipError::BodyTooLarge { .. } | OipError::BodyTooSlow { .. } => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        headers
    }
}

impl IntoResponse for OipError {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&ErrorBody { error: &self.to_string() }).unwrap_or_default();
        (self.status(), self.headers(), body).into_response()
    }
}
