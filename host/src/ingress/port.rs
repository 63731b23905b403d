//! A published port: bound at start, so that a port in use is an error there; accepts until it is told to drain.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Sleep;

use super::body::Due;
use super::call::Ladder;
use super::counted::Counted;
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
    let due = Due::default();
    let service = {
        let (ladder, due) = (ladder.clone(), due.clone());
        service_fn(move |request| {
            let (ladder, due) = (ladder.clone(), due.clone());
            async move { Ok::<_, Infallible>(ladder.answer(request, due, None).await) }
        })
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ladder.limits().header_time)
        .serve_connection(TokioIo::new(Counted::new(stream, ladder.counters().clone())), service);
    let mut overdue = Overdue { due, timer: None };
    let mut draining = false;
    let result = loop {
        tokio::select! {
            biased;
            result = &mut connection => break result,
            () = poll_fn(|context| overdue.poll(context)) => {
                let seconds = ladder.limits().deadline.as_secs_f32();
                let reason = format!("the response was not complete within {seconds} s");
                tracing::warn!(container = %ladder.name(), reason, "response cut short");
                return;
            }
            () = told(&mut drain), if !draining => {
                draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    match result {
        Ok(()) => {}
        Err(error) if error.is_timeout() => {
            let parts = connection.into_parts();
            // A connection that was merely idle is closed without a word; half a request deserves one.
            if !parts.read_buf.is_empty() {
                say_too_slow(parts.io.into_inner(), ladder.limits().header_time).await;
            }
        }
        // Clients that leave, and bodies cut short (reported where they were cut), are daily business.
        Err(error) => tracing::debug!(%error, "connection ended early"),
    }
}

/// Ready when the response being sent is overdue. Polled after the connection, which may have begun or ended one.
struct Overdue {
    due: Due,
    /// Made when a response has to be waited for: most are out in one write.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Overdue {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.due.get() else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(context)
    }
}

/// hyper closes a connection whose headers do not arrive without an answer: give it one.
async fn say_too_slow(mut stream: Counted<TcpStream>, time: Duration) {
    let body = format!("{{\"error\":\"the headers did not arrive within {} s\"}}", time.as_secs_f32());
    let answer = format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // The client may be gone.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}
