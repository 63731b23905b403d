//! One call of a service: take an instance, hand it the request, give back its response.
//!
//! **Instances.** By default every request gets a fresh instance: nothing a request leaves behind can reach the
//! next caller. `max_requests > 1` opts in to sequential reuse, which saves about 10 µs a request and, for
//! interpreters (Python, JavaScript), most of the start-up; then globals survive, so a service must not
//! keep one caller's data in them. An instance serves one request at a time; it is retired after
//! `max_requests`, after a trap, a refused allocation or a cancelled request, and when it was idle for long.
//!
//! **The guest runs in the caller's task.** Nothing is spawned: the future of a call, and then the body of its
//! response, drive the guest. Dropping either stops the guest at its next epoch or host call and frees all it
//! held, which is how a client that leaves, a deadline and a shutdown cancel work.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use crate::component::Component;
use crate::governor::{Governor, Usage};
pub use crate::instance::CallError;
use crate::instance::{Mould, failed, unstarted};
use crate::state::{Guest, State};
use crate::stdio::Stdin;
use crate::turn::Turn;

/// An idle instance of a service that reuses them is dropped after this time.
const IDLE: Duration = Duration::from_secs(10);

pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why a request's body ended early. Ingress puts it into the body's error; the guest sees the matching
/// `wasi:http` error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestBodyError {
    /// Limit in bytes.
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the body did not arrive in time")]
    Timeout,
    #[error("the client left before the body was complete")]
    Disconnected,
}

/// A component with what its instances may see and use.
pub struct Service {
    pre: ProxyPre<State>,
    mould: Arc<Mould>,
    max_requests: u32,
    idle: Arc<IdleInstances>,
}

impl Service {
    /// `max_requests`: how many requests one instance may serve, one after the other; 1 is a fresh instance
    /// for each.
    pub fn new(component: Component, guest: Guest, max_requests: u32) -> Service {
        let mould = Arc::new(Mould::new(component.engine, guest));
        Service { pre: component.pre, mould, max_requests: max_requests.max(1), idle: Arc::default() }
    }

    /// What the container has used, its jobs included.
    pub fn usage(&self) -> Usage {
        self.governor().usage()
    }

    pub fn governor(&self) -> &Governor {
        self.mould.governor()
    }

    /// Make one instance and drop it: whatever would stop every request, stops the start instead.
    pub async fn check(&self) -> Result<(), CallError> {
        self.instantiate().await.map(drop)
    }

    /// Answer one request. `deadline` bounds inference the guest asks for; the caller bounds the whole by dropping
    /// the future.
    pub async fn call(
        &self,
        request: http::Request<Body>,
        deadline: Option<Instant>,
    ) -> Result<http::Response<Body>, CallError> {
        let mut instance = match self.idle.take() {
            Some(instance) => instance,
            None => self.instantiate().await?,
        };
        instance.store.data_mut().deadline = deadline;
        instance.store.data_mut().turn = Turn::begin();
        instance.served += 1;

        let (send, head) = oneshot::channel();
        let request = request.map(|body| body.map_err(body_error));
        let mut http = instance.store.data_mut().http();
        let prepared =
            http.new_incoming_request(Scheme::Http, request).and_then(|r| Ok((r, http.new_response_outparam(send)?)));
        let (request, out) = prepared.map_err(|error| CallError::Request(format!("{error:#}")))?;

        let idle = (instance.served < self.max_requests).then(|| self.idle.clone());
        let serve = async move {
            instance.store.set_epoch_deadline(1);
            let handler = instance.proxy.wasi_http_incoming_handler();
            let result = handler.call_handle(&mut instance.store, request, out).await;
            let state = instance.store.data();
            if let Err(error) = result {
                return Err(failed(&error, state));
            }
            if let Some(idle) = idle.filter(|_| !state.meter.denied()) {
                idle.give_back(instance);
            }
            Ok(())
        };
        let mould = self.mould.clone();
        let guest = Box::pin(async move { mould.run(serve).await });
        Call { guest: Some(guest), head: Some(head) }.await
    }

