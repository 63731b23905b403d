//! Raw connections: `attach` and `exec` leave HTTP behind and become a pipe in both directions.

use std::future::Future;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::StatusCode;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::ext::ReasonPhrase;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;

use super::call::{Call, Link};
use super::stream::{self, Wire};
use crate::container::runtime::{BoxFuture, Exit, Stream};

/// Python's clients lose bytes that arrive together with the headers: nothing is sent for so long after them.
const QUIET: Duration = Duration::from_millis(50);

/// Bytes read from a client at a time.
const CHUNK: usize = 16 << 10;

/// Both directions, as containers and execs offer them.
pub struct Pipe {
    pub output: mpsc::Receiver<(Stream, Bytes)>,
    /// Dropped at the client's end of input.
    pub input: Option<mpsc::Sender<Bytes>>,
    /// Awaited between the last output and the connection's end: clients ask for the exit code right after.
    pub end: Option<BoxFuture<'static, Exit>>,
}

/// Answer with the pipe: as a raw connection where the client asked for one, as a plain response otherwise.
pub fn answer(mut call: Call, wire: Wire, pipe: Pipe) -> Response {
    let Some(upgrade) = call.upgrade.take() else { return plain(call, wire, pipe) };
    let response = switching(wire.content_type(call.minor));
    tokio::spawn(run(upgrade, call.link, wire, pipe));
    response
}

fn switching(content_type: HeaderValue) -> Response {
    let mut response = stream::response(content_type, Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("tcp"));
    response
}

async fn run(upgrade: OnUpgrade, link: Link, wire: Wire, pipe: Pipe) {
    let connection = match upgrade.await {
        Ok(connection) => connection,
        Err(error) => return tracing::debug!(%error, "a client left before its connection became raw"),
    };
    let (read, write) = split(TokioIo::new(connection));
    tokio::select! {
        () = link.drained() => {}
        () = both(send(write, wire, pipe.output, pipe.end), receive(read, pipe.input)) => {}
    }
}

/// Runs `output` to its end, and `input` as long as that takes: output ends the connection, input does not.
async fn both(output: impl Future<Output = ()>, input: impl Future<Output = ()>) {
    tokio::pin!(output);
    tokio::select! {
        () = &mut output => {}
        () = input => output.await,
    }
}

async fn send(
    mut client: WriteHalf<TokioIo<Upgraded>>,
    wire: Wire,
    mut output: mpsc::Receiver<(Stream, Bytes)>,
    end: Option<BoxFuture<'static, Exit>>,
) {
    tokio::time::sleep(QUIET).await;
    while let Some((stream, payload)) = output.recv().await {
        // A client that left is normal; dropping the receiver says so to the other side.
        if client.write_all(&wire.pack(stream, payload)).await.is_err() {
            return;
        }
    }
    if let Some(end) = end {
        end.await;
    }
    let _ = client.shutdown().await;
}

async fn receive(mut client: ReadHalf<TokioIo<Upgraded>>, input: Option<mpsc::Sender<Bytes>>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        match client.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let chunk = buffer.split().freeze();
        // What nobody reads is thrown away, as a terminal would: the client may go on typing.
        if let Some(input) = &input {
            let _ = input.send(chunk).await;
        }
    }
}

fn plain(mut call: Call, wire: Wire, pipe: Pipe) -> Response {
    call.never_ends();
    if let Some(input) = pipe.input {
        tokio::spawn(copy(std::mem::take(&mut call.body).into_data_stream(), input));
    }
    let pieces = futures_util::stream::unfold(pipe.output, move |mut output| async move {
        let (stream, payload) = output.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(wire.pack(stream, payload)), output))
    });
    stream::response(stream::RAW, Body::from_stream(pieces))
}

async fn copy(mut body: BodyDataStream, input: mpsc::Sender<Bytes>) {
    while let Some(Ok(chunk)) = body.next().await {
        if input.send(chunk).await.is_err() {
            return;
        }
    }
}
