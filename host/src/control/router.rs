//! From a method and a path to a handler, and the headers that every answer carries.
//!
//! Paths are matched as lists of segments: images have names with slashes in them, which patterns of a usual router
//! cannot express.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, PRAGMA, SERVER};
use http::{Method, Request};
use percent_encoding::percent_decode_str;

use super::call::{Call, Link, not_offered, text};
use super::{Control, build, containers, error, events, images, networks, system, transfer, volumes};
use crate::error::{Error, ErrorKind, Result};

/// The newest version of the API spoken here, and the oldest accepted: the part behind `1.`.
pub const NEWEST: u16 = 50;
pub const OLDEST: u16 = 24;
pub const API_VERSION: &str = "1.50";
pub const OLDEST_VERSION: &str = "1.24";

pub const NO_BUILDKIT: &str = "this engine has no BuildKit; use DOCKER_BUILDKIT=0 docker build";

pub async fn answer(control: Control, link: Link, request: Request<Body>) -> Response {
    let server = format!("Wharf/{} (linux)", control.host.version);
    let (parts, body) = request.into_parts();
    let method = parts.method.clone();
    let path = parts.uri.path().to_owned();
    let result = match version(&path) {
        Ok((minor, path)) => route(Call::new(control, link, parts, body, path.to_owned(), minor)).await,
        Err(error) => Err(error),
    };
    let mut response = match result {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!(%method, path, error = error.chain(), "refused");
            error::response(&error)
        }
    };
    stamp(response.headers_mut(), &server);
    response
}

fn stamp(headers: &mut HeaderMap, server: &str) {
    for (name, value) in [("api-version", API_VERSION), ("ostype", "linux"), ("docker-experimental", "false")] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Ok(server) = HeaderValue::from_str(server) {
        headers.insert(SERVER, server);
    }
}

/// Take `/v1.44` off a path.
fn version(path: &str) -> Result<(u16, &str)> {
    let Some((version, rest)) = path.strip_prefix("/v").and_then(|rest| rest.split_once('/')) else {
        return Ok((NEWEST, path));
    };
    let Some((major, minor)) = version.split_once('.') else { return Ok((NEWEST, path)) };
    let (Ok(major), Ok(minor)) = (major.parse::<u16>(), minor.parse::<u16>()) else { return Ok((NEWEST, path)) };
    let rest = &path[path.len() - rest.len() - 1..];
    if (major, minor) > (1, NEWEST) {
        return Err(Error::invalid(format!(
            "client version {version} is too new. Maximum supported API version is {API_VERSION}"
        )));
    }
    if (major, minor) < (1, OLDEST) {
        return Err(Error::invalid(format!(
            "client version {version} is too old. Minimum supported API version is {OLDEST_VERSION}, please upgrade \
             your client to a newer version"
        )));
    }
    Ok((minor, rest))
}

async fn route(call: Call) -> Result<Response> {
    let path = call.path.clone();
    let decoded = segments(&path)?;
    let path: Vec<&str> = decoded.iter().map(Cow::as_ref).collect();
    let method = call.method.clone();
    match (method.as_str(), path.as_slice()) {
        ("GET" | "HEAD", ["_ping"]) => Ok(ping()),
        (_, ["containers", rest @ ..]) => containers::route(call, &method, rest).await,
        (_, ["exec", id, verb]) => containers::exec::route(call, &method, id, verb).await,
        (_, ["images", rest @ ..]) => images::route(call, &method, rest).await,
        (_, ["networks", rest @ ..]) => networks::route(call, &method, rest).await,
        (_, ["volumes", rest @ ..]) => volumes::route(call, &method, rest).await,
        ("POST", ["build"]) => build::build(call).await,
        ("POST", ["build", "prune"]) => build::prune(),
        ("POST", ["auth"]) => transfer::login(call).await,
        ("GET", ["distribution", name @ .., "json"]) => transfer::distribution(call, &name.join("/")).await,
        ("GET", ["version"]) => system::version(&call),
        ("GET", ["info"]) => system::info(call).await,
        ("GET", ["system", "df"]) => system::disk_usage(call).await,
        ("GET", ["events"]) => events::stream(call),
        ("POST", ["commit"]) => {
            not_offered("commit is not offered: a container's files do not change; use docker build")
        }
        ("POST", ["grpc" | "session"]) => not_offered(NO_BUILDKIT),
        (_, ["plugins", rest @ ..]) => plugins(&method, rest),
        (_, ["swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs", ..]) => {
            Err(Error::new(ErrorKind::Unavailable, "This node is not a swarm manager."))
        }
        _ => Err(unknown()),
    }
}

/// Routes that do not exist.
pub fn unknown() -> Error {
    Error::new(ErrorKind::NotFound, "page not found")
}

/// Nothing here waits or locks: clients ask before every command.
fn ping() -> Response {
    let mut response = text("OK");
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("builder-version"), HeaderValue::from_static("1"));
    headers.insert(HeaderName::from_static("swarm"), HeaderValue::from_static("inactive"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

fn plugins(method: &Method, path: &[&str]) -> Result<Response> {
    match (method.as_str(), path) {
        ("GET", []) => super::call::ok(&Vec::<()>::new()),
        // `docker inspect` of an unknown name ends here.
        ("GET", [name @ .., "json"]) => {
            Err(Error::new(ErrorKind::NotFound, format!("plugin \"{}\" not found", name.join("/"))))
        }
        _ => not_offered("plugins are not offered by this host"),
    }
}

fn segments(path: &str) -> Result<Vec<Cow<'_, str>>> {
    let decode = |segment| percent_decode_str(segment).decode_utf8();
    let segments = path.trim_matches('/').split('/').map(decode).collect::<std::result::Result<_, _>>();
    segments.map_err(|error| Error::invalid(format!("the path {path:?} is not UTF-8")).because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_taken_off() {
        for (path, minor, rest) in [
            ("/_ping", 50, "/_ping"),
            ("/v1.24/info", 24, "/info"),
            ("/v1.50/images/a/b:c/json", 50, "/images/a/b:c/json"),
            // A registry's path that only looks like a version.
            ("/volumes/v1.9", 50, "/volumes/v1.9"),
            ("/v1", 50, "/v1"),
            ("/vx.y/info", 50, "/vx.y/info"),
        ] {
            assert_eq!(version(path).unwrap(), (minor, rest), "{path}");
        }
        let message = |path| version(path).unwrap_err().to_string();
        assert_eq!(message("/v1.60/info"), "client version 1.60 is too new. Maximum supported API version is 1.50");
        assert_eq!(
            message("/v1.12/info"),
            "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a \
             newer version"
        );
        assert!(message("/v2.0/info").contains("too new"));
    }

    #[test]
    fn segments_are_decoded_one_by_one() {
        assert_eq!(segments("/images/localhost:5000/a%2Fb/json").unwrap(), ["images", "localhost:5000", "a/b", "json"]);
        assert!(segments("/images/%FF").is_err());
    }
}
