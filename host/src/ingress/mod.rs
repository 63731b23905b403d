//! Ingress: published ports, and the ladder of limits every request climbs before it reaches a service.
//!
//! It must never know what a service is made of: it sees [`HttpService`] and nothing behind it. There is no
//! routing here; a port belongs to one container.
//!
//! - [`limits`]: the numbers of the ladder
//! - [`port`]: a bound port: accept, serve, drain
//! - [`body`]: a request's body under its size and time limits, a response's under its own
//! - [`call`]: one request through the ladder
//! - [`front`]: the way in for whoever starts services: [`Front`](crate::service::Front) for the whole host
//! - [`counted`]: a connection whose bytes are counted

pub mod body;
pub mod call;
pub mod counted;
pub mod front;
pub mod limits;
pub mod port;

pub use front::Ingress;
pub use limits::Limits;
pub use port::Port;
