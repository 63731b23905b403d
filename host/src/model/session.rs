//! One ONNX Runtime session and one run of it. A session has one user at a time (`&mut self`): ONNX
//! Runtime's `Run` is not safe to call concurrently with every provider.

use std::sync::Arc;

use ort::logging::LogLevel;
use ort::session::{RunOptions, Session};
use wharf_tensor::infer::{InferError, InferErrorKind, Outputs, Signature};

use super::convert::{self, InputRef};

pub struct ModelSession {
    session: Session,
    signature: Arc<Signature>,
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

    /// The run ends at its next node, with an error. Never waits.
    pub fn stop(&self) {
        // It fails only on a null pointer.
        let _ = self.0.terminate();
    }
}

impl ModelSession {
    pub(super) fn new(session: Session, signature: Arc<Signature>) -> Self {
        ModelSession { session, signature }
    }

    /// Run on inputs that were checked and are in the model's order.
    pub fn run(&mut self, model: &str, inputs: &[InputRef<'_>], stop: &Stop) -> Result<Outputs, InferError> {
        let values = inputs
            .iter()
            .map(|input| {
                convert::lend(input)
                    .map_err(|e| InferError::invalid(format!("model {model:?}: input {:?}: {e}", input.name)))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let failed = |what: &str| InferError::new(InferErrorKind::Internal, format!("model {model:?}: {what}"));
        let outputs = self
            .session
            .run_with_options(values.as_slice(), &stop.0)
            .map_err(|error| failed(&format!("the run failed: {error}")))?;
        self.signature
            .outputs
            .iter()
            .zip(outputs)
            .map(|(spec, (_, value))| {
                let tensor = convert::take(value).map_err(|e| failed(&format!("output {:?}: {e}", spec.name)))?;
                Ok((spec.name.clone(), tensor))
            })
            .collect()
    }
}
