//! A model's runs as one recording (a CUDA graph): the GPU replays it instead of being told operator by operator.
//!
//! A recording holds addresses and shapes, so everything is fixed: the model's shapes, and buffers on the device that are
//! bound once and stay. ONNX Runtime keeps recordings per thread, so the session lives on a thread of its own; what
//! crosses over are buffers in pinned memory. While one is made, no other thread of the process may allocate or copy on
//! the GPU, or CUDA gives up on both: hence [`undisturbed`].

use std::ffi::c_void;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, RwLockReadGuard};
use std::thread::{self, JoinHandle};

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, RunOptions, Session, SessionInputValue};
use ort::value::{DynTensor, DynValue};
use wharf_tensor::DType;
use wharf_tensor::half::{f32_to_bf16, f32_to_fp16};
use wharf_tensor::infer::{Signature, TensorSpec};

use super::binding::{self, HostMemory, Refusal};
use super::closeness::Difference;
use super::convert::{self, InputRef};
use super::gate::GATE;
use super::gpu_copy::GpuCopy;

/// ONNX Runtime's option of a run that says which recording is meant, and its value for none.
const GRAPH: &str = "gpu_graph_id";
const NOT_RECORDED: &str = "-1";
/// Of the largest output: the kernels are the same ones, but some add up in another order each time.
const TOLERANCE: f64 = 1e-3;

/// Whoever uses the GPU holds this: waits while a recording is made, and keeps one from being made.
pub(super) fn undisturbed() -> RwLockReadGuard<'static, ()> {
    GATE.undisturbed()
}

/// A session on its thread, and the buffers this side fills.
pub(super) struct Replay {
    work: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    host: Allocator,
    staged: Vec<Option<DynTensor>>,
}

struct Job {
    staged: Vec<Option<DynTensor>>,
    options: Arc<RunOptions>,
    done: SyncSender<Done>,
}

struct Done {
    staged: Vec<Option<DynTensor>>,
    outputs: Result<Vec<DynValue>, Refusal>,
}

/// What stays on the thread.
struct Recorded {
    session: Session,
    binding: IoBinding,
    copy: Copier,
    host: Allocator,
    inputs: Vec<DynTensor>,
    outputs: Vec<DynTensor>,
}

/// How bytes get to where the session computes.
enum Copier {
    Gpu(GpuCopy),
    /// The tests compute in the host's own memory.
    Host,
}

/// Whether a model's runs are all alike. The error is one clause.
pub(super) fn is_possible(signature: &Signature) -> Result<(), String> {
    binding::is_possible(signature)?;
    match signature.inputs.iter().chain(&signature.outputs).find(|spec| spec.shape.contains(&None)) {
        Some(spec) => Err(format!("{:?} has an open dimension, and a recording is of one shape", spec.name)),
        None => Ok(()),
    }
}

impl Replay {
    /// Takes a session that was opened to be recorded, runs it on zeros and so records it, and compares what it replays
    /// with a run. The error is one clause; the session is gone then.
    pub(super) fn start(session: Session, signature: &Arc<Signature>, memory: HostMemory) -> Result<Replay, String> {
        is_possible(signature)?;
        let host = memory.allocator(&session).map_err(|error| error.to_string())?;
        let (work, jobs) = sync_channel::<Job>(1);
        let (ready, started) = sync_channel(1);
        let shared = signature.clone();
        let body = move || match Recorded::make(session, &shared, memory) {
            Ok(recorded) => {
                let _ = ready.send(Ok(()));
                recorded.serve(&jobs);
            }
            Err(reason) => drop(ready.send(Err(reason))),
        };
        let thread = thread::Builder::new().name("replay".into()).spawn(body).map_err(|error| error.to_string())?;
        let replay = Replay {
            work: Some(work),
            thread: Some(thread),
            host,
            staged: signature.inputs.iter().map(|_| None).collect(),
        };
        started.recv().unwrap_or_else(|_| Err("its thread ended".into())).map(|()| replay)
    }

