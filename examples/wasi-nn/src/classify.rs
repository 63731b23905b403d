//! From 64 numbers to ten probabilities: what goes into `wasi:nn`, and what comes out.

use std::fmt;

use crate::bindings::wasi::nn::errors::{Error, ErrorCode};
use crate::bindings::wasi::nn::graph;
use crate::bindings::wasi::nn::tensor::{Tensor, TensorType};

/// Hosts differ in how they find a graph: Wharf takes the model's name, `wasmtime` its folder's.
const GRAPH: &str = "digits";
const INPUT: &str = "image";
const OUTPUT: &str = "probabilities";
const SIDE: u32 = 8;
const PIXELS: usize = 64;
const CLASSES: usize = 10;
const F32_BYTES: usize = 4;

#[derive(Debug)]
pub enum Failure {
    /// From `wasi:nn`, with the host's reason.
    Nn { code: ErrorCode, reason: String },
    /// The graph of that name is another model.
    OtherModel(String),
}

impl Failure {
    pub fn status(&self) -> u16 {
        match self {
            Self::Nn { code: ErrorCode::NotFound, .. } => 404,
            Self::Nn { code: ErrorCode::Timeout, .. } => 504,
            Self::Nn { .. } | Self::OtherModel(_) => 500,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nn { code, reason } => write!(f, "wasi:nn {}: {reason}", code_name(*code)),
            Self::OtherModel(seen) => {
                write!(f, "graph `{GRAPH}` must answer `{OUTPUT}` with {CLASSES} fp32 values; it answered {seen}")
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Nn { code: error.code(), reason: error.data() }
    }
}

pub fn pixels_from_bytes(body: Vec<u8>) -> Result<Vec<u8>, String> {
    if body.len() != PIXELS * F32_BYTES {
        return Err(format!(
            "the body has {} bytes; send {PIXELS} f32 values, {} bytes",
            body.len(),
            PIXELS * F32_BYTES
        ));
    }
    if floats(&body).any(|value| !value.is_finite()) {
        return Err("the body holds a value that is not a finite number".to_owned());
    }
    Ok(body)
}

pub fn pixels_from_text(body: &[u8]) -> Result<Vec<u8>, String> {
    let text =
        std::str::from_utf8(body).map_err(|_| "the body is not text; send raw f32 as application/octet-stream")?;
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("the body is empty; send {PIXELS} numbers"));
    }
    let list = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let mut pixels = Vec::with_capacity(PIXELS * F32_BYTES);
    for (index, word) in list.split(',').enumerate() {
        let value = word.trim().parse::<f32>().ok().filter(|value| value.is_finite());
        let value = value.ok_or_else(|| format!("value {index} is `{}`, not a number", shortened(word.trim())))?;
        pixels.extend_from_slice(&value.to_le_bytes());
    }
    match pixels.len() / F32_BYTES {
        PIXELS => Ok(pixels),
        count => Err(format!("the body has {count} numbers; send {PIXELS}, row by row")),
    }
}

/// Runs the model over one picture of little-endian fp32 pixels.
pub fn run(pixels: Vec<u8>) -> Result<Vec<f32>, Failure> {
    let context = graph::load_by_name(GRAPH)?.init_execution_context()?;
    let image = Tensor::new(&[1, 1, SIDE, SIDE], TensorType::Fp32, &pixels);
    let outputs = context.compute(vec![(INPUT.to_owned(), image)])?;
    let Some((_, tensor)) = outputs.iter().find(|(name, _)| name == OUTPUT) else {
        let names: Vec<_> = outputs.iter().map(|(name, _)| name.as_str()).collect();
        return Err(Failure::OtherModel(format!("the outputs {}", names.join(", "))));
    };
    let data = tensor.data();
    if tensor.ty() != TensorType::Fp32 || data.len() != CLASSES * F32_BYTES {
        return Err(Failure::OtherModel(format!("{:?} of shape {:?}", tensor.ty(), tensor.dimensions())));
    }
    Ok(floats(&data).collect())
}

/// `{"digit":7,"probabilities":[…]}`; of equals the lower digit.
pub fn to_json(probabilities: &[f32]) -> String {
    let mut digit = 0;
    let mut best = f32::NEG_INFINITY;
    for (class, probability) in probabilities.iter().enumerate() {
        if *probability > best {
            (digit, best) = (class, *probability);
        }
    }
    // JSON has no NaN; a model that answers one has nothing to say about that class.
    let list: Vec<String> =
        probabilities.iter().map(|p| if p.is_finite() { p.to_string() } else { "null".into() }).collect();
    format!("{{\"digit\":{digit},\"probabilities\":[{}]}}", list.join(","))
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<F32_BYTES>().0.iter().map(|chunk| f32::from_le_bytes(*chunk))
}

/// The code as `wasi:nn` spells it.
fn code_name(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InvalidArgument => "invalid-argument",
        ErrorCode::InvalidEncoding => "invalid-encoding",
        ErrorCode::Timeout => "timeout",
        ErrorCode::RuntimeError => "runtime-error",
        ErrorCode::UnsupportedOperation => "unsupported-operation",
        ErrorCode::TooLarge => "too-large",
        ErrorCode::NotFound => "not-found",
        ErrorCode::Security => "security",
        ErrorCode::Unknown => "unknown",
    }
}

/// Enough of what was sent to find it again; never all of it.
fn shortened(word: &str) -> String {
    const SHOWN: usize = 20;
    if word.chars().count() <= SHOWN { word.to_owned() } else { word.chars().take(SHOWN).chain(['…']).collect() }
}
