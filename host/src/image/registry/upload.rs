//! One blob from the store to a registry, unless it is there already.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::address::{escape, follow, with_query, without_query};
use super::download;
use super::failure::Fault;
use super::narrate::Story;
use super::session::{Answer, Ask, Content, Session};
use super::transport::Body;
use crate::error::Result;
use crate::image::blobs::Blobs;
use crate::image::manifest::Descriptor;

const PIECE: usize = 1 << 16;
const QUEUE: usize = 8;
/// How often an upload's state is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How a blob came to be in the repository.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    Existed,
    /// The registry took it from another of its repositories.
    Mounted,
    Sent,
}

/// `source` is a repository of the same registry which is known to hold the blob.
pub async fn upload(
    session: &Session<'_>,
    blobs: &Blobs,
    blob: &Descriptor,
    source: Option<&str>,
    story: &mut Story<'_>,
) -> Result<Arrival, Fault> {
    let mut attempt = 1;
    loop {
        match try_upload(session, blobs, blob, source, story).await {
            Err(fault) if fault.may_pass() && attempt < session.transport.pace.attempts => {}
            result => return result,
        }
        attempt += 1;
        download::pause(&session.transport.pace, attempt, story).await;
    }
}

async fn try_upload(
    session: &Session<'_>,
    blobs: &Blobs,
    blob: &Descriptor,
    source: Option<&str>,
    story: &mut Story<'_>,
) -> Result<Arrival, Fault> {
    if exists(session, blob).await? {
        return Ok(Arrival::Existed);
    }
    let start = match begin(session, blob, source).await? {
        Some(place) => place,
        None => return Ok(Arrival::Mounted),
    };
    let place = send(session, blobs, blob, start, story).await?;
    let uri = parse(&with_query(&place, "digest", blob.digest.as_str()))?;
    expect(session, empty(Method::PUT, uri), StatusCode::CREATED).await?;
    Ok(Arrival::Sent)
}

async fn exists(session: &Session<'_>, blob: &Descriptor) -> Result<bool, Fault> {
    let uri = session.url(&format!("/blobs/{}", blob.digest))?;
    match session.send(&empty(Method::HEAD, uri)).await {
        Ok(_) => Ok(true),
        Err(Fault::Refused(refusal)) if refusal.is_missing() => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Where to send the blob to; `None` if the registry has it after all.
async fn begin(session: &Session<'_>, blob: &Descriptor, source: Option<&str>) -> Result<Option<Uri>, Fault> {
    let from = source.map(|source| format!("?mount={}&from={}", blob.digest, escape(source)));
    let uri = session.url(&format!("/blobs/uploads/{}", from.unwrap_or_default()))?;
    let answer = session.send(&empty(Method::POST, uri)).await?;
    match answer.response.status() {
        StatusCode::CREATED if source.is_some() => Ok(None),
        StatusCode::ACCEPTED => next_place(&answer).map(Some),
        status => Err(unexpected(&answer.uri, status)),
    }
}

/// Send the content; returns where to finish.
async fn send(
    session: &Session<'_>,
    blobs: &Blobs,
    blob: &Descriptor,
    place: Uri,
    story: &mut Story<'_>,
) -> Result<Uri, Fault> {
    let moved = Arc::new(AtomicU64::new(0));
    let open = || {
        moved.store(0, Ordering::Relaxed);
        Ok(FileBody::start(blobs.open(&blob.digest)?, blob.size, moved.clone()))
    };
    let ask = Ask {
        method: Method::PATCH,
        uri: place,
        headers: vec![(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))],
        content: Content::Stream { open: &open, moved: &moved },
    };
    let mut sending = std::pin::pin!(expect(session, ask, StatusCode::ACCEPTED));
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            answer = &mut sending => return next_place(&answer?),
            _ = look.tick() => story.moved("Pushing", moved.load(Ordering::Relaxed), blob.size),
        }
    }
}

async fn expect(session: &Session<'_>, ask: Ask<'_>, status: StatusCode) -> Result<Answer, Fault> {
    let answer = session.send(&ask).await?;
    if answer.response.status() != status {
        return Err(unexpected(&answer.uri, answer.response.status()));
    }
    Ok(answer)
}

fn empty(method: Method, uri: Uri) -> Ask<'static> {
    Ask { method, uri, headers: Vec::new(), content: Content::Nothing }
}

fn next_place(answer: &Answer) -> Result<Uri, Fault> {
    let location = answer.response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let url = || without_query(&answer.uri);
    let location = location.ok_or_else(|| Fault::lasting(format!("{} does not say where to send a blob", url())))?;
    follow(&answer.uri, location).map_err(|problem| Fault::lasting(format!("{} wants a blob sent to {problem}", url())))
}

fn parse(uri: &str) -> Result<Uri, Fault> {
    uri.parse().map_err(|error| Fault::lasting(format!("the registry gave a broken address: {error}")))
}

fn unexpected(uri: &Uri, status: StatusCode) -> Fault {
    Fault::lasting(format!("{}: answered {status}, which is no answer to an upload", without_query(uri)))
}

/// A file as a request's body, read by a thread of its own and sent at the pace of the connection.
struct FileBody {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
    moved: Arc<AtomicU64>,
}

impl FileBody {
    fn start(mut file: std::fs::File, size: u64, moved: Arc<AtomicU64>) -> Body {
        let (sender, pieces) = mpsc::channel(QUEUE);
        spawn_blocking(move || {
            loop {
                let mut piece = vec![0; PIECE];
                let read = file.read(&mut piece).map(|read| {
                    piece.truncate(read);
                    Bytes::from(piece)
                });
                let last = read.as_ref().map_or(true, Bytes::is_empty);
                let is_end = read.as_ref().is_ok_and(Bytes::is_empty);
                // Nobody listens any more: the request is over.
                if is_end || sender.blocking_send(read).is_err() || last {
                    return;
                }
            }
        });
        FileBody { pieces, left: size, moved }.boxed_unsync()
    }
}

impl hyper::body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = ready!(self.pieces.poll_recv(context));
        Poll::Ready(match piece {
            None if self.left > 0 => {
                Some(Err(io::Error::other("the blob in the store is shorter than its manifest says")))
            }
            None => None,
            Some(Err(error)) => Some(Err(error)),
            Some(Ok(piece)) => {
                let length = piece.len() as u64;
                self.left = self.left.saturating_sub(length);
                self.moved.fetch_add(length, Ordering::Relaxed);
                Some(Ok(Frame::data(piece)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
