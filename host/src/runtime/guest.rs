//! A sandboxed component as an HTTP service: failures of the guest become answers, their reasons go to its log.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, StatusCode};
use wharf_sandbox::log::{LogSink, LogStream};
use wharf_sandbox::service::{CallError, Service as Sandbox};

use crate::error::{Error, ErrorKind, Result};
use crate::service::{Body, HttpService, Name, ResponseFuture, respond};

pub struct GuestService {
    name: Name,
    sandbox: Sandbox,
    log: Arc<dyn LogSink>,
}

impl GuestService {
    pub fn new(name: Name, sandbox: Sandbox, log: Arc<dyn LogSink>) -> GuestService {
        GuestService { name, sandbox, log }
    }

    /// Make one instance, so that what would stop every request stops the start instead.
    pub async fn check(&self) -> Result<()> {
        self.sandbox
            .check()
            .await
            .map_err(|error| Error::new(ErrorKind::Failed, format!("{} does not start", self.name)).because(error))
    }

    /// The answer for a request the guest gave none to. Its reason belongs to the operator: the caller learns
    /// what kind of failure it was, the container's log the details.
    fn failed(&self, error: &CallError) -> Response<Body> {
        let name = &self.name;
        let (status, message) = match error {
            CallError::Trap(_) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{name} crashed; its log says where")),
            CallError::OutOfMemory { limit } => (
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("{name} ran out of memory: its limit is {} MiB (--memory)", limit >> 20),
            ),
            CallError::NoResponse => (StatusCode::INTERNAL_SERVER_ERROR, format!("{name} ended without a response")),
            CallError::Refused(_) => (StatusCode::BAD_GATEWAY, format!("{name} gave an error instead of a response")),
            CallError::Saturated => (StatusCode::SERVICE_UNAVAILABLE, "the host is full; try again".to_owned()),
            CallError::Request(reason) => (StatusCode::BAD_REQUEST, reason.clone()),
            CallError::Start(_) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{name} cannot start an instance")),
        };
        if status.is_server_error() {
            // Lost when the log is full: the guest's own lines explain more than a missing remark.
            for line in format!("wharf: {error}").lines() {
                self.log.try_write(LogStream::Stderr, Bytes::copy_from_slice(line.as_bytes()));
            }
        }
        respond::error(status, &message)
    }
}

impl HttpService for GuestService {
    fn call(&self, mut request: Request<Body>, deadline: Instant) -> ResponseFuture<'_> {
        Box::pin(async move {
            // HTTP/1.0 clients send no Host, and wasi:http wants an authority.
            if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
                request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
            }
            match self.sandbox.call(request, Some(deadline)).await {
                Ok(response) => response,
                Err(error) => self.failed(&error),
            }
        })
    }
}
