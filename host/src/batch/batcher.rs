//! A model as its callers see it: checks, takes a lane or waits for one, gives up at the deadline.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::task;
use wharf_tensor::Tensor;
use wharf_tensor::infer::{
    CancelToken, Infer, InferError, InferErrorKind, InferFuture, InferRequest, Outputs, Signature, TensorView,
};

use super::assemble;
use super::policy::{Estimate, Policy};
use super::ticket::{Reply, Run, Ticket, ended};
use super::work::{Entries, Entry, input_refs, run_timed};
use crate::error::Result;
use crate::model::convert::InputRef;
use crate::model::lanes::{Claim, Lanes};
use crate::model::load::Onnx;
use crate::model::session::{ModelSession, Stop};
use crate::model::signature;
use crate::model::watchdog::{self, Reason};
use crate::model::{Counters, Device, EngineState, LoadedModel, Machine, ModelStore, OnnxRuntime, Placing};

/// A run that is expected to take less stays on the thread as it is. To tell tokio that a thread blocks
/// makes it wake another one, which costs about as much as such a run.
const SHORT: Duration = Duration::from_micros(200);

/// A run that is expected to take longer goes to the session's own thread, so that dropping the future can stop
/// it: next to such a run the hand-over (some 20 µs) is nothing.
const BRIEF: Duration = Duration::from_millis(20);

/// What a container may choose per model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelOptions {
    /// Where, and what the GPU's providers are told. By default the CPU.
    pub placing: Placing,
    /// See [`Policy::max_batch`].
    pub max_batch: usize,
}

impl Default for ModelOptions {
    fn default() -> Self {
        ModelOptions { placing: Placing::default(), max_batch: 1 }
    }
}

/// All models of this host.
pub struct Models {
    store: ModelStore<Entries>,
}

impl Models {
    /// `cache`: the folder for disposable files, or `None` to keep none.
    pub fn new(runtime: &'static OnnxRuntime, cache: Option<PathBuf>) -> Self {
        Models { store: ModelStore::new(runtime, cache) }
    }

    /// As [`Models::new`], on a machine that was looked at already.
    pub fn on(machine: &Machine, runtime: &'static OnnxRuntime, cache: Option<PathBuf>) -> Self {
        Models { store: ModelStore::of(Onnx::on(machine.clone(), runtime), cache) }
    }

    /// Load a model file under the name its container calls it. Equal files with equal options share their
    /// sessions and their queue. Takes as long as ONNX Runtime does: not for an asynchronous thread.
    pub fn load(&self, name: &str, path: &Path, options: ModelOptions) -> Result<Batcher> {
        let max_batch = options.max_batch.max(1);
        let queue_options = format!("max_batch={max_batch}");
        let mut placing = options.placing;
        placing.tensorrt.max_batch = placing.tensorrt.max_batch.max(max_batch);
        let estimate: Arc<Estimate> = Arc::default();
        let queue = move |signature: &Signature| {
            let max_batch = if signature::is_batchable(signature) { max_batch } else { 1 };
            Entries::new(Policy { max_batch }, estimate.clone())
        };
        let model = self.store.load(name, path, &placing, &queue_options, Arc::new(queue))?;
        let (estimate, batching) = model.with_queue(|entries| (entries.estimate().clone(), entries.is_batching()));
        if max_batch > 1 && !batching {
            tracing::warn!(model = name, "not batched: dimension 0 is not open in all inputs and outputs");
        }
        let served = Served { name: name.into(), model, estimate, batching, counters: Arc::default() };
        Ok(Batcher { served: Arc::new(served) })
    }
}

/// One model under one name. Clones are the same model.
#[derive(Clone)]
pub struct Batcher {
    served: Arc<Served>,
}

struct Served {
    name: Arc<str>,
    model: Arc<LoadedModel<Entries>>,
    estimate: Arc<Estimate>,
    batching: bool,
    counters: Arc<Counters>,
}

impl Batcher {
    pub fn counters(&self) -> &Arc<Counters> {
        &self.served.counters
    }

    /// Where it runs now: another device than before once a TensorRT engine is ready.
    pub fn device(&self) -> Device {
        self.served.model.device()
    }

    /// What would have been preferred to [`Batcher::device`], each with the reason why it cannot be had.
    pub fn fell_back(&self) -> Vec<String> {
        self.served.model.fell_back()
    }

    /// How its TensorRT engine is doing; `None` for a model that is not to have one.
    pub fn engine(&self) -> Option<EngineState> {
        self.served.model.engine()
    }

    /// Nodes per provider, by ONNX Runtime's own record; `None` where it keeps none.
    pub fn placement(&self) -> Option<Vec<(String, usize)>> {
        self.served.model.placement()
    }

