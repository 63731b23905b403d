//! What is asked of a model: its signature, a request, an answer, an error. The seam between whoever
//! asks (a guest, a protocol) and whoever runs the model (or batches for it).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::{DType, Tensor};

/// One input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: Arc<str>,
    pub dtype: DType,
    /// `None` is a dimension the model leaves open (-1 on the wire).
    pub shape: Vec<Option<usize>>,
}

/// What a model takes and gives, in the model's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// `<project>_<format>` as in the Open Inference Protocol, e.g. `onnx_onnxv1`.
    pub platform: &'static str,
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
}

/// A tensor in memory that somebody else owns, e.g. a guest's linear memory: raw little-endian bytes,
/// possibly not aligned for their datatype.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    pub name: &'a str,
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub data: &'a [u8],
}

/// All outputs, in the model's order.
pub type Outputs = Vec<(Arc<str>, Tensor)>;

pub type InferFuture = Pin<Box<dyn Future<Output = Result<Outputs, InferError>> + Send>>;

#[derive(Clone, Debug)]
pub struct InferRequest {
    /// Every input of the model exactly once, in any order.
    pub inputs: Vec<(String, Tensor)>,
    /// When an answer is of no use any more: such a request is dropped from the queue, or stopped while
    /// it runs.
    pub deadline: Option<Instant>,
}

/// Tells a request that nobody wants its answer any more. Clones are the same token. It takes effect within
/// some 10 ms.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    pub fn new() -> Self {
        CancelToken::default()
    }

    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A model that answers.
pub trait Infer: Send + Sync {
    fn signature(&self) -> &Signature;

    /// Check the inputs against the signature and run. Dropping the future cancels: a queued request is
    /// taken out, a running one is told to stop.
    fn infer(&self, request: InferRequest) -> InferFuture;

    /// Run on borrowed memory, blocking the calling thread until the model is done with it. Nothing is
    /// copied where the memory is aligned for its datatype and the request needs no batching. A worker of
    /// tokio's may call it: the runtime is told when it is going to block for long.
    fn infer_blocking(&self, inputs: &[TensorView<'_>], deadline: Option<Instant>) -> Result<Outputs, InferError>;

    /// [`Infer::infer_blocking`] that somebody else can end early, through the token. Models that cannot be
    /// stopped run to their end.
    fn infer_blocking_until(
        &self,
        inputs: &[TensorView<'_>],
        deadline: Option<Instant>,
        cancel: CancelToken,
    ) -> Result<Outputs, InferError> {
        if cancel.is_cancelled() {
            return Err(InferError::new(InferErrorKind::Cancelled, "nobody waits for the answer any more"));
        }
        self.infer_blocking(inputs, deadline)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InferErrorKind {
    /// The caller's fault: name, shape, datatype or size.
    InvalidArgument,
    NotFound,
    /// Queue full or shutting down; retrying later may work.
    Unavailable,
    DeadlineExceeded,
    /// Nobody waits for the answer any more.
    Cancelled,
    /// The model failed while running.
    Internal,
}

/// Why there is no answer. The message is one sentence for the caller: it names the model and the field,
/// says what was seen and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InferError {
    pub kind: InferErrorKind,
    pub message: String,
}

impl InferError {
    pub fn new(kind: InferErrorKind, message: impl Into<String>) -> Self {
        InferError { kind, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        InferError::new(InferErrorKind::InvalidArgument, message)
    }
}
