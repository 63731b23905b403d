//! Where a registry is: from the name in a reference to a server and its URLs. Pure.

use std::net::IpAddr;

use http::Uri;

use crate::error::{Error, Result};

/// How the public registry is called in references, and what its server is called.
const PUBLIC: &str = "docker.io";
const PUBLIC_SERVER: &str = "registry-1.docker.io";

/// A server and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `host` or `host:port`.
    pub authority: String,
    pub secure: bool,
}

impl Address {
    /// The server of a reference's first part, spoken to through TLS.
    pub fn of(domain: &str) -> Address {
        let authority = if [PUBLIC, "index.docker.io"].contains(&domain) { PUBLIC_SERVER } else { domain };
        Address { authority: authority.to_owned(), secure: true }
    }

    /// What `login` was given: `localhost:5000`, `https://index.docker.io/v1/`, nothing.
    pub fn of_server(server: &str) -> Address {
        let server = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
        let domain = server.split('/').next().unwrap_or_default();
        Address::of(if domain.is_empty() { PUBLIC } else { domain })
    }

    pub fn plain(&self) -> Address {
        Address { authority: self.authority.clone(), secure: false }
    }

    /// Whether it is this machine: then, and only then, it may be spoken to without TLS.
    pub fn is_local(&self) -> bool {
        self.authority.parse().is_ok_and(|authority| is_local(&authority))
    }

    /// `tail` begins with `/v2/`.
    pub fn url(&self, tail: &str) -> Result<Uri> {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{tail}", self.authority)
            .parse()
            .map_err(|error| Error::invalid(format!("{:?} is no registry's address", self.authority)).because(error))
    }
}

/// Where a server sends us on to, `location`, as seen from `from`. A secure connection is never left for one that
/// anybody on the way can read, except within this machine.
pub fn follow(from: &Uri, location: &str) -> Result<Uri, String> {
    let target = absolute(from, location).ok_or_else(|| format!("a broken address, {location:?}"))?;
    let plain = target.scheme_str() == Some("http");
    let local = target.authority().is_some_and(is_local) && from.authority().is_some_and(is_local);
    if plain && !local {
        return Err(format!("an address without TLS, {}", without_query(&target)));
    }
    Ok(target)
}

fn absolute(from: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with("https://") || location.starts_with("http://") {
        return location.parse().ok().filter(|target: &Uri| target.authority().is_some());
    }
    let scheme = from.scheme_str()?;
    if let Some(authority) = location.strip_prefix("//") {
        return format!("{scheme}://{authority}").parse().ok();
    }
    let authority = from.authority()?;
    let folder = from.path().rfind('/').map_or("/", |end| &from.path()[..=end]);
    let path = if location.starts_with('/') { location.to_owned() } else { format!("{folder}{location}") };
    format!("{scheme}://{authority}{path}").parse().ok()
}

/// Whether a header that proves who we are may go along: only to the very server it was meant for.
pub fn same_server(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme() && one.authority() == other.authority()
}

pub fn is_local(authority: &http::uri::Authority) -> bool {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// For messages: a query may hold a signature that opens the door.
pub fn without_query(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("https");
    format!("{scheme}://{}{}", uri.authority().map_or("", |authority| authority.as_str()), uri.path())
}

/// A value within a query.
pub fn escape(value: &str) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:,".contains(&byte) {
            text.push(byte.into());
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// `uri` with one more pair in its query, which a server may have begun.
pub fn with_query(uri: &Uri, name: &str, value: &str) -> String {
    let mark = if uri.query().is_some() { '&' } else { '?' };
    format!("{uri}{mark}{name}={}", escape(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_servers() {
        for (domain, url) in [
            ("docker.io", "https://registry-1.docker.io/v2/"),
            ("localhost:5000", "https://localhost:5000/v2/"),
            ("ghcr.io", "https://ghcr.io/v2/"),
        ] {
            assert_eq!(Address::of(domain).url("/v2/").unwrap(), url);
        }
        for (server, authority) in [
            ("https://index.docker.io/v1/", PUBLIC_SERVER),
            ("", PUBLIC_SERVER),
            ("http://localhost:5000/", "localhost:5000"),
            ("reg.example:443", "reg.example:443"),
        ] {
            assert_eq!(Address::of_server(server).authority, authority);
        }
        assert!(Address::of("a b").url("/v2/").is_err());
    }

    #[test]
    fn only_this_machine_may_do_without_tls() {
        for (domain, local) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.9.1", true),
            ("[::1]:5000", true),
            ("localhost.example", false),
            ("10.0.0.1:5000", false),
            ("127.0.0.1.example", false),
            ("", false),
        ] {
            assert_eq!(Address::of(domain).is_local(), local, "{domain}");
        }
    }

    #[test]
    fn redirects_are_followed_where_it_is_safe() {
        let from: Uri = "https://reg.example/v2/app/blobs/x?a=b".parse().unwrap();
        for (location, target) in [
            ("/y?z=1", Ok("https://reg.example/y?z=1")),
            ("y", Ok("https://reg.example/v2/app/blobs/y")),
            ("//cdn.example/y", Ok("https://cdn.example/y")),
            ("https://cdn.example/y", Ok("https://cdn.example/y")),
            ("http://cdn.example/y?secret", Err("an address without TLS, http://cdn.example/y")),
            ("http://127.0.0.1/y", Err("an address without TLS, http://127.0.0.1/y")),
            ("https://", Err("a broken address, \"https://\"")),
            ("/ü\u{0}", Err("a broken address, \"/ü\\0\"")),
        ] {
            let followed = follow(&from, location).map(|uri| uri.to_string());
            assert_eq!(followed.as_deref().map_err(String::as_str), target, "{location}");
        }
        let local: Uri = "http://localhost:5000/v2/".parse().unwrap();
        assert!(follow(&local, "http://127.0.0.1:6000/y").is_ok());
        assert!(!same_server(&local, &"http://127.0.0.1:5000/".parse().unwrap()));
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escape("repository:a/b:pull,push"), "repository:a/b:pull,push");
        assert_eq!(escape("a b&c=ü"), "a%20b%26c%3D%C3%BC");
        let uri: Uri = "https://reg.example/up?state=1".parse().unwrap();
        assert_eq!(with_query(&uri, "digest", "sha256:00"), "https://reg.example/up?state=1&digest=sha256:00");
    }
}