    async fn instantiate(&self) -> Result<Instance, CallError> {
        let make = async {
            let mut store = self.mould.store(Stdin::new(None, false))?;
            match self.pre.instantiate_async(&mut store).await {
                Ok(proxy) => Ok(Instance { store, proxy, served: 0, idle_since: None }),
                Err(error) => Err(unstarted(&error, &store)),
            }
        };
        self.mould.run(make).await
    }
}

struct Instance {
    store: Store<State>,
    proxy: Proxy,
    served: u32,
    idle_since: Option<Instant>,
}

/// Instances waiting for their next request, the longest idle first.
#[derive(Default)]
struct IdleInstances(Mutex<Vec<Instance>>);

impl IdleInstances {
    /// The one used last: its memory is the warmest.
    fn take(&self) -> Option<Instance> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, mut instance: Instance) {
        let now = Instant::now();
        instance.idle_since = Some(now);
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(instance);
        let long = |instance: &Instance| instance.idle_since.is_some_and(|since| now.duration_since(since) > IDLE);
        let retired: Vec<Instance> = match idle.iter().position(|instance| !long(instance)) {
            Some(keep) => idle.drain(..keep).collect(),
            None => Vec::new(),
        };
        drop(idle);
        drop(retired);
    }
}

fn body_error(error: BodyError) -> wasmtime_wasi_http::Error {
    use wasmtime_wasi_http::Error;
    match error.downcast_ref::<RequestBodyError>() {
        Some(RequestBodyError::TooLarge(limit)) => Error::HttpRequestBodySize(Some(*limit)),
        Some(RequestBodyError::Timeout) => Error::ConnectionReadTimeout,
        Some(RequestBodyError::Disconnected) | None => Error::ConnectionTerminated,
    }
}

type GuestFuture = Pin<Box<dyn Future<Output = Result<(), CallError>> + Send>>;

/// Runs the guest until it has set its response.
struct Call {
    guest: Option<GuestFuture>,
    head: Option<oneshot::Receiver<Result<http::Response<WasiBody>, ErrorCode>>>,
}

impl Future for Call {
    type Output = Result<http::Response<Body>, CallError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let ended = match this.guest.as_mut().map(|guest| guest.as_mut().poll(context)) {
            Some(Poll::Ready(result)) => {
                this.guest = None;
                Some(result)
            }
            _ => None,
        };
        let Some(head) = &mut this.head else { return Poll::Pending };
        match head.try_recv() {
            Ok(Ok(response)) => {
                this.head = None;
                // A guest that crashed after its response was complete enough to send has still answered; the
                // body tells how far it came.
                let failed = match ended {
                    Some(Err(error)) => Some(error),
                    _ => None,
                };
                let guest = this.guest.take();
                Poll::Ready(Ok(response.map(|body| GuestBody { body, guest, failed, done: false }.boxed_unsync())))
            }
            Ok(Err(code)) => Poll::Ready(Err(CallError::Refused(format!("{code:?}")))),
            Err(_) => match ended {
                Some(Ok(())) => Poll::Ready(Err(CallError::NoResponse)),
                Some(Err(error)) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            },
        }
    }
}

/// The response's body, and the guest that may still be writing it.
struct GuestBody {
    body: WasiBody,
    guest: Option<GuestFuture>,
    failed: Option<CallError>,
    done: bool,
}

impl http_body::Body for GuestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        if let Some(guest) = &mut this.guest
            && let Poll::Ready(result) = guest.as_mut().poll(context)
        {
            this.guest = None;
            this.failed = result.err();
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        let end = match frame {
            Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => Some(error.to_string()),
            None => None,
        };
        this.done = true;
        // The body ends either because the guest finished it or because the guest is gone.
        match (this.failed.take(), end) {
            (Some(error), _) => Poll::Ready(Some(Err(error.into()))),
            (None, Some(error)) => Poll::Ready(Some(Err(error.into()))),
            (None, None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done || (self.guest.is_none() && self.failed.is_none() && self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
