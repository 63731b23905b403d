//! The host's own port: Open Inference Protocol, `/metrics`, and the dashboard at `/`.

use std::net::SocketAddr;

use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::board::Board;
use super::dashboard;
use super::host::Host;
use crate::error::{Error, ErrorKind, Result};
use crate::ingress::{Limits, port};
use crate::metrics::Metrics;
use crate::oip;

pub struct HostPort {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
}

pub async fn bind(address: SocketAddr, host: &Host, limits: &Limits, board: Board) -> Result<HostPort> {
    let options =
        oip::Options { deadline: limits.deadline, max_body: usize::try_from(limits.body_size).unwrap_or(usize::MAX) };
    let metrics = host.metrics.clone();
    let listener = TcpListener::bind(address).await.map_err(|error| port::bind_error(address, "--http", error))?;
    let address = listener
        .local_addr()
        .map_err(|error| Error::new(ErrorKind::Io, "cannot read the host port's address").because(error))?;
    let url = format!("http://{address}");
    let router = oip::router(host.services.clone(), options)
        .route("/", get(|| async move { Html(dashboard::page(&board.view(&url))) }))
        .route("/metrics", get(|| async move { encode(&metrics) }))
        .fallback(unknown_path);
    Ok(HostPort { listener, address, router })
}

impl HostPort {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn serve(self, mut drain: watch::Receiver<bool>) {
        let listener = self.listener.tap_io(|stream| {
            // See ingress/port.rs: two writes must not wait for each other.
            let _ = stream.set_nodelay(true);
        });
        let stop = async move {
            let _ = drain.wait_for(|drain| *drain).await;
        };
        if let Err(error) = axum::serve(listener, self.router).with_graceful_shutdown(stop).await {
            tracing::error!(%error, "the host port ended");
        }
    }
}

async fn unknown_path(uri: Uri) -> impl IntoResponse {
    let message = format!("no {} here: this port has /v2 (Open Inference Protocol), /metrics and /", uri.path());
    (StatusCode::NOT_FOUND, Json(serde_json::json!({ "error": message })))
}

fn encode(metrics: &Metrics) -> impl IntoResponse + use<> {
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.encode())
}
