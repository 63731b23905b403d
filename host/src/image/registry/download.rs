//! One blob from a registry into the store. It lands whole and checked or stays a partial file, with which the
//! next attempt, of this process or a later one, goes on.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::failure::Fault;
use super::narrate::Story;
use super::session::{Answer, Session};
use super::transport::Pace;
use crate::error::{Error, ErrorKind, Result};
use crate::image::blobs::{BlobWriter, Blobs};
use crate::image::manifest::Descriptor;

/// Pieces on their way to the disk, so that the network need not wait for each.
const QUEUE: usize = 16;
/// Bytes which make an attempt count as none: a bad line may be cut often and still get there, but a server that
/// sends a byte at a time is given up.
const WORTHWHILE: u64 = 1 << 20;

/// Fetch `blob` unless it is there. Cut connections are mended by asking for the rest.
pub async fn download(
    session: &Session<'_>,
    blobs: &Blobs,
    blob: &Descriptor,
    story: &mut Story<'_>,
) -> Result<(), Fault> {
    let mut attempt = 1;
    loop {
        let mut gained = 0;
        let fault = match fetch(session, blobs, blob, story, &mut gained).await {
            Ok(()) => return Ok(()),
            Err(fault) => fault,
        };
        attempt = if gained >= WORTHWHILE { 2 } else { attempt + 1 };
        if !fault.may_pass() || attempt > session.transport.pace.attempts {
            return Err(fault);
        }
        pause(&session.transport.pace, attempt, story).await;
    }
}

/// Wait before `attempt`, the second or a later one.
pub async fn pause(pace: &Pace, attempt: u32, story: &mut Story<'_>) {
    let pause = pace.pause * 2u32.saturating_pow(attempt.saturating_sub(2).min(6));
    if pause > Duration::ZERO {
        story.tell(&format!("Retrying in {} second{}", pause.as_secs(), if pause.as_secs() == 1 { "" } else { "s" }));
        tokio::time::sleep(pause).await;
    }
}

/// `gained` is how many bytes came, also if it fails.
async fn fetch(
    session: &Session<'_>,
    blobs: &Blobs,
    blob: &Descriptor,
    story: &mut Story<'_>,
    gained: &mut u64,
) -> Result<(), Fault> {
    let (store, digest, size) = (blobs.clone(), blob.digest.clone(), blob.size);
    let mut writer = blocking(move || {
        let mut writer = store.partial(&digest)?;
        // Somebody else's idea of this blob.
        if writer.position() > size {
            writer.restart()?;
        }
        Ok(writer)
    })
    .await?;
    let had = writer.position();
    if had < size {
        let answer = ask(session, blob, had).await?;
        writer = match begins_at(&answer, blob, had)? {
            start if start == had => writer,
            _ => {
                blocking(move || {
                    writer.restart()?;
                    Ok(writer)
                })
                .await?
            }
        };
        writer = receive(session, blob, answer, writer, story, gained).await?;
    }
    story.tell("Verifying Checksum");
    let expected = blob.digest.clone();
    match blocking(move || writer.commit(Some(&expected))).await {
        Ok(_) => Ok(()),
        // The first part may be from another time or another registry; it is gone now, and the whole is asked for.
        Err(error) if had > 0 && error.kind() == ErrorKind::Failed => Err(Fault::Passing(error)),
        Err(error) if error.kind() == ErrorKind::Failed => {
            let text = format!(
                "filesystem layer verification failed for digest {}: the registry sent something else; if it is yours, \
                 push the image again",
                blob.digest
            );
            Err(Fault::Lasting(Error::new(ErrorKind::Failed, text).because(error)))
        }
        Err(error) => Err(Fault::Lasting(error)),
    }
}

