//! Requests and answers over HTTP and TLS, with a limit on everything a server could draw out: connecting, silence,
//! the size of what is read into memory. Knows nothing of registries but the ping that finds out how to speak to one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::WWW_AUTHENTICATE;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::address::Address;
use super::challenge::Challenge;
use super::failure::{Fault, no_answer, speaks_no_tls};
use super::trust::Trust;

pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;
type Client = legacy::Client<HttpsConnector<HttpConnector>, Body>;

/// Servers remembered; beyond, all are forgotten, which costs new connections only.
const MOST_CLIENTS: usize = 64;
/// An error's text: more is not read.
const LARGEST_REFUSAL: usize = 64 << 10;

/// How long to wait for what.
#[derive(Clone, Debug)]
pub struct Pace {
    pub connect: Duration,
    /// Longest silence of a server while an answer or a body is due.
    pub silence: Duration,
    /// Before the second attempt; doubles with each further one.
    pub pause: Duration,
    pub attempts: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            connect: Duration::from_secs(20),
            silence: Duration::from_secs(60),
            pause: Duration::from_secs(1),
            attempts: 5,
        }
    }
}

pub struct Transport {
    trust: Arc<Trust>,
    clients: Mutex<HashMap<String, Client>>,
    pub pace: Pace,
}

impl Transport {
    pub fn new(certificates: Vec<PathBuf>, pace: Pace) -> Transport {
        Transport { trust: Arc::new(Trust::new(certificates)), clients: Mutex::default(), pace }
    }

    /// The server's answer, whatever its status. `moved` counts the bytes of the request's body that have left, if
    /// that takes long: silence is only silence while they do not.
    pub async fn send(&self, request: Request<Body>, moved: Option<&AtomicU64>) -> Result<Response<Incoming>, Fault> {
        self.raw_send(request, moved).await.map_err(|(uri, error)| match error {
            SendError::Fault(fault) => fault,
            SendError::Http(error) => no_answer(&uri, &error),
        })
    }

    async fn raw_send(
        &self,
        request: Request<Body>,
        moved: Option<&AtomicU64>,
    ) -> Result<Response<Incoming>, (Uri, SendError)> {
        let uri = request.uri().clone();
        let client = match self.client(&uri).await {
            Ok(client) => client,
            Err(fault) => return Err((uri, SendError::Fault(fault))),
        };
        let mut answer = client.request(request);
        let mut seen = 0;
        loop {
            match tokio::time::timeout(self.pace.silence, &mut answer).await {
                Ok(result) => return result.map_err(|error| (uri, SendError::Http(error))),
                Err(_) => {
                    let now = moved.map_or(0, |moved| moved.load(Ordering::Relaxed));
                    if now == seen {
                        let fault = silent(&uri, self.pace.silence);
                        return Err((uri, SendError::Fault(fault)));
                    }
                    seen = now;
                }
            }
        }
    }

