//! A URL, taken apart as `wasi:http` wants it. Pure.

use http::Uri;
use http::uri::Scheme;

use super::{ClientError, ClientErrorKind, Result};

/// Where a call goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) is_secure: bool,
    /// Name or address, with its port if the URL has one.
    pub(super) authority: String,
    /// Starts with `/`.
    pub(super) path_with_query: String,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self> {
        let invalid = |what: &str| {
            let message = format!("`{url}` is not a URL to call: {what}; write http://NAME:PORT/PATH");
            ClientError::new(ClientErrorKind::Invalid, message)
        };
        let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| invalid(&error.to_string()))?;
        let is_secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(other) => return Err(invalid(&format!("its scheme is {other}"))),
            None => return Err(invalid("it does not begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| invalid("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("user and password belong into an `authorization` field"));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        // `http://name?a=b`
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Target { is_secure, authority: authority.to_string(), path_with_query: format!("{slash}{path}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (url, is_secure, authority, path) in [
            ("http://maskdetection:5000/predict", false, "maskdetection:5000", "/predict"),
            ("http://maskdetection", false, "maskdetection", "/"),
            ("https://api.example.org/v1?a=b%20c&d", true, "api.example.org", "/v1?a=b%20c&d"),
            ("http://name?a=b", false, "name", "/?a=b"),
            ("HTTP://[::1]:80/x#part", false, "[::1]:80", "/x"),
        ] {
            let path_with_query = path.to_owned();
            let expected = Target { is_secure, authority: authority.to_owned(), path_with_query };
            assert_eq!(Target::parse(url), Ok(expected), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_is_said() {
        for (url, words) in [
            ("", "empty string"),
            ("/predict", "http:// or https://"),
            ("maskdetection:5000", "http:// or https://"),
            ("file:///etc/passwd", "write http://NAME:PORT/PATH"),
            ("ftp://name/", "its scheme is ftp"),
            ("http://us:er@name/", "`authorization`"),
            ("http://a b/", "invalid"),
            ("http:///x", "write http://NAME:PORT/PATH"),
        ] {
            let error = Target::parse(url).unwrap_err();
            assert_eq!(error.kind, ClientErrorKind::Invalid);
            assert!(error.message.contains(words), "{url}: {error}");
        }
    }
}