    /// Of the model's file, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.served.model.sha256
    }

    /// Sessions open now: 1, or 1 and one per core once requests have overlapped.
    pub fn sessions(&self) -> usize {
        self.served.model.sessions()
    }
}

impl Infer for Batcher {
    fn signature(&self) -> &Signature {
        &self.served.model.signature
    }

    fn infer(&self, request: InferRequest) -> InferFuture {
        let served = self.served.clone();
        Box::pin(async move {
            let answer = served.answer(request).await;
            served.count(answer)
        })
    }

    fn infer_blocking(&self, inputs: &[TensorView<'_>], deadline: Option<Instant>) -> Result<Outputs, InferError> {
        self.served.count(self.served.answer_blocking(inputs, &Limits { deadline, cancel: None }))
    }

    fn infer_blocking_until(
        &self,
        inputs: &[TensorView<'_>],
        deadline: Option<Instant>,
        cancel: CancelToken,
    ) -> Result<Outputs, InferError> {
        self.served.count(self.served.answer_blocking(inputs, &Limits { deadline, cancel: Some(cancel) }))
    }
}

/// When an answer is of no use any more.
struct Limits {
    deadline: Option<Instant>,
    cancel: Option<CancelToken>,
}

impl Served {
    fn count(&self, answer: Result<Outputs, InferError>) -> Result<Outputs, InferError> {
        self.counters.requests.fetch_add(1, Relaxed);
        if let Err(error) = &answer {
            self.counters.failed(error);
        }
        answer
    }

    async fn answer(self: &Arc<Self>, request: InferRequest) -> Result<Outputs, InferError> {
        let limits = Limits { deadline: request.deadline, cancel: None };
        let inputs = self.arrange(request.inputs)?;
        self.refuse_late(&limits)?;
        let named = self.model.signature.inputs.iter().zip(&inputs);
        let lanes = self.model.lanes(named.map(|(spec, input)| (&*spec.name, input.shape())));
        if may_block_here()
            && self.is_brief(&inputs)
            && let Some(claim) = lanes.claim()
        {
            return self.run_here(claim, &input_refs(&self.model.signature, &inputs), &limits);
        }
        let (reply, answer) = oneshot::channel();
        let reply: Reply = Box::new(move |answer| {
            // Whoever waited may have left.
            let _ = reply.send(answer);
        });
        let _place = self.enqueue(&lanes, inputs, &limits, reply)?;
        answer.await.unwrap_or_else(|_| Err(self.lost()))
    }

    /// Whether a run may occupy its caller's task: while it does, nobody notices that the client has left. The first
    /// run, of which nothing is known, may not.
    fn is_brief(&self, inputs: &[Tensor]) -> bool {
        let elements = inputs.first().and_then(|input| input.shape().first()).map_or(1, |rows| (*rows).max(1));
        let expected = self.estimate.per_element();
        !expected.is_zero() && expected.saturating_mul(u32::try_from(elements).unwrap_or(u32::MAX)) <= BRIEF
    }

    /// Check the inputs and bring them into the model's order.
    fn arrange(&self, inputs: Vec<(String, Tensor)>) -> Result<Vec<Tensor>, InferError> {
        let refs: Vec<InputRef<'_>> = inputs.iter().map(|(name, tensor)| InputRef::of_tensor(name, tensor)).collect();
        let order = signature::check(&self.name, &self.model.signature, &refs)?;
        Ok(order.into_iter().filter_map(|position| inputs.get(position)).map(|(_, tensor)| tensor.clone()).collect())
    }

    fn answer_blocking(self: &Arc<Self>, inputs: &[TensorView<'_>], limits: &Limits) -> Result<Outputs, InferError> {
        let refs: Vec<InputRef<'_>> = inputs.iter().map(InputRef::of_view).collect();
        let order = signature::check(&self.name, &self.model.signature, &refs)?;
        self.refuse_late(limits)?;
        let refs: Vec<InputRef<'_>> = order.into_iter().filter_map(|position| refs.get(position)).copied().collect();
        let lanes = self.model.lanes(refs.iter().map(|input| (input.name, input.shape)));
        if let Some(claim) = lanes.claim() {
            return self.run_here(claim, &refs, limits);
        }
        // The one who owns this memory must not wait for a lane with it in its hands: copy.
        let owned = refs.iter().map(|input| self.copy(input)).collect::<Result<Vec<_>, _>>()?;
        let (reply, answer) = mpsc::sync_channel(1);
        let reply: Reply = Box::new(move |answer| {
            let _ = reply.send(answer);
        });
        let _place = self.enqueue(&lanes, owned, limits, reply)?;
        // The watchdog answers at the deadline.
        in_place(true, || answer.recv()).unwrap_or_else(|_| Err(self.lost()))
    }

    fn copy(&self, input: &InputRef<'_>) -> Result<Tensor, InferError> {
        Tensor::new(input.dtype, input.shape, Bytes::copy_from_slice(input.data))
            .map_err(|error| InferError::invalid(format!("model {:?}: input {:?}: {error}", self.name, input.name)))
    }

    fn refuse_late(&self, limits: &Limits) -> Result<(), InferError> {
        if limits.cancel.as_ref().is_some_and(CancelToken::is_cancelled) {
            return Err(ended(&self.name, Reason::Cancelled));
        }
        match limits.deadline {
            Some(deadline) if deadline <= Instant::now() => Err(ended(&self.name, Reason::Deadline)),
            _ => Ok(()),
        }
    }

    /// Run on this thread, in a lane that is ours.
    fn run_here(
        &self,
        mut claim: Claim<'_, ModelSession, Entries>,
        inputs: &[InputRef<'_>],
        limits: &Limits,
    ) -> Result<Outputs, InferError> {
        let stop = Stop::new()?;
        let run = Run::new(stop);
        let ticket = Ticket::running(self.name.clone(), run.clone());
        let watch = watchdog::watch(limits.deadline, limits.cancel.clone(), ticket.clone());
        let elements = inputs.first().and_then(|input| input.shape.first()).map_or(1, |rows| (*rows).max(1));
        let expected = self.estimate.per_element();
        let long = expected.is_zero() || expected.saturating_mul(u32::try_from(elements).unwrap_or(u32::MAX)) > SHORT;
        let Some(session) = claim.session() else { return Err(self.lost()) };
        let (answer, took) = in_place(long, || run_timed(session, &self.name, inputs, run.stop()));
        drop(watch);
        drop(claim);
        self.counters.executed(elements, took);
        match answer {
            Ok(outputs) => {
                self.estimate.observe(took, elements);
                Ok(outputs)
            }
            Err(error) => Err(ticket.reason().map_or(error, |reason| ended(&self.name, reason))),
        }
    }

    fn enqueue(
        self: &Arc<Self>,
        lanes: &Arc<Lanes<ModelSession, Entries>>,
        inputs: Vec<Tensor>,
        limits: &Limits,
        reply: Reply,
    ) -> Result<Place, InferError> {
        let ticket = Ticket::queued(self.name.clone(), reply);
        let place = Place { served: self.clone(), lanes: lanes.clone(), ticket: ticket.clone() };
        let entry = Entry {
            rows: if self.batching { assemble::rows(&inputs) } else { None },
            inputs,
            deadline: limits.deadline,
            since: Instant::now(),
            model: self.name.clone(),
            signature: self.model.signature.clone(),
            counters: self.counters.clone(),
            _watch: watchdog::watch(limits.deadline, limits.cancel.clone(), ticket.clone()),
            ticket,
        };
        match lanes.with_queue(|entries| entries.push(entry)) {
            Ok(()) => Ok(place),
            Err(full) => {
                let limit = full.limit;
                let error = InferError::new(
                    InferErrorKind::Unavailable,
                    format!("model {:?}: its queue is full ({limit} elements), try again later", self.name),
                );
                // So that `Place` finds nothing left to cancel.
                full.entry.ticket.answer(Err(error.clone()));
                Err(error)
            }
        }
    }

    fn lost(&self) -> InferError {
        InferError::new(InferErrorKind::Internal, format!("model {:?}: the run ended without an answer", self.name))
    }
}

/// Somebody waits. Dropped before there is an answer, it takes the request out of the queue or stops its run.
struct Place {
    served: Arc<Served>,
    /// Kept until the answer is there: the model may have others by then.
    lanes: Arc<Lanes<ModelSession, Entries>>,
    ticket: Arc<Ticket>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.ticket.end(Reason::Cancelled);
        if left {
            // The future that would have counted it is the one being dropped.
            let _ = self.served.count(Err(ended(&self.served.name, Reason::Cancelled)));
        }
        if left || self.ticket.reason().is_some() {
            self.lanes.with_queue(|entries| entries.sweep(Instant::now()));
        }
    }
}

/// Whether a model may run on the calling thread. A single-threaded runtime has no other thread to go on
/// with; without a runtime there is nobody to hold up.
fn may_block_here() -> bool {
    Handle::try_current().map_or(true, |handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// Run here; if that may be long, tokio moves this worker's other tasks to another thread first.
fn in_place<T>(long: bool, run: impl FnOnce() -> T) -> T {
    let on_worker = || Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if long && on_worker() { task::block_in_place(run) } else { run() }
}
