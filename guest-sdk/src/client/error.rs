//! What can go wrong with an outgoing call, and the status the caller of this service sees.

use std::fmt;

use http::{Method, StatusCode};

use crate::bindings::wasi::http::types::ErrorCode;

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientErrorKind {
    /// The call makes no sense: no URL, a header field no request may have. 500.
    Invalid,
    /// The container's network does not allow it. 502.
    Refused,
    /// Nothing has that name, at least not for this container. 502.
    NoSuchHost,
    /// It is there, or should be, but takes no calls. 502.
    Unreachable,
    /// No answer, or not all of it, in time. 504.
    TimedOut,
    /// It answered, but not what was expected: cut off, no HTTP, no JSON. 502.
    Broken,
    /// It answered with this status, see [`Response::error_for_status`](super::Response::error_for_status). 502.
    Status(StatusCode),
}

/// A call without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError {
    /// Why.
    pub kind: ClientErrorKind,
    /// One sentence that names what was called.
    pub message: String,
}

impl ClientError {
    pub(super) fn new(kind: ClientErrorKind, message: impl Into<String>) -> Self {
        ClientError { kind, message: message.into() }
    }

    /// What the host says of a call that failed.
    pub(super) fn from_host(code: &ErrorCode) -> Self {
        let (kind, words) = classified(code);
        ClientError::new(kind, words)
    }

    /// The same, naming what was called.
    pub(super) fn about(mut self, called: &str) -> Self {
        self.message = format!("{called}: {}", self.message);
        self
    }

    pub(super) fn calling(self, method: &Method, url: &str) -> Self {
        self.about(&format!("{method} {url}"))
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ClientError {}

impl From<ClientError> for crate::Error {
    fn from(error: ClientError) -> Self {
        let status = match error.kind {
            ClientErrorKind::Invalid => StatusCode::INTERNAL_SERVER_ERROR,
            ClientErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            ClientErrorKind::Refused
            | ClientErrorKind::NoSuchHost
            | ClientErrorKind::Unreachable
            | ClientErrorKind::Broken
            | ClientErrorKind::Status(_) => StatusCode::BAD_GATEWAY,
        };
        crate::Error::new(status, error.message)
    }
}

fn classified(code: &ErrorCode) -> (ClientErrorKind, String) {
    let (kind, words) = match code {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => {
            (ClientErrorKind::Refused, "the container's network does not allow this call")
        }
        ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => {
            (ClientErrorKind::NoSuchHost, "no container or host of that name can be reached from here")
        }
        ErrorCode::ConnectionRefused => (ClientErrorKind::Unreachable, "nothing listens there"),
        ErrorCode::DestinationUnavailable | ErrorCode::DestinationIpUnroutable => {
            (ClientErrorKind::Unreachable, "it cannot be reached")
        }
        ErrorCode::ConnectionTerminated | ErrorCode::HttpResponseIncomplete => {
            (ClientErrorKind::Unreachable, "the connection ended before the answer was whole")
        }
        ErrorCode::ConnectionLimitReached => (ClientErrorKind::Unreachable, "it takes no more connections"),
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => (ClientErrorKind::TimedOut, TOO_SLOW),
        ErrorCode::HttpRequestLengthRequired
        | ErrorCode::HttpRequestBodySize(_)
        | ErrorCode::HttpRequestMethodInvalid
        | ErrorCode::HttpRequestUriInvalid
        | ErrorCode::HttpRequestUriTooLong
        | ErrorCode::HttpRequestHeaderSectionSize(_)
        | ErrorCode::HttpRequestHeaderSize(_)
        | ErrorCode::HttpRequestTrailerSectionSize(_)
        | ErrorCode::HttpRequestTrailerSize(_) => {
            return (ClientErrorKind::Invalid, format!("the host does not send such a request ({code})"));
        }
        ErrorCode::InternalError(Some(words)) => return (ClientErrorKind::Broken, words.clone()),
        other => return (ClientErrorKind::Broken, format!("the call failed ({other})")),
    };
    (kind, words.to_owned())
}

/// Said by the host or by the call's own clock.
pub(super) const TOO_SLOW: &str = "it did not answer in time";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_says_becomes_a_kind() {
        for (code, kind) in [
            (ErrorCode::HttpRequestDenied, ClientErrorKind::Refused),
            (ErrorCode::DestinationIpProhibited, ClientErrorKind::Refused),
            (ErrorCode::DestinationNotFound, ClientErrorKind::NoSuchHost),
            (ErrorCode::ConnectionRefused, ClientErrorKind::Unreachable),
            (ErrorCode::ConnectionTerminated, ClientErrorKind::Unreachable),
            (ErrorCode::ConnectionTimeout, ClientErrorKind::TimedOut),
            (ErrorCode::HttpResponseTimeout, ClientErrorKind::TimedOut),
            (ErrorCode::HttpRequestUriInvalid, ClientErrorKind::Invalid),
            (ErrorCode::HttpProtocolError, ClientErrorKind::Broken),
            (ErrorCode::InternalError(None), ClientErrorKind::Broken),
        ] {
            assert_eq!(ClientError::from_host(&code).kind, kind, "{code}");
        }
    }

    #[test]
    fn a_kind_becomes_the_status_of_its_description() {
        let status = |kind| crate::Error::from(ClientError::new(kind, "m")).status().as_u16();
        assert_eq!(status(ClientErrorKind::Invalid), 500);
        assert_eq!(status(ClientErrorKind::Refused), 502);
        assert_eq!(status(ClientErrorKind::NoSuchHost), 502);
        assert_eq!(status(ClientErrorKind::Unreachable), 502);
        assert_eq!(status(ClientErrorKind::TimedOut), 504);
        assert_eq!(status(ClientErrorKind::Broken), 502);
        assert_eq!(status(ClientErrorKind::Status(StatusCode::NOT_FOUND)), 502);
    }

    #[test]
    fn a_message_names_what_was_called() {
        let error = ClientError::from_host(&ErrorCode::ConnectionRefused).calling(&Method::GET, "http://masks:5000/");
        assert_eq!(error.to_string(), "GET http://masks:5000/: nothing listens there");
    }
}
