//! Names of images as people type them: `app`, `localhost:5000/app:1`, `app@sha256:…`. Docker's rules: a first component
//! with a dot or a colon, or `localhost`, is a registry; everything else is Docker Hub's.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;
use crate::error::{Error, Result};

const DEFAULT_DOMAIN: &str = "docker.io";
/// Where Docker Hub keeps names of one component.
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The registry, with its port if it has one.
    pub domain: String,
    /// The path in the registry, e.g. `library/app`.
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

impl Reference {
    /// With the tag `latest` if neither tag nor digest was given.
    #[must_use]
    pub fn or_latest(mut self) -> Reference {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository at another tag.
    pub fn with_tag(&self, tag: &str) -> Result<Reference> {
        if !is_tag(tag) {
            return Err(invalid());
        }
        Ok(Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository at a digest, without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: &Digest) -> Reference {
        Reference { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// As people read it: `app:latest`, `localhost:5000/app:1`, `app@sha256:…`.
    pub fn familiar(&self) -> String {
        self.familiar_name() + &self.suffix()
    }

    /// Without tag and digest: `app`, `localhost:5000/app`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        self.repository.strip_prefix(OFFICIAL).unwrap_or(&self.repository).to_owned()
    }

    /// In full: `docker.io/library/app:latest`.
    pub fn canonical(&self) -> String {
        self.name() + &self.suffix()
    }

    /// In full, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.repository)
    }

    /// Whether it is one of Docker Hub's own images, e.g. `python`.
    pub fn is_official(&self) -> bool {
        self.domain == DEFAULT_DOMAIN && self.repository.starts_with(OFFICIAL)
    }

    fn suffix(&self) -> String {
        let mut suffix = String::new();
        if let Some(tag) = &self.tag {
            suffix += &format!(":{tag}");
        }
        if let Some(digest) = &self.digest {
            suffix += &format!("@{digest}");
        }
        suffix
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| invalid())?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // Otherwise the colon belongs to the port of a registry.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid());
        }
        let (domain, repository) = split_domain(name)?;
        let repository = if domain == DEFAULT_DOMAIN && !repository.contains('/') {
            format!("{OFFICIAL}{repository}")
        } else {
            repository.to_owned()
        };
        if !repository.split('/').all(is_component) || domain.len() + 1 + repository.len() > LONGEST_NAME {
            return Err(invalid());
        }
        Ok(Reference { domain: domain.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }
}

fn split_domain(name: &str) -> Result<(&str, &str)> {
    let Some((first, rest)) = name.split_once('/') else { return Ok((DEFAULT_DOMAIN, name)) };
    let is_domain = first.contains(['.', ':']) || first == "localhost";
    match first {
        "index.docker.io" => Ok((DEFAULT_DOMAIN, rest)),
        domain if is_domain && is_host(domain) => Ok((domain, rest)),
        _ if is_domain => Err(invalid()),
        _ => Ok((DEFAULT_DOMAIN, name)),
    }
}

fn invalid() -> Error {
    Error::invalid("invalid reference format")
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port != 0);
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_name = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let letters = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            host.split('.')
                .all(|part| !part.is_empty() && letters(part) && !part.starts_with('-') && !part.ends_with('-'))
        }
    };
    is_name && port.is_none_or(is_port)
}

/// Lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let joins = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ends(text.bytes().next())
        && ends(text.bytes().next_back())
        && joins.into_iter().all(|join| matches!(join, "" | "." | "_" | "__") || join.bytes().all(|byte| byte == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= LONGEST_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_canonical_and_familiar() {
        for (typed, canonical, familiar) in [
            ("app", "docker.io/library/app:latest", "app:latest"),
            ("me/app:v1", "docker.io/me/app:v1", "me/app:v1"),
            ("docker.io/library/app", "docker.io/library/app:latest", "app:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/a/b_c--d:1", "localhost:5000/a/b_c--d:1", "localhost:5000/a/b_c--d:1"),
            ("ghcr.io/x/y", "ghcr.io/x/y:latest", "ghcr.io/x/y:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ] {
            let reference = typed.parse::<Reference>().unwrap().or_latest();
            assert_eq!(
                (reference.canonical().as_str(), reference.familiar().as_str()),
                (canonical, familiar),
                "{typed}"
            );
            assert_eq!(reference.canonical().parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let digest = Digest::of(b"x");
        let reference = format!("app:1@{digest}").parse::<Reference>().unwrap().or_latest();
        assert_eq!(reference.tag.as_deref(), Some("1"));
        assert_eq!(reference.with_digest(&digest).familiar(), format!("app@{digest}"));
        let bare = format!("app@{digest}").parse::<Reference>().unwrap().or_latest();
        assert_eq!((bare.tag, bare.digest), (None, Some(digest)));
    }

    #[test]
    fn everything_else_is_refused() {
        let long = "a".repeat(256);
        for text in [
            "",
            ":",
            "app:",
            "App",
            "a//b",
            "/a",
            "a/",
            "a b",
            "-a",
            "a..b",
            "a___b",
            "app:-x",
            "app@sha256:0",
            "x.y:0/a",
            "../a",
            "a:1:2",
            "é",
            long.as_str(),
        ] {
            let error = text.parse::<Reference>().expect_err(text);
            assert_eq!(error.to_string(), "invalid reference format");
        }
    }
}
