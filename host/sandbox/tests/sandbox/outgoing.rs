//! Requests of guests: to another guest in memory, and to peers that behave in every way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use wharf_sandbox::egress::{Exchange, Outgoing, OutgoingError, Timeouts};
use wharf_sandbox::service::{Body, BodyError, Service};
use wharf_sandbox::state::Guest;

use crate::guests::{guest, request, service, text};

/// What [`text!`]'s caller answers when its own request failed.
const FAILED: u16 = 599;

async fn status_through(outgoing: impl Outgoing + 'static) -> u16 {
    let caller = Service::new(service(text!("caller")), Guest { outgoing: Arc::new(outgoing), ..guest() }, 1);
    // Whoever waits for ever must not.
    let call = tokio::time::timeout(Duration::from_secs(60), caller.call(request(), None));
    call.await.expect("an answer").unwrap().status().as_u16()
}

/// Another container.
struct Peer(Arc<Service>);

impl Outgoing for Peer {
    fn send(&self, request: Request<Body>, timeouts: Timeouts) -> Exchange {
        let service = self.0.clone();
        Box::pin(async move {
            let answer = service.call(request, timeouts.deadline).await;
            answer.map_err(|error| OutgoingError::Failed(error.to_string()))
        })
    }
}

#[tokio::test]
async fn a_guest_calls_another() {
    let peer = Arc::new(Service::new(service(text!("answer")), guest(), 1));
    assert_eq!(status_through(Peer(peer.clone())).await, 204);
    assert!(peer.usage().cpu > Duration::ZERO);
}

#[tokio::test]
async fn nobody_is_reached_without_a_network() {
    assert_eq!(status_through(wharf_sandbox::egress::DenyAll).await, FAILED);
}

/// Answers at once, and takes the request only as its response is read.
struct AnswersEarly;

struct ReadsLate(Body);

impl http_body::Body for ReadsLate {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        while ready!(Pin::new(&mut self.0).poll_frame(context)).is_some() {}
        Poll::Ready(None)
    }
}

impl Outgoing for AnswersEarly {
    fn send(&self, request: Request<Body>, _: Timeouts) -> Exchange {
        let mut response = Response::new(ReadsLate(request.into_body()).boxed_unsync());
        *response.status_mut() = StatusCode::ACCEPTED;
        Box::pin(async { Ok(response) })
    }
}

#[tokio::test]
async fn who_answers_early_and_reads_late_does_not_block_its_caller() {
    assert_eq!(status_through(AnswersEarly).await, 202);
}
