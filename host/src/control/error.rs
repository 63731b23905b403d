//! What failures look like to a client: the only place that turns kinds into statuses and `{"message": …}`.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;

use crate::error::{Error, ErrorKind};

#[derive(Serialize)]
struct Message<'a> {
    message: &'a str,
}

/// Docker's status for what went wrong.
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::DeadlineExceeded | ErrorKind::Unmet | ErrorKind::Failed | ErrorKind::Io => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// The whole chain of causes, since nobody but the client will read it.
pub fn response(error: &Error) -> Response {
    let mut body = serde_json::to_vec(&Message { message: &error.chain() }).unwrap_or_default();
    body.push(b'\n');
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status(error.kind());
    // Exactly this: with a charset behind it the CLI prints the JSON instead of the message.
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An error whose kind would mislead: the CLI reads 404 on `create` as a missing image, and pulls.
pub fn not_missing(error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::invalid(error.chain()),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn an_error_is_json_with_its_causes() {
        let error = Error::new(ErrorKind::Io, "cannot read \"x\"").because(std::io::Error::other("disk on fire"));
        let response = response(&error);
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = to_bytes(response.into_body(), 1000).await.unwrap();
        assert_eq!(body, r#"{"message":"cannot read \"x\": disk on fire"}"#.to_owned() + "\n");
    }

    #[test]
    fn only_a_missing_image_is_404_on_create() {
        let missing = Error::new(ErrorKind::NotFound, "network n not found");
        assert_eq!(not_missing(missing).kind(), ErrorKind::InvalidArgument);
        assert_eq!(not_missing(Error::new(ErrorKind::Conflict, "taken")).kind(), ErrorKind::Conflict);
    }
}
