//! Outgoing HTTP: nothing leaves the sandbox unless the container's network says so, which is asked through
//! [`Outgoing`].
//!
//! **Who drives what.** Each exchange is a task, which lives until the head of the response is there; so the
//! calls a guest makes without waiting run side by side. From then on whoever reads the response's body drives it. When
//! the other side is a guest, that body is what drives *it* ([`crate::service`]), and a caller that is
//! still writing its request while nobody reads would wait for ever. In that case, and only then, a second task
//! keeps the response moving.
//!
//! **`handle` is our own.** That of wasmtime makes the second task for every exchange. A task made by another one displaces
//! the caller's from the slot that tokio runs next, so that another thread is woken to fetch it: four switches of threads a
//! call, where none is needed.
//!
//! Bodies pass as they are: no byte is copied between two guests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::Sleep;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::runtime::{self, AbortOnDropJoinHandle};
use wasmtime_wasi_http::p2::bindings::http::types::{self, ErrorCode};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use crate::service::{Body, BodyError};
use crate::state::State;

/// Frames of a response that its task may be ahead of the guest that reads them.
const FRAMES_AHEAD: usize = 4;

/// Whom a container may call, and how.
pub trait Outgoing: Send + Sync {
    /// Send `request`, whose URI is absolute. Called while the guest stands still: it must not block.
    fn send(&self, request: Request<Body>, timeouts: Timeouts) -> Exchange;
}

/// A request under way. Dropping it cancels.
pub type Exchange = Pin<Box<dyn Future<Output = Result<Response<Body>, OutgoingError>> + Send>>;

/// How long an exchange may take. What the guest allows for the first byte and between bytes is kept by the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection, where there is one.
    pub connect: Option<Duration>,
    /// When the guest itself must have answered.
    pub deadline: Option<Instant>,
}

/// Why there is no response. The guest sees the matching `wasi:http` error code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutgoingError {
    #[error("the container's network does not allow it")]
    Denied,
    #[error("no such host")]
    NoSuchHost,
    #[error("connection refused")]
    Refused,
    #[error("no answer in time")]
    Timeout,
    #[error("{0}")]
    Failed(String),
}

/// A network that reaches nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct DenyAll;

impl Outgoing for DenyAll {
    fn send(&self, request: Request<Body>, _: Timeouts) -> Exchange {
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        tracing::debug!(host, "outgoing request denied: the container has no network that allows it");
        Box::pin(async { Err(OutgoingError::Denied) })
    }
}

/// Links `handle`. The version is that of wasmtime's own binding, which it replaces.
pub(crate) fn add_handle(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.instance("wasi:http/outgoing-handler@0.2.12")?.func_wrap(
        "handle",
        |mut store: StoreContextMut<'_, State>, (request, options): (Resource<_>, Option<Resource<_>>)| {
            Ok((store.data_mut().send(request, options)?,))
        },
    )
}

