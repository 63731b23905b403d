//! Outgoing HTTP: nothing leaves the sandbox unless the container's network says so, which is asked through
//! [`Outgoing`].
//!
//! **Who drives what.** wasmtime gives each exchange a task, which lives until the head of the response is there; so the
//! calls a guest makes without waiting run side by side. From then on whoever reads the response's body drives it. When
//! the other side is a guest, that body is what drives *it* ([`crate::service`]), and a caller that is
//! still writing its request while nobody reads would wait for ever. In that case, and only then, a second task
//! keeps the response moving.
//!
//! Bodies pass as they are: no byte is copied between two guests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::Sleep;
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

use crate::service::{Body, BodyError};

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

/// One instance's way out.
pub(crate) struct Egress {
    outgoing: Arc<dyn Outgoing>,
    pub(crate) deadline: Option<Instant>,
}

impl Egress {
    pub(crate) fn new(outgoing: Arc<dyn Outgoing>) -> Egress {
        Egress { outgoing, deadline: None }
    }
}

type Driver = Box<dyn Future<Output = Result<()>> + Send>;

impl WasiHttpHooks for Egress {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Driver,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Driver)>> + Send> {
        let options = options.unwrap_or_default();
        let timeouts = Timeouts { connect: options.connect_timeout, deadline: self.deadline };
        let complete = Arc::new(AtomicBool::new(request.body().is_end_stream()));
        let watched = complete.clone();
        let request = request.map(|body| RequestBody { body, complete: watched }.boxed_unsync());
        let exchange = self.outgoing.send(request, timeouts);
        Box::new(async move {
            let response = match options.first_byte_timeout {
                Some(limit) => tokio::time::timeout(limit, exchange).await.map_err(|_| Error::HttpResponseTimeout)?,
                None => exchange.await,
            };
            let response = response.map_err(error_in)?;
            let response = response.map(|body| match options.between_bytes_timeout {
                Some(limit) => Paced { body, limit, sleep: None }.boxed_unsync(),
                None => body.map_err(response_error).boxed_unsync(),
            });
            Ok(if complete.load(Ordering::Acquire) { at_rest(response) } else { driven(response) })
        })
    }
}

/// The reader drives the body.
fn at_rest(response: Response<WasiBody>) -> (Response<WasiBody>, Driver) {
    (response, Box::new(std::future::ready(Ok(()))))
}

/// A task, which wasmtime makes of the second part, drives the body.
fn driven(response: Response<WasiBody>) -> (Response<WasiBody>, Driver) {
    let (head, mut body) = response.into_parts();
    let (send, frames) = mpsc::channel(FRAMES_AHEAD);
    let drive = async move {
        while let Some(frame) = body.frame().await {
            if send.send(frame).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    (Response::from_parts(head, Driven(frames).boxed_unsync()), Box::new(drive))
}

struct Driven(mpsc::Receiver<Result<Frame<Bytes>>>);

impl http_body::Body for Driven {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
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

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
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
    use http_body_util::{Empty, Full};

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

    async fn send(outgoing: impl Outgoing + 'static, body: WasiBody, options: RequestOptions) -> Result<(Bytes, bool)> {
        let mut egress = Egress::new(Arc::new(outgoing));
        let sent = egress.send_request(request(body), Some(options), Box::new(std::future::ready(Ok(()))));
        let (response, driver) = Pin::from(sent).await?;
        // What comes through a task has no known size any more.
        let is_driven = response.body().size_hint().exact().is_none();
        let (read, driven) = tokio::join!(response.into_body().collect(), Pin::from(driver));
        driven?;
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
