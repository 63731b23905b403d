//! A published port: bound at start, so that a port in use is an error there; accepts until it is told to drain.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::call::Ladder;
use crate::error::{Error, ErrorKind, Result};

/// After an error of `accept` that is not one connection's (out of file descriptors), wait before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound port and the service behind it.
pub struct Port {
    listener: TcpListener,
    address: SocketAddr,
    ladder: Arc<Ladder>,
}

impl Port {
    /// Bind `address`; port 0 chooses a free one.
    pub async fn bind(address: SocketAddr, ladder: Arc<Ladder>) -> Result<Port> {
        let listener = TcpListener::bind(address).await.map_err(|error| bind_error(address, "-p", error))?;
        let address = listener.local_addr().map_err(|error| bind_error(address, "-p", error))?;
        Ok(Port { listener, address, ladder })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accept and serve until `drain` turns true; then stop accepting, let open requests finish, and return.
    pub async fn serve(self, mut drain: watch::Receiver<bool>) {
        let connections = Arc::new(Semaphore::new(self.ladder.limits().connections));
        let mut open = JoinSet::new();
        loop {
            while open.try_join_next().is_some() {}
            // A place first, then accept: what finds no place waits in the kernel's queue.
            let accept = async {
                let place = connections.clone().acquire_owned().await;
                (self.listener.accept().await, place)
            };
            tokio::select! {
                biased;
                () = told(&mut drain) => break,
                (accepted, place) = accept => match accepted {
                    Ok((stream, _)) => {
                        let connection = serve_connection(stream, self.ladder.clone(), drain.clone());
                        open.spawn(async move {
                            let _place = place;
                            connection.await;
                        });
                    }
                    Err(error) if is_one_connections(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, address = %self.address, "cannot accept connections");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.listener);
        while open.join_next().await.is_some() {}
    }
}

/// Bind errors in the words of the person who chose the port.
pub fn bind_error(address: SocketAddr, flag: &str, error: io::Error) -> Error {
    let (kind, message) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            ErrorKind::Conflict,
            format!(
                "port {} on {} is in use by another process; choose another with {flag}",
                address.port(),
                address.ip()
            ),
        ),
        io::ErrorKind::PermissionDenied => (
            ErrorKind::Unmet,
            format!("port {} needs more rights than this user has; ports from 1024 up do not", address.port()),
        ),
        _ => (ErrorKind::Io, format!("cannot listen on {address}")),
    };
    Error::new(kind, message).because(error)
}

fn is_one_connections(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// Wait until the host drains; a host that is gone drains too.
async fn told(drain: &mut watch::Receiver<bool>) {
    let _ = drain.wait_for(|drain| *drain).await;
}

async fn serve_connection(stream: TcpStream, ladder: Arc<Ladder>, mut drain: watch::Receiver<bool>) {
    // Head and body of a response may leave in two writes; Nagle's algorithm would hold the second until the
    // client's delayed acknowledgement (40 ms).
    let _ = stream.set_nodelay(true);
    let header_time = ladder.limits().header_time;
    let service = service_fn(move |request| {
        let ladder = ladder.clone();
        async move { Ok::<_, Infallible>(ladder.call(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_time)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = told(&mut drain) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // Clients that leave, and bodies cut short (reported where they were cut), are daily business.
        tracing::debug!(%error, "connection ended early");
    }
}
