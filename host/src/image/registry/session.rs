//! One conversation with one repository of a registry: who we are is proven when it is asked for, redirects are
//! followed, refusals become faults.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::Credentials;
use super::address::{Address, escape, follow, same_server, without_query};
use super::challenge::Challenge;
use super::failure::{Fault, Refusal};
use super::transport::{Body, Transport, challenge, empty};
use crate::error::{Error, ErrorKind};

const MOST_REDIRECTS: usize = 5;
/// How often one request may be asked who is there: once for a token that ran out, once for a name and a password.
const MOST_PROOFS: usize = 3;
const LARGEST_TOKEN: usize = 1 << 20;
/// What a token lasts if its seller does not say, by the protocol.
const TOKEN_LASTS: u64 = 60;
/// A token that ends within this is not used any more: the request has to arrive before.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);
const CLIENT: &str = "wharf";

pub struct Session<'a> {
    pub transport: &'a Transport,
    pub address: Address,
    /// Empty while nothing but the registry itself is of interest.
    pub repository: String,
    credentials: Option<&'a Credentials>,
    /// What a token is asked for, `repository:app:pull`.
    scopes: Vec<String>,
    proof: Mutex<Proof>,
}

/// What is known of how to prove who we are.
struct Proof {
    challenge: Option<Challenge>,
    header: Option<(HeaderValue, Option<Instant>)>,
}

/// A request, as often as it must be sent.
pub struct Ask<'a> {
    pub method: Method,
    pub uri: Uri,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub content: Content<'a>,
}

pub enum Content<'a> {
    Nothing,
    Bytes(Bytes),
    /// Made anew for each attempt; the number counts what has left.
    Stream {
        open: &'a (dyn Fn() -> Result<Body, Error> + Send + Sync),
        moved: &'a AtomicU64,
    },
}

/// An answer of success, and where it came from in the end.
#[derive(Debug)]
pub struct Answer {
    pub uri: Uri,
    pub response: Response<Incoming>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    /// Seconds.
    expires_in: Option<u64>,
}