    /// The next bytes of an answer; `None` at its end.
    pub async fn next(&self, uri: &Uri, body: &mut Incoming) -> Result<Option<Bytes>, Fault> {
        loop {
            let frame = tokio::time::timeout(self.pace.silence, body.frame()).await;
            match frame.map_err(|_| silent(uri, self.pace.silence))? {
                None => return Ok(None),
                Some(Err(error)) => return Err(no_answer(uri, &error)),
                // Trailers are of no interest.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// A whole answer of at most `limit` bytes; `what` is for the message.
    pub async fn read(&self, uri: &Uri, mut body: Incoming, limit: usize, what: &str) -> Result<Bytes, Fault> {
        let mut all = BytesMut::new();
        while let Some(bytes) = self.next(uri, &mut body).await? {
            if all.len() + bytes.len() > limit {
                return Err(Fault::lasting(format!("{what} is larger than the limit of {limit} bytes")));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all.freeze())
    }

    /// The text of an error, as much as is reasonable; whatever goes wrong with it is of less interest than it.
    pub async fn read_refusal(&self, uri: &Uri, mut body: Incoming) -> Vec<u8> {
        let mut text = Vec::new();
        while let Ok(Some(bytes)) = self.next(uri, &mut body).await {
            text.extend_from_slice(&bytes);
            if text.len() > LARGEST_REFUSAL {
                break;
            }
        }
        text
    }

    /// How the registry at `address` is spoken to, and what it will ask for. TLS, or if there is none and the
    /// registry runs on this machine, none.
    pub async fn find(&self, address: Address) -> Result<(Address, Option<Challenge>), Fault> {
        match self.ping(&address).await {
            Err((_, SendError::Http(error))) if address.is_local() && (speaks_no_tls(&error) || error.is_connect()) => {
                let plain = address.plain();
                match self.ping(&plain).await {
                    Ok(challenge) => Ok((plain, challenge)),
                    // A certificate that is not trusted is the better explanation than what it is to plain HTTP.
                    Err(_) if is_about_trust(&error) => Err(no_answer(&address.url("/v2/")?, &error)),
                    Err((uri, error)) => Err(error.explain(&uri)),
                }
            }
            Err((uri, error)) => Err(error.explain(&uri)),
            Ok(challenge) => Ok((address, challenge)),
        }
    }

    async fn ping(&self, address: &Address) -> Result<Option<Challenge>, (Uri, SendError)> {
        let uri = address.url("/v2/").map_err(|error| (Uri::default(), SendError::Fault(Fault::Lasting(error))))?;
        let request = empty(Method::GET, &uri).map_err(|fault| (uri.clone(), SendError::Fault(fault)))?;
        let response = self.raw_send(request, None).await?;
        let unauthorized = response.status() == StatusCode::UNAUTHORIZED;
        // A server with TLS answers so to those who speak to it without.
        if !address.secure && response.status() == StatusCode::BAD_REQUEST {
            let text = format!("{uri} answered 400 Bad Request: it seems to want TLS, with which it failed");
            return Err((uri, SendError::Fault(Fault::lasting(text))));
        }
        Ok(if unauthorized { challenge(&response) } else { None })
    }

    async fn client(&self, uri: &Uri) -> Result<Client, Fault> {
        let name = uri.authority().map_or_else(String::new, |authority| authority.as_str().to_owned());
        if let Some(client) = self.lock().get(&name) {
            return Ok(client.clone());
        }
        let (trust, authority, connect) = (self.trust.clone(), name.clone(), self.pace.connect);
        let client = tokio::task::spawn_blocking(move || make_client(&trust, &authority, connect));
        let client = client.await.map_err(|error| Fault::lasting(error.to_string()))??;
        let mut clients = self.lock();
        if clients.len() >= MOST_CLIENTS {
            clients.clear();
        }
        clients.insert(name, client.clone());
        Ok(client)
    }

    /// Forget connections and certificates: somebody may just have put a new one into `certs.d`.
    pub fn forget(&self, address: &Address) {
        self.lock().remove(&address.authority);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Client>> {
        // Every critical section is one map operation: a panic cannot leave the map half-written.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum SendError {
    Http(legacy::Error),
    Fault(Fault),
}

impl SendError {
    fn explain(self, uri: &Uri) -> Fault {
        match self {
            SendError::Http(error) => no_answer(uri, &error),
            SendError::Fault(fault) => fault,
        }
    }
}

fn make_client(trust: &Trust, authority: &str, connect: Duration) -> Result<Client, Fault> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(trust.config(authority)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder.pool_idle_timeout(Duration::from_secs(30)).pool_timer(TokioTimer::new());
    Ok(builder.build(connector))
}

pub fn challenge<B>(response: &Response<B>) -> Option<Challenge> {
    Challenge::read(response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()))
}

pub fn no_body() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub fn empty(method: Method, uri: &Uri) -> Result<Request<Body>, Fault> {
    Request::builder()
        .method(method)
        .uri(uri)
        .header(http::header::USER_AGENT, AGENT)
        .body(no_body())
        .map_err(|error| Fault::lasting(format!("cannot ask {uri}: {error}")))
}

pub const AGENT: &str = concat!("wharf/", env!("CARGO_PKG_VERSION"));

fn is_about_trust(error: &legacy::Error) -> bool {
    !speaks_no_tls(error) && matches!(no_answer(&Uri::default(), error), Fault::Lasting(_))
}

fn silent(uri: &Uri, time: Duration) -> Fault {
    let server = uri.authority().map_or("the registry", |authority| authority.as_str());
    Fault::passing(format!("{server} went silent for {} s", time.as_secs()))
}
