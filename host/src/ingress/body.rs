//! Bodies under their limits: a request's on its way in, a response's on its way out.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use wharf_sandbox::service::RequestBodyError;

use crate::service::{Body, BodyError};

/// What a request's body did wrong, for the answer: the service may report it in other words, or not at all.
#[derive(Clone, Default)]
pub struct Violation(Arc<AtomicU8>);

const TOO_LARGE: u8 = 1;
const TIMEOUT: u8 = 2;

impl Violation {
    pub fn get(&self) -> Option<RequestBodyError> {
        match self.0.load(Ordering::Relaxed) {
            TOO_LARGE => Some(RequestBodyError::TooLarge(0)),
            TIMEOUT => Some(RequestBodyError::Timeout),
            _ => None,
        }
    }
}

/// A moment that ends a body. The timer behind it is made when a body first has to be waited for: most bodies are
/// there with their headers.
struct End {
    at: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl End {
    fn at(at: Instant) -> End {
        End { at, timer: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at))).as_mut().poll(context)
    }
}

/// Bytes that may still pass.
struct Allowance {
    left: u64,
    limit: u64,
}

impl Allowance {
    fn new(limit: u64) -> Allowance {
        Allowance { left: limit, limit }
    }

    /// Whether `frame` still fits.
    fn take(&mut self, frame: &Frame<Bytes>) -> bool {
        let size = frame.data_ref().map_or(0, Bytes::len) as u64;
        let left = self.left.checked_sub(size);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

/// A request's body: ends in [`RequestBodyError`] when it grows too large or takes too long.
pub struct RequestBody<B> {
    body: B,
    allowance: Allowance,
    end: End,
    violation: Violation,
}

impl<B> RequestBody<B> {
    /// `limit` in bytes; `time` from now.
    pub fn new(body: B, limit: u64, time: Duration, violation: Violation) -> RequestBody<B> {
        RequestBody { body, allowance: Allowance::new(limit), end: End::at(Instant::now() + time), violation }
    }

    fn fail(&mut self, what: u8, error: RequestBodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.violation.0.store(what, Ordering::Relaxed);
        Poll::Ready(Some(Err(error.into())))
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for RequestBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(RequestBodyError::Disconnected.into()))),
            Poll::Ready(Some(Ok(frame))) if this.allowance.take(&frame) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Ok(_))) => this.fail(TOO_LARGE, RequestBodyError::TooLarge(this.allowance.limit)),
            Poll::Pending => {
                ready!(this.end.poll(context));
                this.fail(TIMEOUT, RequestBodyError::Timeout)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a response's body was cut short.
#[derive(Debug, thiserror::Error)]
#[error("the response is larger than {0} bytes")]
pub struct ResponseTooLarge(u64);

/// When the response being sent on a connection must be complete. The connection watches it, not the body: a client
/// that reads nothing keeps the body from being asked at all.
#[derive(Clone, Default)]
pub struct Due(Arc<Mutex<Option<Instant>>>);

impl Due {
    pub fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, due: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = due;
    }
}

type OnCut = Box<dyn FnOnce(&BodyError) + Send>;

/// A response's body: holds the request's place in the ladder until its last byte is out.
pub struct ResponseBody {
    body: Body,
    allowance: Allowance,
    due: Due,
    on_cut: Option<OnCut>,
    _place: OwnedSemaphorePermit,
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.due.set(None);
    }
}

impl ResponseBody {
    /// `limit` in bytes; `due` is told `deadline` until the body is done.
    pub fn new(body: Body, limit: u64, deadline: Instant, due: Due, place: OwnedSemaphorePermit) -> Self {
        due.set(Some(deadline));
        ResponseBody { body, allowance: Allowance::new(limit), due, on_cut: None, _place: place }
    }

    /// Called once, with the reason, when the body cannot be completed.
    pub fn on_cut(mut self, report: impl FnOnce(&BodyError) + Send + 'static) -> Self {
        self.on_cut = Some(Box::new(report));
        self
    }

    fn cut(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(report) = self.on_cut.take() {
            report(&error);
        }
        Poll::Ready(Some(Err(error)))
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => this.cut(error),
            Poll::Ready(Some(Ok(frame))) if this.allowance.take(&frame) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Ok(_))) => this.cut(ResponseTooLarge(this.allowance.limit).into()),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
