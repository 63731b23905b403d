//! For tests: a registry within the process, honest unless told otherwise, that remembers what it was asked.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RANGE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::image::Digest;
use crate::image::manifest::{Descriptor, Manifest, media};

pub type Pieces = BoxStream<'static, io::Result<Frame<Bytes>>>;
pub type Reply = Response<StreamBody<Pieces>>;

/// One request as it was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Called with a request and how many came before it for the same path; `None` leaves the answer to the honest one.
pub type Twist = Arc<dyn Fn(&Seen, usize) -> Option<Reply> + Send + Sync>;

/// A small image of one layer.
pub struct Content {
    pub layer: Bytes,
    pub config: Bytes,
    pub manifest: Bytes,
}

impl Content {
    pub fn new() -> Content {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(5);
        header.set_mode(0o644);
        archive.append_data(&mut header, "hello", &b"hello"[..]).unwrap();
        let layer = Bytes::from(archive.into_inner().unwrap());
        let config = serde_json::json!({
            "architecture": "wasm", "os": "wasi", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer)] },
        });
        let config = Bytes::from(config.to_string());
        let piece = |media_type, bytes: &[u8]| Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64);
        let manifest = Manifest::new(piece(media::CONFIG, &config), vec![piece(media::LAYER, &layer)]);
        let manifest = Bytes::from(serde_json::to_vec(&manifest).unwrap());
        Content { layer, config, manifest }
    }

    pub fn blob_path(bytes: &[u8]) -> String {
        format!("/v2/app/blobs/{}", Digest::of(bytes))
    }

    fn answer(&self, seen: &Seen) -> Reply {
        match seen.path.as_str() {
            "/v2/" => reply(200, Bytes::new()),
            "/v2/app/manifests/1" => typed(media::MANIFEST, self.manifest.clone()),
            path => match [&self.layer, &self.config].into_iter().find(|blob| Content::blob_path(blob) == path) {
                Some(blob) => ranged(seen, blob),
                None => reply(404, Bytes::new()),
            },
        }
    }
}

/// A blob, or the rest of it that was asked for.
fn ranged(seen: &Seen, blob: &Bytes) -> Reply {
    let range = seen.header(RANGE.as_str());
    let from: Option<usize> = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let Some(from) = from else { return reply(200, blob.clone()) };
    let mut reply = reply(206, blob.slice(from..));
    let range = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
    reply.headers_mut().insert("content-range", range.parse().unwrap());
    reply
}

pub fn reply(status: u16, body: Bytes) -> Reply {
    let length = body.len();
    let mut reply = streamed(stream::iter([Ok(Frame::data(body))]).boxed());
    *reply.status_mut() = StatusCode::from_u16(status).unwrap();
    reply.headers_mut().insert(CONTENT_LENGTH, length.into());
    reply
}

pub fn typed(media_type: &'static str, body: Bytes) -> Reply {
    with(reply(200, body), CONTENT_TYPE.as_str(), media_type)
}

pub fn with(mut reply: Reply, name: &'static str, value: &str) -> Reply {
    reply.headers_mut().insert(name, value.parse().unwrap());
    reply
}

/// A body of unknown length.
pub fn streamed(pieces: Pieces) -> Reply {
    Response::new(StreamBody::new(pieces))
}

/// The first half of `body`, then nothing more.
pub fn cut(body: &Bytes) -> Reply {
    let half = body.slice(..body.len() / 2);
    // The break comes after the half has left, not with it.
    let end = stream::once(async {
        tokio::task::yield_now().await;
        Err(io::Error::other("cut"))
    });
    let mut reply = streamed(stream::iter([Ok(Frame::data(half))]).chain(end).boxed());
    reply.headers_mut().insert(CONTENT_LENGTH, body.len().into());
    reply
}

pub fn endless() -> Reply {
    streamed(stream::repeat_with(|| Ok(Frame::data(Bytes::from(vec![b' '; 1 << 16])))).boxed())
}

pub struct Fake {
    /// `127.0.0.1:<port>`.
    pub authority: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// It ends with the runtime.
    pub async fn start(twist: Twist) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (content, log) = (Arc::new(Content::new()), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (content, log, twist) = (content.clone(), log.clone(), twist.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let reply = answer(&content, &log, &twist, &request);
                    async move { Ok::<_, Infallible>(reply) }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Fake { authority, seen }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(content: &Content, log: &Mutex<Vec<Seen>>, twist: &Twist, request: &Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let seen = Seen { method: request.method().clone(), path, headers: request.headers().clone() };
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|earlier| earlier.path == seen.path).count();
        log.push(seen.clone());
        before
    };
    twist(&seen, before).unwrap_or_else(|| content.answer(&seen))
}
