//! One request through the ladder.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use wharf_sandbox::service::RequestBodyError;

use super::Limits;
use super::body::{Due, RequestBody, ResponseBody, Violation};
use super::counted::Counters;
use crate::metrics::{ContainerMetrics, Refusal};
use crate::service::{Body, HttpService, Name, respond};

/// A service behind its limits.
pub struct Ladder {
    name: Name,
    service: Arc<dyn HttpService>,
    limits: Limits,
    in_flight: Arc<Semaphore>,
    metrics: ContainerMetrics,
    counters: Arc<Counters>,
}

impl Ladder {
    pub fn new(name: Name, service: Arc<dyn HttpService>, limits: Limits, metrics: ContainerMetrics) -> Ladder {
        let in_flight = Arc::new(Semaphore::new(limits.in_flight));
        Ladder { name, service, limits, in_flight, metrics, counters: Arc::default() }
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Requests being answered now.
    pub fn in_flight(&self) -> usize {
        self.limits.in_flight.saturating_sub(self.in_flight.available_permits())
    }

    /// Answer `request`, whatever happens; `due` is told when the response must be complete. `deadline` is the caller's
    /// own, if it has one. Dropping the future cancels the work.
    pub async fn answer<B>(&self, request: Request<B>, due: Due, deadline: Option<Instant>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    {
        let started = Instant::now();
        let observation = self.metrics.begin();
        let own = started + self.limits.deadline;
        let deadline = deadline.map_or(own, |deadline| deadline.min(own));
        let response = self.climb(request, deadline, due).await;
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        observation.end(response.status().as_u16(), started.elapsed());
        response
    }

    async fn climb<B>(&self, request: Request<B>, deadline: Instant, due: Due) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    {
        let limits = &self.limits;
        if declared_size(&request) > limits.body_size {
            return self.too_large();
        }
        let Ok(place) = self.in_flight.clone().try_acquire_owned() else {
            self.metrics.refused(Refusal::Busy);
            let message =
                format!("{} is busy: {} requests are in flight, its limit; try again", self.name, limits.in_flight);
            return respond::error(StatusCode::SERVICE_UNAVAILABLE, &message);
        };
        let violation = Violation::default();
        let request = request.map(|body| match body.is_end_stream() {
            true => http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync(),
            false => RequestBody::new(body, limits.body_size, limits.body_time, violation.clone()).boxed_unsync(),
        });

        let deadline = tokio::time::Instant::from_std(deadline);
        let answer = tokio::time::timeout_at(deadline, self.service.call(request, deadline.into_std())).await;
        match violation.get() {
            Some(RequestBodyError::Timeout) => return self.too_slow(),
            Some(_) => return self.too_large(),
            None => {}
        }
        let Ok(response) = answer else {
            self.metrics.refused(Refusal::Deadline);
            let message = format!("{} gave no answer within {} s", self.name, limits.deadline.as_secs_f32());
            return respond::error(StatusCode::GATEWAY_TIMEOUT, &message);
        };
        let name = self.name.clone();
        response.map(|body| {
            ResponseBody::new(body, limits.response_size, deadline, due, place)
                .on_cut(move |error| tracing::warn!(container = %name, reason = %error, "response cut short"))
                .boxed_unsync()
        })
    }

    fn too_large(&self) -> Response<Body> {
        self.metrics.refused(Refusal::TooLarge);
        let message = format!("the body is larger than {} bytes, the limit of {}", self.limits.body_size, self.name);
        respond::error(StatusCode::PAYLOAD_TOO_LARGE, &message)
    }

    fn too_slow(&self) -> Response<Body> {
        self.metrics.refused(Refusal::Slow);
        let message = format!("the body did not arrive within {} s", self.limits.body_time.as_secs_f32());
        respond::error(StatusCode::REQUEST_TIMEOUT, &message)
    }
}

/// `Content-Length`, or 0 where there is none: a body of unknown size is counted as it arrives.
fn declared_size<B>(request: &Request<B>) -> u64 {
    request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}
