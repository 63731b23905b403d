//! `docker save` and `docker load`: images as tar archives, streamed through a thread that may block.

use std::io::{self, Read, Write};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::TryStreamExt;
use http::HeaderValue;
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::call::{Call, blocking};
use super::images::tell;
use super::{progress, stream};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Loaded, Progress};

/// Pieces on their way between the client and the thread.
const PIECES: usize = 16;

/// Bytes gathered before they are sent.
const PIECE: usize = 64 << 10;

const TAR: HeaderValue = HeaderValue::from_static("application/x-tar");

pub async fn save(call: Call, names: Vec<String>) -> Result<Response> {
    if names.is_empty() {
        return Err(Error::invalid("no image was named: say which in names="));
    }
    let images = call.control.images.clone();
    // Found before the first byte: afterwards an error could only break the archive off.
    let (wanted, found) = (names.clone(), images.clone());
    let ids = blocking(move || wanted.iter().map(|name| Ok(found.find(name)?.id)).collect::<Result<Vec<_>>>()).await?;
    for (id, name) in ids.iter().zip(&names) {
        tell(&call.control, "save", &id.to_string(), name);
    }
    Ok(written(TAR, move |out| images.save(&names, out)))
}

/// A body that `write` writes on a thread of its own. When it fails, the connection breaks off, so that nobody takes
/// half a file for a whole one.
pub fn written(
    content_type: HeaderValue,
    write: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static,
) -> Response {
    let (pieces, body) = mpsc::channel::<io::Result<Bytes>>(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut out = io::BufWriter::with_capacity(PIECE, Pieces { pieces: pieces.clone() });
        let result = write(&mut out).and_then(|()| {
            out.flush().map_err(|error| Error::new(ErrorKind::Io, "cannot send the archive").because(error))
        });
        if let Err(error) = result {
            tracing::debug!(error = error.chain(), "an archive broke off");
            let _ = pieces.blocking_send(Err(io::Error::other(error.chain())));
        }
    });
    let pieces = futures_util::stream::unfold(body, |mut body| async move { Some((body.recv().await?, body)) });
    stream::response(content_type, Body::from_stream(pieces))
}

struct Pieces {
    pieces: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client left");
        self.pieces.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub async fn load(mut call: Call) -> Result<Response> {
    let mut body = reader(std::mem::take(&mut call.body));
    let control = call.control.clone();
    progress::answer(move |reporter| {
        blocking(move || {
            for loaded in control.images.load(&mut body, &|progress| reporter.tell(progress))? {
                let (line, name) = match loaded {
                    Loaded::Tag(tag) => (format!("Loaded image: {tag}\n"), tag),
                    Loaded::Id(id) => (format!("Loaded image ID: {id}\n"), id.to_string()),
                };
                tell(&control, "load", &name, &name);
                reporter.tell(Progress::Stream(line));
            }
            Ok(())
        })
    })
    .await
}

/// A request's body for code that blocks, on a thread of its own.
pub fn reader(body: Body) -> impl Read + Send + 'static {
    SyncIoBridge::new(StreamReader::new(body.into_data_stream().map_err(io::Error::other)))
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn bodies_pass_through_threads_whole() {
        let sent: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        let mut reading = reader(Body::from(sent.clone()));
        let response = written(TAR, move |out| {
            io::copy(&mut reading, out).map(|_| ()).map_err(|error| Error::new(ErrorKind::Io, "copy").because(error))
        });
        assert_eq!(response.headers()["content-type"], "application/x-tar");
        assert_eq!(to_bytes(response.into_body(), usize::MAX).await.unwrap(), sent);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_failure_breaks_the_body_off() {
        let response = written(TAR, |out| {
            out.write_all(b"half").map_err(|error| Error::new(ErrorKind::Io, "write").because(error))?;
            Err(Error::new(ErrorKind::Io, "the disk is gone"))
        });
        assert!(to_bytes(response.into_body(), usize::MAX).await.is_err());
    }
}
