//! One ONNX Runtime session and one run of it. A session has one user at a time (`&mut self`): ONNX
//! Runtime's `Run` is not safe to call concurrently with every provider.

use std::sync::Arc;

use ort::logging::LogLevel;
use ort::session::{RunOptions, Session};
use wharf_tensor::infer::{InferError, InferErrorKind, Outputs, Signature};

use super::binding::{Binding, HostMemory, Refusal};
use super::convert::{self, InputRef};
use super::device::Device;
use super::replay::{self, Replay};

pub struct ModelSession {
    way: Way,
    signature: Arc<Signature>,
    device: Device,
}

/// How the session is run.
enum Way {
    /// On the CPU, and on a GPU where tensors cannot be bound: inputs are lent where they lie.
    Plain(Session),
    /// On a GPU: through pinned memory.
    Bound(Session, Box<Binding>),
    /// On a GPU, as a recording.
    Replayed(Replay),
    /// While it is dropped.
    Closed,
}

/// Tells one run to stop, from any thread. Cheap to clone.
#[derive(Clone)]
pub struct Stop(Arc<RunOptions>);

impl Stop {
    pub fn new() -> Result<Stop, InferError> {
        let options = RunOptions::new().and_then(|mut options| {
            // Failures reach the caller as errors; ONNX Runtime would log each of them as well, every missed
            // deadline included.
            options.set_log_level(LogLevel::Fatal).map(|()| options)
        });
        match options {
            Ok(options) => Ok(Stop(Arc::new(options))),
            Err(error) => Err(InferError::new(InferErrorKind::Internal, error.to_string())),
        }
    }

    /// The run ends at its next node, with an error. Never waits. A recording that is replayed has no nodes: it ends by
    /// itself.
    pub fn stop(&self) {
        // It fails only on a null pointer.
        let _ = self.0.terminate();
    }
}

impl ModelSession {
    /// On a GPU the session is bound where its tensors allow it.
    pub(super) fn new(model: &str, session: Session, signature: Arc<Signature>, device: Device) -> Self {
        let binding = HostMemory::of(device).map(|memory| Binding::new(&session, &signature, memory));
        let way = match binding {
            None => Way::Plain(session),
            Some(Ok(binding)) => Way::Bound(session, Box::new(binding)),
            Some(Err(reason)) => {
                tracing::warn!(model, reason, "inputs and outputs are not bound to memory of {device}");
                Way::Plain(session)
            }
        };
        ModelSession { way, signature, device }
    }

    /// Of a session that was opened to be recorded. The error is one clause, and the session is gone.
    pub(super) fn replayed(session: Session, signature: Arc<Signature>, device: Device) -> Result<Self, String> {
        let memory = HostMemory::of(device).ok_or_else(|| format!("{device} records nothing"))?;
        Ok(ModelSession { way: Way::Replayed(Replay::start(session, &signature, memory)?), signature, device })
    }

    /// How it is run: `plain`, `bound` or `replayed`.
    pub fn way(&self) -> &'static str {
        match self.way {
            Way::Plain(_) => "plain",
            Way::Bound(..) => "bound",
            Way::Replayed(_) => "replayed",
            Way::Closed => "closed",
        }
    }

    /// Run on inputs that were checked and are in the model's order.
    pub fn run(&mut self, model: &str, inputs: &[InputRef<'_>], stop: &Stop) -> Result<Outputs, InferError> {
        let failed = |what: &str| InferError::new(InferErrorKind::Internal, format!("model {model:?}: {what}"));
        let invalid = |name: &str, e: String| InferError::invalid(format!("model {model:?}: input {name:?}: {e}"));
        let refused = |refusal: Refusal| match refusal {
            Refusal::Input(name, what) => invalid(&name, what),
            Refusal::Run(what) => failed(&format!("the run failed: {what}")),
        };
        match &mut self.way {
            Way::Plain(session) => {
                let _undisturbed = (self.device != Device::Cpu).then(replay::undisturbed);
                let values = inputs
                    .iter()
                    .map(|input| convert::lend(input).map_err(|e| invalid(input.name, e)))
                    .collect::<Result<Vec<_>, _>>()?;
                let outputs = session
                    .run_with_options(values.as_slice(), &stop.0)
                    .map_err(|error| failed(&format!("the run failed: {error}")))?;
                taken(&self.signature, outputs.into_iter().map(|(_, value)| value), failed)
            }
            Way::Bound(session, binding) => {
                let _undisturbed = replay::undisturbed();
                let outputs = binding.run(session, &self.signature, inputs, &stop.0).map_err(refused)?;
                taken(&self.signature, outputs, failed)
            }
            Way::Replayed(replay) => {
                let outputs = replay.run(inputs, &stop.0).map_err(refused)?;
                taken(&self.signature, outputs, failed)
            }
            Way::Closed => Err(failed("its session is closed")),
        }
    }
}

impl Drop for ModelSession {
    /// A GPU's memory is given back, which ends another model's recording.
    fn drop(&mut self) {
        let _undisturbed = (self.device != Device::Cpu).then(replay::undisturbed);
        self.way = Way::Closed;
    }
}

fn taken(
    signature: &Signature,
    values: impl IntoIterator<Item = ort::value::DynValue>,
    failed: impl Fn(&str) -> InferError,
) -> Result<Outputs, InferError> {
    let named = signature.outputs.iter().zip(values);
    named
        .map(|(spec, value)| {
            let tensor = convert::take(value).map_err(|e| failed(&format!("output {:?}: {e}", spec.name)))?;
            Ok((spec.name.clone(), tensor))
        })
        .collect()
}
