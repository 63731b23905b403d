//! The way in for whoever starts services: guards them with the host's limits and binds their ports.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::Request;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::body::Due;
use super::call::Ladder;
use super::{Limits, Port};
use crate::metrics::Metrics;
use crate::service::front::BindFuture;
use crate::service::{Body, Front, Guarded, HttpService, Listening, Name, ResponseFuture, Traffic};

/// All published ports of a host share its limits and its metrics.
pub struct Ingress {
    limits: Limits,
    metrics: Metrics,
}

impl Ingress {
    pub fn new(limits: Limits, metrics: Metrics) -> Ingress {
        Ingress { limits, metrics }
    }
}

impl Front for Ingress {
    fn guard(&self, name: Name, service: Arc<dyn HttpService>) -> Arc<dyn Guarded> {
        let metrics = self.metrics.container(&name.get());
        Arc::new(Ladder::new(name, service, self.limits, metrics))
    }

    fn renamed(&self, old: &str, new: &str) {
        self.metrics.rename_container(old, new);
    }

    fn forget(&self, name: &str) {
        self.metrics.forget_container(name);
    }
}

impl HttpService for Ladder {
    /// A call from another container: no connection watches its response, so the caller's own deadline must.
    fn call(&self, request: Request<Body>, deadline: Instant) -> ResponseFuture<'_> {
        Box::pin(self.answer(request, Due::default(), Some(deadline)))
    }
}

impl Guarded for Ladder {
    fn bind(self: Arc<Self>, address: SocketAddr) -> BindFuture {
        Box::pin(async move {
            let port = Port::bind(address, self).await?;
            let address = port.address();
            let (drain, draining) = watch::channel(false);
            let serving = tokio::spawn(port.serve(draining));
            Ok(Box::new(Open { address, drain, serving: Serving(serving) }) as Box<dyn Listening>)
        })
    }

    fn traffic(&self) -> Traffic {
        let counters = self.counters();
        Traffic {
            received: counters.received.load(Relaxed),
            sent: counters.sent.load(Relaxed),
            in_flight: self.in_flight() as u64,
            requests: counters.requests.load(Relaxed),
        }
    }

    fn as_service(self: Arc<Self>) -> Arc<dyn HttpService> {
        self
    }
}

struct Open {
    address: SocketAddr,
    drain: watch::Sender<bool>,
    serving: Serving,
}

/// The task behind a port. Aborted when dropped: its connections are its children and go with it.
struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listening for Open {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn close(self: Box<Self>, grace: Option<Duration>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let Open { drain, mut serving, .. } = *self;
            drain.send_replace(true);
            // A task that panicked has nothing left to drain.
            match grace {
                Some(grace) => drop(tokio::time::timeout(grace, &mut serving.0).await),
                None => drop((&mut serving.0).await),
            }
        })
    }
}
