//! Calls that leave a container: to another container in memory, to the outside through a client, or nowhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use wharf_sandbox::egress::{Exchange, Outgoing, OutgoingError, Timeouts};
use wharf_sandbox::log::{LogSink, LogStream};

use super::outside::Outside;
use crate::container::runtime::{Peers, Reach};
use crate::service::{Body, ServiceTable};

/// How long a call between containers may take when its caller has no deadline of its own.
const LONGEST_CALL: Duration = Duration::from_secs(30);

/// One container's way out.
pub struct Calls {
    peers: Arc<dyn Peers>,
    services: ServiceTable,
    outside: Outside,
    log: Arc<dyn LogSink>,
}

impl Calls {
    pub fn new(peers: Arc<dyn Peers>, services: ServiceTable, outside: Outside, log: Arc<dyn LogSink>) -> Calls {
        Calls { peers, services, outside, log }
    }

    /// The caller's log says why: the guest itself learns no more than that it may not.
    fn denied(&self, reason: &str) -> Exchange {
        let line = format!("wharf: outgoing request denied: {reason}");
        // A full log has more urgent lines.
        self.log.try_write(LogStream::Stderr, line.into());
        Box::pin(async { Err(OutgoingError::Denied) })
    }
}

impl Outgoing for Calls {
    fn send(&self, request: Request<Body>, timeouts: Timeouts) -> Exchange {
        let uri = request.uri();
        let secure = uri.scheme_str() == Some("https");
        let Some(host) = uri.host().map(|host| host.trim_matches(['[', ']']).to_owned()) else {
            return self.denied("the request names no host");
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        match self.peers.reach(&host, port) {
            Reach::Container(_) if secure => {
                self.denied(&format!("{host} is a container: calls between containers stay in memory, write http://"))
            }
            Reach::Container(name) => {
                let service = self.services.get(&name).and_then(|service| service.http.clone());
                // It is known to the network and does not run, or runs no service.
                let Some(service) = service else { return Box::pin(async { Err(OutgoingError::Refused) }) };
                let deadline = timeouts.deadline.unwrap_or_else(|| Instant::now() + LONGEST_CALL);
                Box::pin(async move { Ok(service.call(request, deadline).await) })
            }
            Reach::Outside => self.outside.send(request, timeouts, self.peers.clone()),
            Reach::Denied(reason) => self.denied(&reason),
        }
    }
}
