//! `POST …/infer`: one request's way from the socket through the model and back, under one deadline.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout_at;
use wharf_tensor::infer::{Infer, InferError, InferErrorKind, InferRequest, Outputs};

use super::decode::{Decoded, decode, decode_raw};
use super::encode::{Encoded, encode, select};
use super::error::OipError;
use super::metadata::{VERSION, lookup};
use super::path::Target;
use super::{Oip, Options};

/// How many bytes of the body are JSON, where raw tensors follow it.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Larger JSON than this is converted on the blocking pool: at some 100 MB/s it would keep a thread of the
/// reactor for longer than 2 ms.
const INLINE_MAX: usize = 256 << 10;

pub async fn infer(oip: &Oip, target: &Target, request: Request) -> Result<Response, OipError> {
    let arrival = Instant::now();
    let model = lookup(&oip.services, target)?;
    let (parts, body) = request.into_parts();
    check_encoding(&parts.headers)?;
    let json_length = json_length(&parts.headers)?;
    let body = read_body(&parts.headers, body, &oip.options, arrival).await?;

    let decoded = decode_with(body, json_length, model.clone()).await?;
    let selected = select(&decoded.outputs, decoded.binary_by_default, &model.signature().outputs)?;
    let allowed = decoded.timeout.map_or(oip.options.deadline, |timeout| timeout.min(oip.options.deadline));
    let outputs = run(&*model, decoded.inputs, &target.name, arrival, allowed).await?;

    let (name, id) = (target.name.clone(), decoded.id);
    let json_bytes = outputs.iter().map(|(_, tensor)| tensor.data().len()).sum();
    let encoded =
        inline_or_blocking(json_bytes, move || encode(&name, VERSION, id.as_deref(), &selected, &outputs)).await?;
    Ok(respond(encoded))
}

/// Content types are not looked at, as in other servers: curl's default says form data.
fn check_encoding(headers: &HeaderMap) -> Result<(), OipError> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding.as_bytes() != b"identity" => {
            Err(OipError::Encoding { encoding: String::from_utf8_lossy(encoding.as_bytes()).into_owned() })
        }
        _ => Ok(()),
    }
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, InferError> {
    let Some(value) = headers.get(&JSON_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or_else(|| {
        InferError::invalid(format!("Inference-Header-Content-Length is {value:?}, expected a number of bytes"))
    })
}

async fn read_body(headers: &HeaderMap, body: Body, options: &Options, arrival: Instant) -> Result<Bytes, OipError> {
    let too_large = || OipError::BodyTooLarge { limit: options.max_body };
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > options.max_body) {
        return Err(too_large());
    }
    let reading = Limited::new(body, options.max_body).collect();
    match timeout_at((arrival + options.deadline).into(), reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(OipError::BodyUnreadable { reason: error.to_string() }),
        Err(_) => Err(OipError::BodyTooSlow { seconds: options.deadline.as_secs_f32() }),
    }
}

async fn decode_with(body: Bytes, json_length: Option<usize>, model: Arc<dyn Infer>) -> Result<Decoded, InferError> {
    if json_length == Some(0) {
        return decode_raw(body, model.signature());
    }
    inline_or_blocking(json_length.unwrap_or(body.len()), move || decode(&body, json_length)).await
}

async fn inline_or_blocking<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, InferError> + Send + 'static,
) -> Result<T, InferError> {
    if bytes <= INLINE_MAX {
        return work();
    }
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(InferError::new(InferErrorKind::Internal, format!("converting JSON: {error}"))))
}

/// The model keeps the deadline itself; the timer here answers the client even if the model does not.
/// Dropping the model's future, at the deadline or because the client left, cancels the work.
async fn run(
    model: &dyn Infer,
    inputs: Vec<(String, wharf_tensor::Tensor)>,
    name: &str,
    arrival: Instant,
    allowed: Duration,
) -> Result<Outputs, InferError> {
    let deadline = arrival + allowed;
    let answer = model.infer(InferRequest { inputs, deadline: Some(deadline) });
    timeout_at(deadline.into(), answer).await.unwrap_or_else(|_| {
        let message = format!("model {name:?} did not answer within {} ms", allowed.as_secs_f64() * 1e3);
        Err(InferError::new(InferErrorKind::DeadlineExceeded, message))
    })
}

fn respond(encoded: Encoded) -> Response {
    let Some(raw) = encoded.raw else {
        return ([(CONTENT_TYPE, "application/json")], encoded.json).into_response();
    };
    let json_length = HeaderValue::from(encoded.json.len());
    let chunks = Chunks(std::iter::once(encoded.json.into()).chain(raw).filter(|chunk| !chunk.is_empty()).collect());
    let mut response = Response::new(Body::new(chunks));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(JSON_LENGTH, json_length);
    response
}

/// The JSON and the tensors one after the other, of known length and without joining them in memory.
struct Chunks(VecDeque<Bytes>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|chunk| chunk.remaining() as u64).sum())
    }
}
