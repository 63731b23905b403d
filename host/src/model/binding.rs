//! How a session on a GPU is run: inputs are put into memory the GPU's copy engine can read by itself (pinned), bound and
//! copied to the device; outputs are bound to pinned memory, which callers then read without a further copy.
//!
//! The CPU's sessions never come here: there a binding would only add a copy. The tests run the same logic in plain host
//! memory. It must never know where a session's nodes were placed.

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, RunOptions, Session};
use ort::value::{DynTensor, DynValue};
use wharf_tensor::DType;
use wharf_tensor::infer::Signature;

use super::convert::{self, InputRef};
use super::device::Device;

/// Memory of the host that inputs and outputs pass through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostMemory {
    /// Of CUDA, for the GPU of this number.
    Pinned(u32),
    /// Any: what the tests use.
    #[cfg_attr(not(test), expect(dead_code, reason = "a machine without a GPU tests the binding in it"))]
    Plain,
}

/// Why a run gave nothing. Both are one clause.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The input of this name is not what it says it is.
    Input(String, String),
    Run(String),
}

/// A session's binding and its buffers, reused from run to run.
pub(super) struct Binding {
    binding: IoBinding,
    host: Allocator,
    outputs: MemoryInfo<'static>,
    /// Per input of the model, in its order: made when first needed, and again for another shape.
    staged: Vec<Option<DynTensor>>,
}

impl HostMemory {
    pub(super) fn of(device: Device) -> Option<HostMemory> {
        device.gpu().map(HostMemory::Pinned)
    }

    fn info(self, kind: MemoryType) -> ort::Result<MemoryInfo<'static>> {
        match self {
            HostMemory::Pinned(gpu) => {
                let gpu = i32::try_from(gpu).map_err(|_| ort::Error::new(format!("there is no GPU {gpu}")))?;
                MemoryInfo::new(AllocationDevice::CUDA_PINNED, gpu, AllocatorType::Device, kind)
            }
            HostMemory::Plain => MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default),
        }
    }

    pub(super) fn allocator(self, session: &Session) -> ort::Result<Allocator> {
        Allocator::new(session, self.info(MemoryType::CPUInput)?)
    }
}

/// Whether this model's tensors can be bound. Strings cannot: they live in ordinary memory. The error is one clause.
pub(super) fn is_possible(signature: &Signature) -> Result<(), String> {
    match signature.inputs.iter().chain(&signature.outputs).find(|spec| spec.dtype == DType::Bytes) {
        Some(spec) => Err(format!("{:?} holds strings, which a GPU cannot", spec.name)),
        None => Ok(()),
    }
}

/// Put an input into a tensor of the same shape and type, which is made with `host` where `staged` holds none that fits.
pub(super) fn stage(staged: &mut Option<DynTensor>, host: &Allocator, input: &InputRef<'_>) -> Result<(), Refusal> {
    let refused = |text: String| Refusal::Input(input.name.to_owned(), text);
    let fits = |tensor: &DynTensor| {
        convert::dtype_of(*tensor.data_type()) == Some(input.dtype)
            && tensor.shape().len() == input.shape.len()
            && tensor.shape().iter().zip(input.shape).all(|(have, want)| usize::try_from(*have) == Ok(*want))
    };
    if !staged.as_ref().is_some_and(fits) {
        let element = convert::element_of(input.dtype).ok_or_else(|| refused("it holds strings".into()))?;
        // The old one first: both together may be more than there is.
        *staged = None;
        let made = DynTensor::new(host, element, input.shape).map_err(|error| refused(error.to_string()))?;
        *staged = Some(made);
    }
    let Some(tensor) = staged else { return Err(refused("it has no buffer".into())) };
    convert::fill(tensor, input).map_err(refused)
}

impl Binding {
    /// The error is one clause.
    pub(super) fn new(session: &Session, signature: &Signature, memory: HostMemory) -> Result<Binding, String> {
        is_possible(signature)?;
        let make = || -> ort::Result<Binding> {
            Ok(Binding {
                binding: session.create_binding()?,
                host: memory.allocator(session)?,
                outputs: memory.info(MemoryType::CPUOutput)?,
                staged: signature.inputs.iter().map(|_| None).collect(),
            })
        };
        make().map_err(|error| error.to_string())
    }

    /// Run on inputs that were checked and are in the model's order; the outputs in the model's order. They are nobody
    /// else's: a later run does not write into them.
    pub(super) fn run(
        &mut self,
        session: &mut Session,
        signature: &Signature,
        inputs: &[InputRef<'_>],
        options: &RunOptions,
    ) -> Result<Vec<DynValue>, Refusal> {
        let outputs = self.bind(signature, inputs).and_then(|()| {
            let outputs = session.run_binding_with_options(&self.binding, options).map_err(failed)?;
            Ok(outputs.into_iter().map(|(_, value)| value).collect())
        });
        if outputs.is_err() {
            // A copy may be under way still, out of a buffer that the next run writes to.
            let _ = self.binding.synchronize_inputs();
        }
        // A binding keeps its outputs and would write the next run's into them.
        self.binding.clear();
        outputs
    }

    fn bind(&mut self, signature: &Signature, inputs: &[InputRef<'_>]) -> Result<(), Refusal> {
        for (input, staged) in inputs.iter().zip(&mut self.staged) {
            stage(staged, &self.host, input)?;
            if let Some(tensor) = staged {
                self.binding.bind_input(input.name, tensor).map_err(failed)?;
            }
        }
        for output in &signature.outputs {
            self.binding.bind_output_to_device(&*output.name, &self.outputs).map_err(failed)?;
        }
        Ok(())
    }
}

pub(super) fn failed(error: ort::Error) -> Refusal {
    Refusal::Run(error.to_string())
}

#[cfg(test)]
#[path = "binding_tests.rs"]
mod tests;