impl<'a> Session<'a> {
    pub async fn open(
        transport: &'a Transport,
        address: Address,
        repository: &str,
        credentials: Option<&'a Credentials>,
        scopes: Vec<String>,
    ) -> Result<Session<'a>, Fault> {
        let (address, challenge) = transport.find(address).await?;
        let proof = Mutex::new(Proof { challenge, header: None });
        Ok(Session { transport, address, repository: repository.to_owned(), credentials, scopes, proof })
    }

    /// `tail` is what follows the repository's name, such as `/blobs/…`.
    pub fn url(&self, tail: &str) -> Result<Uri, Fault> {
        Ok(self.address.url(&format!("/v2/{}{tail}", self.repository))?)
    }

    pub async fn get(&self, uri: Uri, headers: Vec<(HeaderName, HeaderValue)>) -> Result<Answer, Fault> {
        self.send(&Ask { method: Method::GET, uri, headers, content: Content::Nothing }).await
    }

    /// Success, or why not. What is needed to be let in is found out and remembered.
    pub async fn send(&self, ask: &Ask<'_>) -> Result<Answer, Fault> {
        let registry = self.address.url("/v2/")?;
        let mut proof = self.proof(None, ask).await?;
        let mut proofs = 0;
        loop {
            let answer = self.follow(ask, proof.as_ref()).await?;
            let status = answer.response.status();
            if status.is_success() {
                return Ok(answer);
            }
            // Only the registry may ask: another server, sent on to, would be told the password by its own answer.
            let asks = status == StatusCode::UNAUTHORIZED && same_server(&answer.uri, &registry);
            proofs += 1;
            let fresh = match challenge(&answer.response).filter(|_| asks && proofs <= MOST_PROOFS) {
                Some(challenge) => self.proof(Some((challenge, proof.as_ref())), ask).await?,
                None => None,
            };
            if fresh.is_none() || fresh == proof {
                return Err(Fault::Refused(self.refusal(ask, answer).await));
            }
            proof = fresh;
        }
    }

    /// The header to show; after a refusal of `shown`, with its challenge, another one if there can be one.
    async fn proof(
        &self,
        refused: Option<(Challenge, Option<&HeaderValue>)>,
        ask: &Ask<'_>,
    ) -> Result<Option<HeaderValue>, Fault> {
        // Held while a token is bought, so that parallel downloads do not each buy their own.
        let mut proof = self.proof.lock().await;
        let valid = proof.header.as_ref().filter(|(_, until)| until.is_none_or(|until| Instant::now() < until));
        let valid = valid.map(|(header, _)| header.clone());
        if let Some((challenge, shown)) = refused {
            if valid.is_some() && valid.as_ref() != shown {
                return Ok(valid);
            }
            // A proof that was just made for this challenge and refused will not get better.
            if shown.is_some() && proof.challenge.as_ref() == Some(&challenge) && valid.is_some() {
                return Ok(None);
            }
            proof.challenge = Some(challenge);
        } else if valid.is_some() {
            return Ok(valid);
        }
        let made = match &proof.challenge {
            None => return Ok(None),
            Some(Challenge::Basic) => (self.basic(ask)?, None),
            Some(Challenge::Bearer { realm, service, scope }) => {
                self.token(realm, service.as_deref(), scope.as_deref()).await?
            }
        };
        proof.header = Some(made.clone());
        Ok(Some(made.0))
    }

    fn basic(&self, ask: &Ask<'_>) -> Result<HeaderValue, Fault> {
        if let Some(header) = self.credentials.and_then(basic_header) {
            return Ok(header);
        }
        let (url, server) = (without_query(&ask.uri), &self.address.authority);
        let text = format!("{} \"{url}\": no basic auth credentials; log in first: docker login {server}", ask.method);
        Err(Fault::Lasting(Error::new(ErrorKind::Unauthorized, text)))
    }

    /// Buy a token: with the long-lived one of a login, with name and password, or as a stranger.
    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<(HeaderValue, Option<Instant>), Fault> {
        let server = self.address.url("/v2/")?;
        let realm = follow(&server, realm)
            .map_err(|problem| Fault::lasting(format!("{server} wants a token to be fetched from {problem}")))?;
        let scopes = match scope {
            Some(scope) if self.scopes.is_empty() => vec![scope.to_owned()],
            _ => self.scopes.clone(),
        };
        let mut query: Vec<(&str, &str)> = service.map(|service| ("service", service)).into_iter().collect();
        let identity = self.credentials.and_then(|credentials| credentials.identity_token.as_deref());
        let joined = scopes.join(" ");
        let request = match identity.filter(|token| !token.is_empty()) {
            Some(identity) => {
                let grant = [("client_id", CLIENT), ("grant_type", "refresh_token"), ("refresh_token", identity)];
                query.extend(grant);
                query.push(("scope", &joined));
                form(&realm, &query)?
            }
            None => {
                query.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
                self.token_request(&realm, query)?
            }
        };
        let method = request.method().clone();
        let response = self.transport.send(request, None).await?;
        let status = response.status();
        if !status.is_success() {
            let text = self.transport.read_refusal(&realm, response.into_body()).await;
            return Err(Fault::Refused(token_refusal(&method, &realm, status, &text)));
        }
        let text = self.transport.read(&realm, response.into_body(), LARGEST_TOKEN, "the token").await?;
        read_token(&realm, &text)
    }

    fn token_request<'q>(&'q self, realm: &Uri, mut query: Vec<(&'q str, &'q str)>) -> Result<Request<Body>, Fault> {
        let credentials = self.credentials.filter(|credentials| !credentials.username.is_empty());
        if let Some(credentials) = credentials {
            query.push(("account", &credentials.username));
        }
        let mark = if realm.query().is_some() { '&' } else { '?' };
        let uri = format!("{realm}{mark}{}", pairs(&query));
        let uri = uri.parse().map_err(|error| Fault::lasting(format!("{realm} sells no tokens: {error}")))?;
        let mut request = empty(Method::GET, &uri)?;
        if let Some(header) = credentials.and_then(basic_header) {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        Ok(request)
    }

    async fn follow(&self, ask: &Ask<'_>, proof: Option<&HeaderValue>) -> Result<Answer, Fault> {
        let mut uri = ask.uri.clone();
        let registry = self.address.url("/v2/")?;
        for _ in 0..=MOST_REDIRECTS {
            let (mut request, moved) = ask.request(&uri)?;
            // Another server has no business with our password; it is let in by the address it was given.
            if let Some(proof) = proof.filter(|_| same_server(&uri, &registry)) {
                request.headers_mut().insert(AUTHORIZATION, proof.clone());
            }
            let response = self.transport.send(request, moved).await?;
            let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
            let reading = ask.method == Method::GET || ask.method == Method::HEAD;
            match location.filter(|_| response.status().is_redirection() && reading) {
                Some(location) => {
                    uri = follow(&uri, location).map_err(|problem| {
                        Fault::lasting(format!("{} sends us on to {problem}", without_query(&uri)))
                    })?;
                }
                None => return Ok(Answer { uri, response }),
            }
        }
        Err(Fault::lasting(format!("{} sends us from one place to the next without end", without_query(&ask.uri))))
    }

    async fn refusal(&self, ask: &Ask<'_>, answer: Answer) -> Refusal {
        let Answer { uri, response } = answer;
        let status = response.status();
        let wanted = response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let scope = wanted.into_iter().any(|value| value.contains("insufficient_scope"));
        let text = self.transport.read_refusal(&uri, response.into_body()).await;
        let mut refusal = Refusal::read(&ask.method, &uri, status, &text);
        if scope {
            refusal.code = "DENIED".into();
            refusal.message = "denied: requested access to the resource is denied".into();
        } else if status == StatusCode::UNAUTHORIZED && refusal.code.is_empty() {
            refusal.code = "UNAUTHORIZED".into();
            refusal.message = "unauthorized: authentication required".into();
        }
        refusal
    }
}