impl State {
    /// What cannot be sent at all is the inner error.
    fn send(
        &mut self,
        request: Resource<HostOutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> wasmtime::Result<Result<Resource<HostFutureIncomingResponse>, ErrorCode>> {
        let options = match options {
            Some(options) => self.table.delete(options)?,
            None => RequestOptions::default(),
        };
        let request = match absolute(self.table.delete(request)?) {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        let exchange = exchange(&*self.guest.outgoing, request, options, self.deadline);
        let pending = runtime::spawn(async move {
            let (response, driver) = exchange.await?;
            Ok((response, driver.map_or_else(finished, runtime::spawn)))
        });
        Ok(Ok(self.table.push(HostFutureIncomingResponse::Pending(pending))?))
    }
}

/// The request as a client sends it: an absolute URI, which names whom it is for, and that name as `Host`.
fn absolute(request: HostOutgoingRequest) -> Result<Request<WasiBody>, ErrorCode> {
    let HostOutgoingRequest { method, scheme, authority, path_with_query, headers, body } = request;
    let scheme = match scheme {
        Some(types::Scheme::Http) => http::uri::Scheme::HTTP,
        Some(types::Scheme::Https) | None => http::uri::Scheme::HTTPS,
        Some(types::Scheme::Other(_)) => return Err(ErrorCode::HttpProtocolError),
    };
    let authority = authority.unwrap_or_default();
    let path = path_with_query.as_deref().unwrap_or("/");
    let uri = http::Uri::builder().scheme(scheme).authority(authority.as_str()).path_and_query(path).build();
    let uri = uri.map_err(|_| ErrorCode::HttpRequestUriInvalid)?;
    let mut headers = HeaderMap::from(headers);
    match headers.get(CONTENT_LENGTH).map(bytes_announced) {
        Some(None) => return Err(ErrorCode::InternalError(Some("content-length is not a number".to_owned()))),
        // A guest need not have asked for the body whose length it names.
        Some(Some(1..)) if body.is_none() => return Err(ErrorCode::HttpRequestBodySize(Some(0))),
        _ => {}
    }
    let host = HeaderValue::from_str(&authority).map_err(|_| ErrorCode::HttpRequestUriInvalid)?;
    headers.insert(HOST, host);
    let body = body.unwrap_or_else(|| Empty::new().map_err(|never| match never {}).boxed_unsync());
    let mut request = Request::new(body);
    *request.method_mut() = method.try_into().map_err(|_| ErrorCode::HttpRequestMethodInvalid)?;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// `1*DIGIT`, as RFC 9110 has it.
fn bytes_announced(length: &HeaderValue) -> Option<u64> {
    let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

/// What keeps a response moving that nobody reads.
type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Send `request`; the answer, and what drives it where its reader does not.
fn exchange(
    outgoing: &dyn Outgoing,
    request: Request<WasiBody>,
    options: RequestOptions,
    deadline: Option<Instant>,
) -> impl Future<Output = Result<(Response<WasiBody>, Option<Driver>), Error>> + Send + use<> {
    let timeouts = Timeouts { connect: options.connect_timeout, deadline };
    let complete = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    let watched = complete.clone();
    let request = request.map(|body| RequestBody { body, complete: watched }.boxed_unsync());
    let exchange = outgoing.send(request, timeouts);
    async move {
        let response = match options.first_byte_timeout {
            Some(limit) => tokio::time::timeout(limit, exchange).await.map_err(|_| Error::HttpResponseTimeout)?,
            None => exchange.await,
        };
        let response = response.map_err(error_in)?;
        let response = response.map(|body| match options.between_bytes_timeout {
            Some(limit) => Paced { body, limit, sleep: None }.boxed_unsync(),
            None => body.map_err(response_error).boxed_unsync(),
        });
        Ok(if complete.load(Ordering::Acquire) { (response, None) } else { driven(response) })
    }
}

/// The handle of a task that has nothing to do: wasmtime wants one with each response. It never comes near the runtime.
fn finished() -> AbortOnDropJoinHandle<()> {
    LocalSet::new().spawn_local(async {}).into()
}

/// A task drives the body.
fn driven(response: Response<WasiBody>) -> (Response<WasiBody>, Option<Driver>) {
    let (head, mut body) = response.into_parts();
    let (send, frames) = mpsc::channel(FRAMES_AHEAD);
    let drive = async move {
        while let Some(frame) = body.frame().await {
            if send.send(frame).await.is_err() {
                break;
            }
        }
    };
    (Response::from_parts(head, Driven(frames).boxed_unsync()), Some(Box::pin(drive)))
}

struct Driven(mpsc::Receiver<Result<Frame<Bytes>, Error>>);

impl http_body::Body for Driven {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.poll_recv(context)
    }
}

/// The body of a guest's request; tells when it is complete or nobody wants the rest.
struct RequestBody {
    body: WasiBody,
    complete: Arc<AtomicBool>,
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.complete.store(true, Ordering::Release);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.complete.store(true, Ordering::Release);
    }
}

/// A response's body whose frames must not be further apart than `limit`.
struct Paced {
    body: Body,
    limit: Duration,
    /// Runs while a frame is waited for.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.sleep = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(response_error)));
        }
        let limit = self.limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(sleep.as_mut().poll(context));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn error_in(error: OutgoingError) -> Error {
    match error {
        OutgoingError::Denied => Error::HttpRequestDenied,
        OutgoingError::NoSuchHost => Error::DnsError { rcode: Some("NXDOMAIN".to_owned()), info_code: None },
        OutgoingError::Refused => Error::ConnectionRefused,
        OutgoingError::Timeout => Error::ConnectionTimeout,
        OutgoingError::Failed(reason) => Error::InternalError(Some(reason)),
    }
}

fn response_error(error: BodyError) -> Error {
    match error.downcast::<OutgoingError>() {
        Ok(error) => error_in(*error),
        Err(error) => {
            tracing::debug!(error, "the body of an outgoing request's response ended early");
            Error::HttpResponseIncomplete
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    /// Answers with what it was asked for, after a while, and holds the request as long as somebody holds the answer.
    struct Answer(Duration);

    struct Holding {
        answer: Full<Bytes>,
        _request: Request<Body>,
    }

    impl Outgoing for Answer {
        fn send(&self, request: Request<Body>, _: Timeouts) -> Exchange {
            let delay = self.0;
            Box::pin(async move {
                tokio::time::sleep(delay).await;
                let answer = Full::from(request.uri().to_string());
                Ok(Response::new(Holding { answer, _request: request }.boxed_unsync()))
            })
        }
    }

    impl http_body::Body for Holding {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Pin::new(&mut self.answer).poll_frame(context).map_err(|never| match never {})
        }

        fn size_hint(&self) -> SizeHint {
            self.answer.size_hint()
        }
    }

    fn request(body: WasiBody) -> Request<WasiBody> {
        Request::get("http://peer/").body(body).unwrap()
    }

    fn empty() -> WasiBody {
        Empty::new().map_err(|never| match never {}).boxed_unsync()
    }

    async fn send(outgoing: impl Outgoing, body: WasiBody, options: RequestOptions) -> Result<(Bytes, bool), Error> {
        let (response, driver) = exchange(&outgoing, request(body), options, None).await?;
        let is_driven = driver.is_some();
        let driver = driver.unwrap_or_else(|| Box::pin(async {}));
        let (read, ()) = tokio::join!(response.into_body().collect(), driver);
        Ok((read?.to_bytes(), is_driven))
    }

    #[tokio::test]
    async fn a_response_is_driven_only_while_the_request_is_open() {
        let answer = send(Answer(Duration::ZERO), empty(), RequestOptions::default()).await.unwrap();
        assert_eq!(answer, (Bytes::from("http://peer/"), false));
        let open = Full::from("more").map_err(|never| match never {}).boxed_unsync();
        let answer = send(Answer(Duration::ZERO), open, RequestOptions::default()).await.unwrap();
        assert_eq!(answer, (Bytes::from("http://peer/"), true));
    }

    #[test]
    fn a_length_that_is_no_number_is_refused() {
        let announced = |text: &'static str| bytes_announced(&HeaderValue::from_static(text));
        assert_eq!(
            ["0", "18", "+18", "", "1 8", "99999999999999999999"].map(announced),
            [Some(0), Some(18), None, None, None, None]
        );
    }

    #[tokio::test]
    async fn errors_become_those_of_wasi() {
        let denied = send(DenyAll, empty(), RequestOptions::default()).await.unwrap_err();
        assert!(matches!(denied, Error::HttpRequestDenied));
        let impatient =
            RequestOptions { first_byte_timeout: Some(Duration::from_millis(1)), ..RequestOptions::default() };
        let late = send(Answer(Duration::from_secs(3600)), empty(), impatient).await.unwrap_err();
        assert!(matches!(late, Error::HttpResponseTimeout));
        assert!(matches!(error_in(OutgoingError::NoSuchHost), Error::DnsError { .. }));
        let cut: BodyError = Box::new(OutgoingError::Timeout);
        assert!(matches!(response_error(cut), Error::ConnectionTimeout));
        assert!(matches!(response_error("gone".into()), Error::HttpResponseIncomplete));
    }
}
