//! One request, taken apart, and the answers that need no stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, to_bytes};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use http::header::{CONTENT_TYPE, HeaderMap};
use http::request::Parts;
use http::{Method, StatusCode};
use hyper::upgrade::OnUpgrade;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use super::query::Query;
use super::{Control, stream};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of a JSON body. Build contexts and archives are spooled to disk and have no limit here.
const JSON_LIMIT: usize = 16 << 20;

/// What a handler gets.
pub struct Call {
    pub control: Control,
    pub method: Method,
    /// The path without its version, e.g. `/containers/json`.
    pub path: String,
    /// The 44 of `/v1.44`.
    pub minor: u16,
    pub query: Query,
    pub headers: HeaderMap,
    pub body: Body,
    /// There when the client asked for a raw connection.
    pub upgrade: Option<OnUpgrade>,
    pub link: Link,
}

/// The connection a request came over.
#[derive(Clone)]
pub struct Link {
    /// Turns true when the host goes down.
    pub drain: watch::Receiver<bool>,
    /// The answer under way has no end of its own.
    endless: Arc<AtomicBool>,
}

impl Link {
    pub fn new(drain: watch::Receiver<bool>) -> Link {
        Link { drain, endless: Arc::default() }
    }

    pub fn is_endless(&self) -> bool {
        self.endless.load(Ordering::Relaxed)
    }

    fn begin(&self) {
        self.endless.store(false, Ordering::Relaxed);
    }

    /// Resolves when the host goes down.
    pub async fn drained(&self) {
        // A host that is gone drains too.
        let _ = self.drain.clone().wait_for(|drain| *drain).await;
    }
}

impl Call {
    pub fn new(control: Control, link: Link, mut parts: Parts, body: Body, path: String, minor: u16) -> Call {
        link.begin();
        let upgrade = parts.headers.contains_key(http::header::UPGRADE);
        let upgrade = upgrade.then(|| parts.extensions.remove::<OnUpgrade>()).flatten();
        let query = Query::parse(parts.uri.query());
        Call { control, method: parts.method, path, minor, query, headers: parts.headers, body, upgrade, link }
    }

    /// The answer may last as long as the client likes: it is cut when the host goes down.
    pub fn never_ends(&self) {
        self.link.endless.store(true, Ordering::Relaxed);
    }

    /// The body. Fields that are `null` count as absent, and an empty body as `{}`.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let body = std::mem::take(&mut self.body);
        let bytes = to_bytes(body, JSON_LIMIT).await.map_err(|error| {
            Error::invalid(format!("cannot read the request's body (limit {} MiB)", JSON_LIMIT >> 20)).because(error)
        })?;
        read(if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes })
    }

    /// A header that is base64url of JSON, such as `X-Registry-Auth`. Absent and empty are `{}`.
    pub fn encoded<T: DeserializeOwned>(&self, header: &str) -> Result<T> {
        let wrong = || Error::invalid(format!("header {header} is not JSON in base64url"));
        let text = self.headers.get(header).map_or(Ok(""), |value| value.to_str().map_err(|_| wrong()))?;
        if text.is_empty() {
            return read(b"{}");
        }
        let decoded = URL_SAFE.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).map_err(|_| wrong())?;
        read(&decoded)
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let invalid = |error| Error::invalid("invalid JSON").because(error);
    let mut value: Value = serde_json::from_slice(bytes).map_err(invalid)?;
    drop_nulls(&mut value);
    serde_json::from_value(value).map_err(invalid)
}

/// serde_json refuses documents deep enough to overflow the stack, so this ends.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Work of the image store, which reads and writes files, on a thread that may block.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(Error::new(ErrorKind::Failed, "the work was aborted; the host's log says why").because(error))
        }
    }
}

pub fn ok(value: &impl Serialize) -> Result<Response> {
    json(StatusCode::OK, value)
}

pub fn created(value: &impl Serialize) -> Result<Response> {
    json(StatusCode::CREATED, value)
}

fn json(status: StatusCode, value: &impl Serialize) -> Result<Response> {
    let mut body = serde_json::to_vec(value)
        .map_err(|error| Error::new(ErrorKind::Failed, "cannot write the answer as JSON").because(error))?;
    body.push(b'\n');
    let mut response = stream::response(stream::JSON, body.into());
    *response.status_mut() = status;
    Ok(response)
}

pub fn empty(status: StatusCode) -> Result<Response> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    Ok(response)
}

pub fn no_content() -> Result<Response> {
    empty(StatusCode::NO_CONTENT)
}

/// Known by name, and not offered: what to do instead.
pub fn not_offered(instead: &str) -> Result<Response> {
    Err(Error::new(ErrorKind::Unimplemented, instead))
}

pub fn text(text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn null_is_absent() {
        let read = read::<BTreeMap<String, BTreeMap<String, u8>>>(br#"{"a":{"x":1,"y":null},"b":null}"#).unwrap();
        assert_eq!(read, BTreeMap::from([("a".to_owned(), BTreeMap::from([("x".to_owned(), 1)]))]));
    }

    #[test]
    fn broken_json_says_where() {
        let error = read::<Value>(b"{\"a\":").unwrap_err();
        assert!(error.chain().starts_with("invalid JSON: EOF while parsing"), "{}", error.chain());
        let deep = "[".repeat(100_000);
        assert!(read::<Value>(deep.as_bytes()).is_err());
    }
}