impl Ask<'_> {
    fn request(&self, uri: &Uri) -> Result<(Request<Body>, Option<&AtomicU64>), Fault> {
        let mut request = empty(self.method.clone(), uri)?;
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        let moved = match &self.content {
            Content::Nothing => None,
            Content::Bytes(bytes) => {
                *request.body_mut() = whole(bytes.clone());
                None
            }
            Content::Stream { open, moved } => {
                *request.body_mut() = open()?;
                Some(*moved)
            }
        };
        Ok((request, moved))
    }
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn form(uri: &Uri, fields: &[(&str, &str)]) -> Result<Request<Body>, Fault> {
    let mut request = empty(Method::POST, uri)?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    *request.body_mut() = whole(pairs(fields).into());
    Ok(request)
}

fn pairs(fields: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", escape(value));
    fields.iter().map(pair).collect::<Vec<_>>().join("&")
}

fn read_token(realm: &Uri, text: &[u8]) -> Result<(HeaderValue, Option<Instant>), Fault> {
    let broken = || Fault::lasting(format!("{} gave something else than a token", without_query(realm)));
    let answer: Token = serde_json::from_slice(text).map_err(|_| broken())?;
    let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if token.is_empty() {
        return Err(broken());
    }
    let lasts = Duration::from_secs(answer.expires_in.unwrap_or(TOKEN_LASTS)).max(TOKEN_MARGIN * 2);
    let until = Instant::now().checked_add(lasts - TOKEN_MARGIN);
    Ok((secret(format!("Bearer {token}")).ok_or_else(broken)?, until))
}

fn token_refusal(method: &Method, realm: &Uri, status: StatusCode, text: &[u8]) -> Refusal {
    let mut refusal = Refusal::read(method, realm, status, text);
    if status == StatusCode::UNAUTHORIZED && refusal.code.is_empty() {
        refusal.code = "UNAUTHORIZED".into();
        refusal.message = "unauthorized: incorrect username or password".into();
    }
    refusal
}

fn basic_header(credentials: &Credentials) -> Option<HeaderValue> {
    if credentials.username.is_empty() {
        return None;
    }
    let pair = STANDARD.encode(format!("{}:{}", credentials.username, credentials.password));
    secret(format!("Basic {pair}"))
}

/// A header that never shows up in a log.
fn secret(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
