//! What goes wrong between us and a registry, in people's words, and whether trying again may help.

use std::error::Error as StdError;

use http::{Method, StatusCode, Uri};
use serde::Deserialize;

use super::address::without_query;
use crate::error::{Error, ErrorKind};

#[derive(Debug)]
pub enum Fault {
    /// The registry answered and said no.
    Refused(Refusal),
    /// The connection could not be made, was cut or went silent, or the server stumbled: another try may succeed.
    Passing(Error),
    /// Trying again would bring the same.
    Lasting(Error),
}

/// An answer other than success.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    /// The registry's own, such as `MANIFEST_UNKNOWN`; empty if it gave none.
    pub code: String,
    pub message: String,
}

#[derive(Deserialize)]
struct Answer {
    errors: Vec<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Refusal {
    pub fn read(method: &Method, uri: &Uri, status: StatusCode, body: &[u8]) -> Refusal {
        let first = serde_json::from_slice::<Answer>(body).ok().and_then(|answer| answer.errors.into_iter().next());
        let Some(AnswerError { code, message }) = first else {
            let url = without_query(uri);
            return Refusal { status, code: String::new(), message: format!("{method} {url}: answered {status}") };
        };
        let words = code.replace('_', " ").to_lowercase();
        let message = printable(&message);
        let message = match (message.is_empty(), words.is_empty()) {
            _ if message.eq_ignore_ascii_case(&words) => message,
            (true, _) => words,
            (_, true) => message,
            _ => format!("{words}: {message}"),
        };
        Refusal { status, code, message }
    }

    /// Whether the registry will not tell strangers if the thing exists.
    pub fn is_denied(&self) -> bool {
        self.code == "DENIED" || self.status == StatusCode::FORBIDDEN
    }

    pub fn is_missing(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    fn may_pass(&self) -> bool {
        self.status.is_server_error()
            || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&self.status)
    }

    fn kind(&self) -> ErrorKind {
        match self.status {
            StatusCode::UNAUTHORIZED => ErrorKind::Unauthorized,
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            StatusCode::TOO_MANY_REQUESTS => ErrorKind::Unavailable,
            _ => ErrorKind::Failed,
        }
    }
}

impl Fault {
    pub fn lasting(message: impl Into<String>) -> Fault {
        Fault::Lasting(Error::new(ErrorKind::Failed, message))
    }

    pub fn passing(message: impl Into<String>) -> Fault {
        Fault::Passing(Error::new(ErrorKind::Unavailable, message))
    }

    pub fn may_pass(&self) -> bool {
        match self {
            Fault::Refused(refusal) => refusal.may_pass(),
            Fault::Passing(_) => true,
            Fault::Lasting(_) => false,
        }
    }

    pub fn into_error(self) -> Error {
        match self {
            Fault::Refused(refusal) => Error::new(refusal.kind(), refusal.message),
            Fault::Passing(error) | Fault::Lasting(error) => error,
        }
    }
}

/// The store's failures: nothing a registry could mend.
impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Lasting(error)
    }
}

/// Why a request got no answer, in plain words; `cause` is the client library's error.
pub fn no_answer(uri: &Uri, cause: &(dyn StdError + 'static)) -> Fault {
    let server = uri.authority().map_or("the registry", |authority| authority.as_str());
    let chain = || causes(cause);
    if let Some(error) = chain().find_map(as_tls)
        && let rustls::Error::InvalidCertificate(reason) = error
    {
        return Fault::lasting(format!(
            "{server} shows a certificate that is not trusted: {}; if it is yours, put the certificate of its \
             authority into certs.d/{server}/ca.crt in the host's data folder or in /etc/docker",
            distrust(reason)
        ));
    }
    let io = chain().find_map(|error| error.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    let text = match io {
        Some(std::io::ErrorKind::ConnectionRefused) => {
            format!("connection refused by {server}: nothing listens there; is the registry running?")
        }
        Some(std::io::ErrorKind::TimedOut) => format!("no connection to {server} in time; is the address right?"),
        _ => {
            let last = chain().last().map(|error| printable(&error.to_string())).unwrap_or_default();
            if last.contains("lookup") || last.contains("Name or service") || last.contains("name resolution") {
                format!("cannot find the registry {server}: its name is not known ({last})")
            } else {
                format!("the connection to {server} failed: {last}")
            }
        }
    };
    Fault::passing(text)
}

/// What is wrong with a certificate, as people say it.
fn distrust(reason: &rustls::CertificateError) -> String {
    use rustls::CertificateError as Reason;
    match reason {
        Reason::UnknownIssuer => "nobody known here has signed it".into(),
        Reason::Expired | Reason::ExpiredContext { .. } => "it has expired".into(),
        Reason::NotValidYet | Reason::NotValidYetContext { .. } => "it is not valid yet; is the clock right?".into(),
        Reason::NotValidForName | Reason::NotValidForNameContext { .. } => "it is made out to another name".into(),
        // Of the kind that Docker's guides make: nothing but the server itself vouches for it.
        Reason::Other(_) => "it is its own authority, or of a kind that is no server's".into(),
        other => format!("{other:?}"),
    }
}

/// Whether the server, though it answered, does not speak TLS.
pub fn speaks_no_tls(cause: &(dyn StdError + 'static)) -> bool {
    causes(cause).filter_map(as_tls).any(|error| matches!(error, rustls::Error::InvalidMessage(_)))
}

fn causes<'a>(first: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(first), |error| StdError::source(*error))
}

/// The TLS library's error hides inside I/O errors, one within another, which do not call it their source.
fn as_tls<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    let inside = error.downcast_ref::<std::io::Error>()?.get_ref()?;
    as_tls(inside)
}

/// A stranger's text as one line of bounded length: it ends in terminals and logs.
pub fn printable(text: &str) -> String {
    const LONGEST: usize = 500;
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_quoted_once() {
        let uri: Uri = "https://reg.example/v2/app/manifests/1?token=secret".parse().unwrap();
        for (body, message) in [
            (r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#, "manifest unknown"),
            (
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":[]}]}"#,
                "unauthorized: authentication required",
            ),
            (r#"{"errors":[{"code":"DENIED"}]}"#, "denied"),
            (r#"{"errors":[{"message":"a\u001b[2Jb\n"}]}"#, "a [2Jb"),
            (r#"{"errors":[]}"#, "GET https://reg.example/v2/app/manifests/1: answered 404 Not Found"),
            ("<html>", "GET https://reg.example/v2/app/manifests/1: answered 404 Not Found"),
        ] {
            let refusal = Refusal::read(&Method::GET, &uri, StatusCode::NOT_FOUND, body.as_bytes());
            assert_eq!(refusal.message, message, "{body}");
        }
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let refused = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            Fault::Refused(Refusal { status, code: String::new(), message: String::new() })
        };
        assert!([500, 502, 503, 504, 408, 429].into_iter().all(|status| refused(status).may_pass()));
        assert!(![400, 401, 403, 404, 416].into_iter().any(|status| refused(status).may_pass()));
    }

    #[test]
    fn a_strangers_text_stays_short() {
        assert_eq!(printable(&"x".repeat(10_000)).len(), 500);
    }
}
