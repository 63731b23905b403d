//! From what was asked for and what is here to where a model runs. Pure: no file, no library, no clock.

use super::device::{Choice, Device, Gpu, Strictness, Wish};
use super::machine::Machine;
use super::options::{CudaOptions, TensorRtOptions};
use super::preflight::{Missing, Provider, Readiness};
use crate::error::Error;

/// Where a model runs, and why not elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plan {
    pub device: Device,
    /// To be registered with ONNX Runtime, first choice first; the CPU is always there and not listed.
    pub providers: Vec<Provider>,
    /// What would have been preferred, each with the reason why it cannot be had: `cuda:0: libcublas.so.13 (…)`.
    pub fell_back: Vec<String>,
    /// Where to go if the device refuses when it is used, in order. Ends with the CPU under [`Strictness::Prefer`].
    pub alternatives: Vec<Device>,
    pub strictness: Strictness,
}

/// A plan and what its providers are told. Models loaded with equal ones share their sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Placing {
    pub plan: Plan,
    pub cuda: CudaOptions,
    pub tensorrt: TensorRtOptions,
    /// Most sessions at a time; `None`: as many as there are cores.
    pub sessions: Option<u32>,
}

impl Device {
    /// The providers of a session on this device, first choice first; the CPU is implied.
    pub fn providers(self) -> Vec<Provider> {
        match self {
            Device::Cpu => Vec::new(),
            Device::Cuda(_) => vec![Provider::Cuda],
            Device::TensorRt(_) => vec![Provider::TensorRt, Provider::Cuda],
        }
    }

    /// CUDA's number of the GPU.
    pub fn gpu(self) -> Option<u32> {
        match self {
            Device::Cpu => None,
            Device::Cuda(index) | Device::TensorRt(index) => Some(index),
        }
    }
}

impl Placing {
    /// On this device or not at all, with the providers' usual options.
    pub fn only(device: Device) -> Placing {
        Placing { plan: Plan::on(device, Strictness::Require), ..Placing::default() }
    }
}

impl From<Plan> for Placing {
    fn from(plan: Plan) -> Self {
        Placing { plan, ..Placing::default() }
    }
}

impl Plan {
    /// The CPU, without a word: what a host does that was asked for nothing.
    pub fn cpu() -> Plan {
        Plan::default()
    }

    fn on(device: Device, strictness: Strictness) -> Plan {
        Plan { device, providers: device.providers(), strictness, ..Plan::default() }
    }

    /// The last device's refusal, and before it what was tried in vain.
    pub fn refused(&self, error: Error) -> Error {
        match self.fell_back.as_slice() {
            [] => error,
            tried => Error::new(error.kind(), format!("{}; then {}", tried.join("; "), self.device)).because(error),
        }
    }

    /// The plan after its device refused: the next alternative, and the reason on record. `None` when none is left.
    pub fn next(&self, reason: &str) -> Option<Plan> {
        let (device, rest) = self.alternatives.split_first()?;
        let mut next = Plan::on(*device, self.strictness);
        next.alternatives = rest.to_vec();
        next.fell_back.clone_from(&self.fell_back);
        next.fell_back.push(format!("{}: {reason}", self.device));
        Some(next)
    }
}

/// Decide.
///
/// - [`Wish::Auto`] is TensorRT, CUDA, CPU on a Jetson; CUDA, CPU on any other machine with an NVIDIA GPU (an Arm
///   server's counts, where the library was built for it); else the CPU alone, about which nothing is said.
/// - [`Strictness::Prefer`] ends on the CPU whether or not it is listed.
/// - [`Strictness::Require`] takes what is listed and nothing else; under `auto`, the CPU only where there is no GPU.
///
/// `readiness` is asked only where a GPU is in question.
///
/// # Errors
///
/// Where nothing that is wished for can be had: each choice with why not and what to install, `cuda:0: missing: …`.
pub fn plan<'a>(
    wish: &Wish,
    strictness: Strictness,
    machine: &Machine,
    readiness: &dyn Fn() -> &'a Readiness,
) -> Result<Plan, Vec<String>> {
    let mut usable = Vec::new();
    let mut refused = Vec::new();
    for choice in choices(wish, strictness, machine) {
        match device(&choice, machine, readiness) {
            Ok(device) if usable.is_empty() || !usable.contains(&device) => usable.push(device),
            Ok(_) => (),
            // After the one that is taken, nobody asks.
            Err(_) if !usable.is_empty() => (),
            Err(reason) => refused.push(format!("{choice}: {reason}")),
        }
    }
    let Some((device, alternatives)) = usable.split_first() else { return Err(refused) };
    let mut plan = Plan::on(*device, strictness);
    plan.alternatives = alternatives.to_vec();
    plan.fell_back = refused;
    Ok(plan)
}

/// What to try, in order.
fn choices(wish: &Wish, strictness: Strictness, machine: &Machine) -> Vec<Choice> {
    let accelerated = |gpu: &Gpu| {
        let tensorrt = machine.jetson.is_some().then(|| Choice::TensorRt(gpu.clone()));
        tensorrt.into_iter().chain([Choice::Cuda(gpu.clone())]).collect::<Vec<_>>()
    };
    let mut choices = match wish {
        Wish::Auto if machine.jetson.is_none() && machine.gpus.is_empty() => vec![Choice::Cpu],
        Wish::Auto => accelerated(&Gpu::Any),
        Wish::Accelerated(gpu) => accelerated(gpu),
        Wish::List(choices) => choices.clone(),
    };
    if strictness == Strictness::Prefer && !choices.contains(&Choice::Cpu) {
        choices.push(Choice::Cpu);
    }
    choices
}

/// The error is one clause.
fn device<'a>(choice: &Choice, machine: &Machine, readiness: &dyn Fn() -> &'a Readiness) -> Result<Device, String> {
    let (gpu, tensorrt) = match choice {
        Choice::Cpu => return Ok(Device::Cpu),
        Choice::Cuda(gpu) => (gpu, false),
        Choice::TensorRt(gpu) => (gpu, true),
    };
    machine.can_run_cuda()?;
    let found = machine.find(gpu)?;
    let readiness = readiness();
    // What TensorRT cannot take runs on CUDA.
    let needs = [tensorrt.then_some(&readiness.tensorrt), Some(&readiness.cuda)];
    let missing = missing(needs.into_iter().flatten());
    if !missing.is_empty() {
        return Err(format!("missing: {missing}"));
    }
    readiness.suits(found)?;
    Ok(if tensorrt { Device::TensorRt(found.index) } else { Device::Cuda(found.index) })
}

/// Each library once, with the package that has it; empty where nothing is missing.
pub fn missing<'a>(needs: impl Iterator<Item = &'a Result<(), Vec<Missing>>>) -> String {
    let mut missing: Vec<&Missing> = Vec::new();
    for library in needs.filter_map(|need| need.as_ref().err()).flatten() {
        if !missing.contains(&library) {
            missing.push(library);
        }
    }
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", and ")
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