async fn ask(session: &Session<'_>, blob: &Descriptor, from: u64) -> Result<Answer, Fault> {
    let uri = session.url(&format!("/blobs/{}", blob.digest))?;
    // Compressed on the way, sizes and ranges would mean something else.
    let plain = || vec![(ACCEPT_ENCODING, HeaderValue::from_static("identity"))];
    if from == 0 {
        return session.get(uri, plain()).await;
    }
    let mut headers = plain();
    if let Ok(range) = HeaderValue::from_str(&format!("bytes={from}-")) {
        headers.push((RANGE, range));
    }
    match session.get(uri.clone(), headers).await {
        Err(Fault::Refused(refusal)) if refusal.status == StatusCode::RANGE_NOT_SATISFIABLE => {
            session.get(uri, plain()).await
        }
        answer => answer,
    }
}

/// Where in the blob the answer starts: where we asked it to, or at its beginning. What it says of sizes must fit the
/// manifest.
fn begins_at(answer: &Answer, blob: &Descriptor, asked: u64) -> Result<u64, Fault> {
    let headers = answer.response.headers();
    let start = match answer.response.status() {
        StatusCode::PARTIAL_CONTENT if asked > 0 => {
            if range_start(headers) != Some(asked) {
                return Err(Fault::passing(format!(
                    "the registry sent another part of {} than was asked",
                    blob.digest
                )));
            }
            asked
        }
        StatusCode::OK => 0,
        status => return Err(Fault::lasting(format!("the registry answered {status} when asked for {}", blob.digest))),
    };
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length != blob.size - start => {
            Err(wrong_size(blob, &format!("{}", start.saturating_add(length))))
        }
        _ => Ok(start),
    }
}

/// From `bytes 100-199/200`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

async fn receive(
    session: &Session<'_>,
    blob: &Descriptor,
    answer: Answer,
    writer: BlobWriter,
    story: &mut Story<'_>,
    gained: &mut u64,
) -> Result<BlobWriter, Fault> {
    let Answer { uri, response } = answer;
    let mut body = response.into_body();
    let mut position = writer.position();
    let (pieces, writing) = write_behind(writer);
    let end = loop {
        story.moved("Downloading", position, blob.size);
        match session.transport.next(&uri, &mut body).await {
            Ok(Some(piece)) if piece.len() as u64 > blob.size - position => {
                break Err(wrong_size(blob, &format!("more than {}", blob.size)));
            }
            Ok(Some(piece)) => {
                position += piece.len() as u64;
                *gained += piece.len() as u64;
                // The writer has stopped; its own error says why.
                if pieces.send(piece).await.is_err() {
                    break Ok(());
                }
            }
            Ok(None) if position < blob.size => {
                break Err(Fault::passing(format!("the connection was cut at {position} of {} bytes", blob.size)));
            }
            Ok(None) => break Ok(()),
            Err(fault) => break Err(fault),
        }
    };
    drop(pieces);
    let writer = writing.await.map_err(|error| Fault::lasting(error.to_string()))??;
    end.map(|()| writer)
}

/// A thread that writes what it is sent, until there is no more or the disk is full.
fn write_behind(mut writer: BlobWriter) -> (mpsc::Sender<Bytes>, JoinHandle<Result<BlobWriter>>) {
    let (sender, mut pieces) = mpsc::channel::<Bytes>(QUEUE);
    let writing = spawn_blocking(move || {
        while let Some(piece) = pieces.blocking_recv() {
            writer.write_all(&piece).map_err(|error| {
                Error::new(ErrorKind::Io, "cannot write the downloaded layer; is the disk full?").because(error)
            })?;
        }
        Ok(writer)
    });
    (sender, writing)
}

fn wrong_size(blob: &Descriptor, seen: &str) -> Fault {
    Fault::lasting(format!(
        "{} is {} bytes long by the manifest, but the registry sends {seen}; push the image again",
        blob.digest, blob.size
    ))
}

/// Run the store's part off the async threads.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let lost = |error: tokio::task::JoinError| Error::new(ErrorKind::Failed, "the image store gave up").because(error);
    spawn_blocking(work).await.map_err(lost)?
}
