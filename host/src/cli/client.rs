//! The connection to `wharf serve`: HTTP over its unix socket, JSON as it is on the wire.
//!
//! Not bollard: its `wait` sends nothing until it is polled, so that `run --rm` could start a job before anybody waits
//! for it; it has no `/auth`; and its types drop every field they do not know, which `inspect` must show.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::environment;
use crate::error::{Error, ErrorKind, Result};

/// The version of the API that is spoken; what `docker` 28.2 speaks.
const VERSION: &str = "v1.50";

pub type Body = BoxBody<Bytes, std::io::Error>;
pub type Hijacked = TokioIo<Upgraded>;

#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// The pairs of a query, in order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn new() -> Query {
        Query::default()
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Query {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    #[must_use]
    pub fn some(self, name: &str, value: Option<impl Into<String>>) -> Query {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// False is left out, as docker does.
    #[must_use]
    pub fn flag(self, name: &str, on: bool) -> Query {
        if on { self.with(name, "1") } else { self }
    }

    /// `KEY=VALUE` as typed after `--filter`, as the JSON the API takes.
    pub fn filters(self, typed: &[String]) -> Result<Query> {
        let mut filters = serde_json::Map::new();
        for filter in typed {
            let Some((key, value)) = filter.split_once('=') else {
                return Err(Error::invalid(format!("invalid argument {filter:?} for --filter: write KEY=VALUE")));
            };
            let values = filters.entry(key.trim().to_lowercase()).or_insert_with(|| Value::Object(Default::default()));
            if let Value::Object(values) = values {
                values.insert(value.trim().to_owned(), Value::Bool(true));
            }
        }
        Ok(if filters.is_empty() { self } else { self.with("filters", Value::Object(filters).to_string()) })
    }

    fn render(&self) -> String {
        let pairs: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    }
}

/// Percent-encoded for a query or one part of a path.
pub fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

impl Client {
    /// `host` is what was typed after `-H`.
    pub fn new(host: Option<&str>) -> Result<Client> {
        let host = host.map(str::to_owned).or_else(environment::host);
        let socket = match host {
            Some(host) => address(&host)?,
            None => environment::socket(),
        };
        Ok(Client { socket })
    }

    /// Of a daemon whose socket is known.
    pub fn at(socket: PathBuf) -> Client {
        Client { socket }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends a request; an answer of 400 and above is an error with the daemon's text.
    pub async fn send(&self, method: Method, path: &str, query: &Query, call: Call) -> Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/{VERSION}{path}{}", query.render()))
            .header(header::HOST, "wharf")
            .header(header::USER_AGENT, concat!("wharf/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        let request = request
            .body(call.body)
            .map_err(|error| Error::invalid(format!("cannot ask for {path:?}")).because(error))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
        if response.status().as_u16() < 400 { Ok(response) } else { Err(refusal(response).await) }
    }

    pub async fn get(&self, path: &str, query: &Query) -> Result<Value> {
        self.json(self.send(Method::GET, path, query, Call::empty()).await?).await
    }

    pub async fn post(&self, path: &str, query: &Query, body: Option<&Value>) -> Result<Value> {
        let call = body.map_or_else(Call::empty, Call::json);
        self.json(self.send(Method::POST, path, query, call).await?).await
    }

    pub async fn delete(&self, path: &str, query: &Query) -> Result<Value> {
        self.json(self.send(Method::DELETE, path, query, Call::empty()).await?).await
    }

    /// The answer's text as it came: `inspect` keeps the daemon's order of fields.
    pub async fn text(&self, path: &str, query: &Query) -> Result<String> {
        let bytes = self.bytes(self.send(Method::GET, path, query, Call::empty()).await?).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Turns the connection into a raw stream both ways.
    pub async fn hijack(&self, path: &str, query: &Query, body: Option<&Value>) -> Result<Hijacked> {
        let mut call = body.map_or_else(Call::empty, Call::json);
        call.headers.push(("connection", "Upgrade".to_owned()));
        call.headers.push(("upgrade", "tcp".to_owned()));
        let response = self.send(Method::POST, path, query, call).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let seen = response.status().as_u16();
            return Err(Error::new(ErrorKind::Failed, format!("unable to upgrade to tcp, received {seen}")));
        }
        hyper::upgrade::on(response).await.map(TokioIo::new).map_err(|error| self.broken(error))
    }

    async fn json(&self, response: Response<Incoming>) -> Result<Value> {
        let bytes = self.bytes(response).await?;
        if bytes.trim_ascii().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::new(ErrorKind::Failed, "the daemon's answer is not JSON").because(error))
    }

    async fn bytes(&self, response: Response<Incoming>) -> Result<Bytes> {
        Ok(response.into_body().collect().await.map_err(|error| self.broken(error))?.to_bytes())
    }

    fn unreachable(&self, error: std::io::Error) -> Error {
        let looked = self.socket.display();
        let message = if error.kind() == std::io::ErrorKind::PermissionDenied {
            format!("not allowed to use {looked}: run as the user of `wharf serve`, or join the socket's group")
        } else {
            format!("cannot connect to the Wharf daemon: is `wharf serve` running? looked at {looked}")
        };
        Error::new(ErrorKind::Failed, message).because(error)
    }

    fn broken(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let socket = self.socket.display();
        Error::new(ErrorKind::Io, format!("the daemon at {socket} ended the conversation")).because(error)
    }
}

/// What goes with a request.
pub struct Call {
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

impl Call {
    pub fn empty() -> Call {
        Call { headers: Vec::new(), body: Empty::new().map_err(|never| match never {}).boxed() }
    }

    pub fn json(value: &Value) -> Call {
        let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed();
        Call { headers: vec![("content-type", "application/json".to_owned())], body }
    }

    pub fn stream(content_type: &str, body: Body) -> Call {
        Call { headers: vec![("content-type", content_type.to_owned())], body }
    }
}

/// What a daemon's refusal is to people: `Error response from daemon: …`, with its kind.
async fn refusal(response: Response<Incoming>) -> Error {
    let status = response.status();
    let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let message = serde_json::from_slice::<Value>(&body)
        .ok()
        .and_then(|value| value["message"].as_str().map(str::to_owned))
        .unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
    let message = if message.is_empty() { format!("it answered {status} and no reason") } else { message };
    let kind = match status.as_u16() {
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        401 => ErrorKind::Unauthorized,
        403 => ErrorKind::Forbidden,
        501 => ErrorKind::Unimplemented,
        503 => ErrorKind::Unavailable,
        // Not `InvalidArgument`: its exit code is for what this program refuses before it asks.
        _ => ErrorKind::Failed,
    };
    Error::new(kind, format!("Error response from daemon: {message}"))
}

/// `unix:///path/wharf.sock`, or the path alone.
fn address(host: &str) -> Result<PathBuf> {
    let path = host.strip_prefix("unix://").unwrap_or(host);
    if path.starts_with('/') {
        return Ok(PathBuf::from(path));
    }
    Err(Error::invalid(format!("{host:?} is no address of a daemon: write unix:///path/wharf.sock (no TCP, no SSH)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(address("unix:///run/wharf.sock").unwrap(), PathBuf::from("/run/wharf.sock"));
        assert_eq!(address("/run/wharf.sock").unwrap(), PathBuf::from("/run/wharf.sock"));
        assert!(address("tcp://127.0.0.1:2375").unwrap_err().to_string().contains("no TCP"));
    }

    #[test]
    fn queries_are_escaped_and_filters_are_json() {
        let query = Query::new().flag("all", true).flag("size", false).with("t", "a b");
        assert_eq!(query.render(), "?all=1&t=a%20b");
        let query = Query::new().filters(&["label=a=b".to_owned(), "label=c".to_owned()]).unwrap();
        assert_eq!(query.0[0].1, r#"{"label":{"a=b":true,"c":true}}"#);
        assert!(Query::new().filters(&["label".to_owned()]).is_err());
    }
}
