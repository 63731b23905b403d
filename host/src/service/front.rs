//! How a service gets behind the data plane's limits and onto ports. `ingress/` implements these; whoever starts
//! services asks for them and never learns what a connection is.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{HttpService, Name};
use crate::error::Result;

pub type BindFuture = Pin<Box<dyn Future<Output = Result<Box<dyn Listening>>> + Send>>;

/// Puts services behind the limits of the data plane.
pub trait Front: Send + Sync {
    fn guard(&self, name: Name, service: Arc<dyn HttpService>) -> Arc<dyn Guarded>;

    /// The container is called differently now; what is reported about it goes on under its new name.
    fn renamed(&self, old: &str, new: &str);

    /// The container is gone: report nothing about it any more.
    fn forget(&self, name: &str);
}

/// A service behind its limits. Calling it climbs them, whether the call comes from a port or from another container.
pub trait Guarded: HttpService {
    /// Answer at `address`; port 0 chooses a free one. A port in use is `Conflict`.
    fn bind(self: Arc<Self>, address: SocketAddr) -> BindFuture;

    fn traffic(&self) -> Traffic;

    /// This guard as the service it guards.
    fn as_service(self: Arc<Self>) -> Arc<dyn HttpService>;
}

/// A bound port. Dropping it cuts what is open.
pub trait Listening: Send + Sync {
    fn address(&self) -> SocketAddr;

    /// Accept nothing new and let open requests finish, for `grace` at most (`None`: without end); then cut them.
    fn close(self: Box<Self>, grace: Option<Duration>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// What went through a guard since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes on the wire from clients, and to them; calls between containers count with their bodies.
    pub received: u64,
    pub sent: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// Requests answered.
    pub requests: u64,
}