    /// As [`super::binding::Binding::run`].
    pub(super) fn run(&mut self, inputs: &[InputRef<'_>], options: &Arc<RunOptions>) -> Result<Vec<DynValue>, Refusal> {
        for (input, staged) in inputs.iter().zip(&mut self.staged) {
            binding::stage(staged, &self.host, input)?;
        }
        let (done, answer) = sync_channel(1);
        let job = Job { staged: std::mem::take(&mut self.staged), options: options.clone(), done };
        let gone = || Refusal::Run("the thread that replays this model has ended".into());
        let work = self.work.as_ref().ok_or_else(gone)?;
        work.send(job).map_err(|_| gone())?;
        let done = answer.recv().map_err(|_| gone())?;
        self.staged = done.staged;
        done.outputs
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        // Its thread ends with the last job; the session is closed there, and its memory is free when this returns.
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Recorded {
    fn make(session: Session, signature: &Signature, memory: HostMemory) -> Result<Recorded, String> {
        let text = |error: ort::Error| error.to_string();
        let (copy, info) = match memory {
            HostMemory::Pinned(gpu) => {
                let id = i32::try_from(gpu).map_err(|_| format!("there is no GPU {gpu}"))?;
                let info = MemoryInfo::new(AllocationDevice::CUDA, id, AllocatorType::Device, MemoryType::Default);
                (Copier::Gpu(GpuCopy::new(gpu)?), info.map_err(text)?)
            }
            HostMemory::Plain => (Copier::Host, MemoryInfo::default()),
        };
        // Nobody records while these are allocated, and nobody else uses the GPU while this session is recorded.
        let _alone = GATE.alone()?;
        let device = Allocator::new(&session, info).map_err(text)?;
        let make = |specs: &[TensorSpec]| specs.iter().map(|spec| fixed(&device, spec)).collect::<Result<Vec<_>, _>>();
        let (inputs, outputs) = (make(&signature.inputs)?, make(&signature.outputs)?);
        let host = memory.allocator(&session).map_err(text)?;
        let binding = session.create_binding().map_err(text)?;
        let mut recorded = Recorded { session, binding, copy, host, inputs, outputs };
        recorded.bind(signature).map_err(text)?;
        let samples = |seed| -> Result<Vec<Option<DynTensor>>, String> {
            signature.inputs.iter().map(|spec| sample(&recorded.host, spec, seed).map(Some)).collect()
        };
        // Zeros are harmless anywhere, and make the recording; other inputs show whether it follows its inputs: one that
        // an operator reads on the CPU would be as it was when it was bound.
        let (zeros, others) = (samples(0)?, samples(1)?);
        recorded.replay(&zeros, &RunOptions::new().map_err(text)?).map_err(reason)?;
        recorded.compare(signature, &others)?;
        Ok(recorded)
    }

    /// Whether replaying gives what running gives.
    fn compare(&mut self, signature: &Signature, inputs: &[Option<DynTensor>]) -> Result<(), String> {
        let mut options = RunOptions::new().map_err(|error| error.to_string())?;
        let replayed = self.replay(inputs, &options).map_err(reason)?;
        options.set(GRAPH, NOT_RECORDED).map_err(|error| error.to_string())?;
        let values: Vec<SessionInputValue<'_>> = inputs.iter().flatten().map(SessionInputValue::from).collect();
        let run = self.session.run_with_options(values.as_slice(), &options).map_err(|error| error.to_string())?;
        for ((spec, replayed), (_, run)) in signature.outputs.iter().zip(replayed).zip(run) {
            let difference = Difference::between(&convert::take(run)?, &convert::take(replayed)?)?;
            if difference.relative() > TOLERANCE {
                return Err(format!("its output {:?} is not that of a run: {difference}", spec.name));
            }
        }
        Ok(())
    }

    /// Once, for ever: a recording writes to the addresses it was made with.
    fn bind(&mut self, signature: &Signature) -> ort::Result<()> {
        for (spec, tensor) in signature.inputs.iter().zip(&self.inputs) {
            self.binding.bind_input(&*spec.name, tensor)?;
        }
        for (spec, tensor) in signature.outputs.iter().zip(&mut self.outputs) {
            self.binding.bind_output(&*spec.name, tensor)?;
        }
        Ok(())
    }

    fn serve(mut self, jobs: &Receiver<Job>) {
        while let Ok(Job { staged, options, done }) = jobs.recv() {
            let undisturbed = undisturbed();
            let outputs = self.replay(&staged, &options);
            drop(undisturbed);
            // Whoever waited may have left.
            let _ = done.send(Done { staged, outputs });
        }
    }

    fn replay(&mut self, staged: &[Option<DynTensor>], options: &RunOptions) -> Result<Vec<DynValue>, Refusal> {
        for (from, to) in staged.iter().flatten().zip(&mut self.inputs) {
            self.copy.fill(to, from, Direction::ToDevice).map_err(Refusal::Run)?;
        }
        drop(self.session.run_binding_with_options(&self.binding, options).map_err(binding::failed)?);
        self.binding.synchronize_outputs().map_err(binding::failed)?;
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for from in &self.outputs {
            let made =
                DynTensor::new(&self.host, *from.data_type(), from.shape().iter().copied().collect::<Vec<i64>>());
            let mut to = made.map_err(binding::failed)?;
            self.copy.fill(&mut to, from, Direction::ToHost).map_err(Refusal::Run)?;
            outputs.push(to.into_dyn());
        }
        Ok(outputs)
    }
}

#[derive(Clone, Copy)]
enum Direction {
    ToDevice,
    ToHost,
}

impl Copier {
    /// All bytes of `from` into `to`; of the two, the one on the device is the session's own.
    #[expect(unsafe_code, reason = "addresses of another device")]
    fn fill(&self, to: &mut DynTensor, from: &DynTensor, direction: Direction) -> Result<(), String> {
        let length = |tensor: &DynTensor| tensor.data_type().byte_size(tensor.shape().num_elements()).unwrap_or(0);
        let bytes = length(from);
        if bytes != length(to) {
            return Err(format!("a buffer of {} bytes is to hold {bytes}", length(to)));
        }
        if bytes == 0 {
            return Ok(());
        }
        let (target, source): (*mut c_void, *const c_void) = (to.data_ptr_mut(), from.data_ptr());
        // SAFETY: ONNX Runtime allocated both with `bytes` bytes, one on the device and one in the host's memory (both
        // there in tests), they are two tensors, and nothing runs on this session meanwhile.
        unsafe {
            match (self, direction) {
                (Copier::Gpu(copy), Direction::ToDevice) => copy.to_device(target, source, bytes),
                (Copier::Gpu(copy), Direction::ToHost) => copy.to_host(target, source, bytes),
                (Copier::Host, _) => {
                    target.cast::<u8>().copy_from_nonoverlapping(source.cast::<u8>(), bytes);
                    Ok(())
                }
            }
        }
    }
}

fn reason(refusal: Refusal) -> String {
    match refusal {
        Refusal::Run(reason) | Refusal::Input(_, reason) => reason,
    }
}

/// A tensor of a shape that is fixed. The error is one clause.
fn fixed(allocator: &Allocator, spec: &TensorSpec) -> Result<DynTensor, String> {
    let element = convert::element_of(spec.dtype).ok_or_else(|| format!("{:?} holds strings", spec.name))?;
    let shape: Vec<usize> = spec.shape.iter().map(|dimension| dimension.unwrap_or(0)).collect();
    DynTensor::new(allocator, element, shape).map_err(|error| error.to_string())
}

/// Zeros, or (with seed 1) small numbers that any operator takes: 0 and 1 in turn where they are whole, since they may
/// count or choose something.
fn sample(allocator: &Allocator, spec: &TensorSpec, seed: u8) -> Result<DynTensor, String> {
    let mut tensor = fixed(allocator, spec)?;
    let (dtype, bytes) = (spec.dtype, convert::bytes_mut(&mut tensor)?);
    bytes.fill(0);
    if seed == 0 {
        return Ok(tensor);
    }
    let size = dtype.size().unwrap_or(1);
    for (index, element) in bytes.chunks_exact_mut(size).enumerate() {
        let part = (index * 7 % 13) as f32 / 13.0;
        match dtype {
            DType::Fp64 => element.copy_from_slice(&f64::from(part).to_ne_bytes()),
            DType::Fp32 => element.copy_from_slice(&part.to_ne_bytes()),
            DType::Fp16 => element.copy_from_slice(&f32_to_fp16(part).to_ne_bytes()),
            DType::Bf16 => element.copy_from_slice(&f32_to_bf16(part).to_ne_bytes()),
            _ => element[if cfg!(target_endian = "big") { size - 1 } else { 0 }] = (index + 1) as u8 % 2,
        }
    }
    Ok(tensor)
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
