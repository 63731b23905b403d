//! Which endpoint a path means. Pure.
//!
//! A model's name may hold `/` (`container/model`), written plainly or as `%2F`. The verb is therefore read
//! from the end of the path, on the encoded segments, so that a model called `ready` stays reachable as
//! `container%2Fready`.

use http::Method;

use super::error::OipError;

/// A model as the client names it.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    pub name: String,
    pub version: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Endpoint {
    Server,
    Live,
    Ready,
    Model(Target),
    ModelReady(Target),
    Infer(Target),
}

impl Endpoint {
    /// `path` is the raw path of the URI. `None`: there is no such endpoint.
    pub fn parse(path: &str) -> Option<Endpoint> {
        let segments: Vec<&str> = path.strip_prefix("/v2")?.split('/').skip(1).collect();
        match segments.as_slice() {
            [] if path == "/v2" => Some(Endpoint::Server),
            ["health", "live"] => Some(Endpoint::Live),
            ["health", "ready"] => Some(Endpoint::Ready),
            // A name is at least one segment, so a lone verb is a model of that name.
            ["models", name @ .., "ready"] if !name.is_empty() => Target::parse(name).map(Endpoint::ModelReady),
            ["models", name @ .., "infer"] if !name.is_empty() => Target::parse(name).map(Endpoint::Infer),
            ["models", name @ ..] => Target::parse(name).map(Endpoint::Model),
            _ => None,
        }
    }

    pub fn check_method(&self, method: &Method) -> Result<(), OipError> {
        let (allowed, allow) = match self {
            Endpoint::Infer(_) => (method == Method::POST, "POST"),
            _ => (method == Method::GET || method == Method::HEAD, "GET, HEAD"),
        };
        if allowed { Ok(()) } else { Err(OipError::Method { method: method.to_string(), allow }) }
    }
}

impl Target {
    fn parse(segments: &[&str]) -> Option<Target> {
        let (name, version) = match segments {
            [name @ .., "versions", version] if !name.is_empty() => (name, Some(percent_decode(version)?)),
            name => (name, None),
        };
        let mut decoded = Vec::with_capacity(name.len());
        for segment in name {
            decoded.push(percent_decode(segment).filter(|segment| !segment.is_empty())?);
        }
        (!decoded.is_empty()).then(|| Target { name: decoded.join("/"), version })
    }
}

/// `None` where an escape is not two hexadecimal digits or the result is not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            byte => byte,
        };
        decoded.push(byte);
    }
    String::from_utf8(decoded).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, version: Option<&str>) -> Target {
        Target { name: name.into(), version: version.map(Into::into) }
    }

    #[test]
    fn every_endpoint_is_recognised() {
        let cases = [
            ("/v2", Endpoint::Server),
            ("/v2/health/live", Endpoint::Live),
            ("/v2/health/ready", Endpoint::Ready),
            ("/v2/models/m", Endpoint::Model(target("m", None))),
            ("/v2/models/m/versions/1", Endpoint::Model(target("m", Some("1")))),
            ("/v2/models/m/ready", Endpoint::ModelReady(target("m", None))),
            ("/v2/models/m/versions/1/ready", Endpoint::ModelReady(target("m", Some("1")))),
            ("/v2/models/m/infer", Endpoint::Infer(target("m", None))),
            ("/v2/models/m/versions/1/infer", Endpoint::Infer(target("m", Some("1")))),
        ];
        for (path, endpoint) in cases {
            assert_eq!(Endpoint::parse(path), Some(endpoint), "{path}");
        }
    }

    #[test]
    fn a_name_may_hold_a_slash_or_be_a_verb() {
        let infer = |name| Some(Endpoint::Infer(target(name, None)));
        assert_eq!(Endpoint::parse("/v2/models/eye/digits/infer"), infer("eye/digits"));
        assert_eq!(Endpoint::parse("/v2/models/eye%2Fdigits/infer"), infer("eye/digits"));
        assert_eq!(Endpoint::parse("/v2/models/eye%2fready/infer"), infer("eye/ready"));
        assert_eq!(Endpoint::parse("/v2/models/gr%C3%BCn/infer"), infer("grün"));
        assert_eq!(Endpoint::parse("/v2/models/ready"), Some(Endpoint::Model(target("ready", None))));
        assert_eq!(Endpoint::parse("/v2/models/eye%2Fready"), Some(Endpoint::Model(target("eye/ready", None))));
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        let paths = [
            "/",
            "/v2/",
            "/v2x",
            "/v2/models",
            "/v2/models/",
            "/v2/models/m/",
            "/v2/models//infer",
            "/v2/health",
            "/v2/health/live/",
            "/v2/models/m%2/infer",
            "/v2/models/m%zz/infer",
            "/v2/models/%FF/infer",
            "/v2/models/m%+1/infer",
            "/v3/models/m",
        ];
        for path in paths {
            assert_eq!(Endpoint::parse(path), None, "{path}");
        }
    }
}
