//! From what a container and its models wish for to where each model is placed on this machine, and the words for what
//! cannot be had. What this machine has, and what follows from it, `model/` finds out; here it is asked once.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::instances::{Instances, Kind, ModelConfig};
use super::tensorrt::tell;
use crate::container::devices::{DeviceName, DeviceWish};
use crate::container::spec::Gpus;
use crate::error::{Error, ErrorKind, Result};
use crate::model::device::{Choice, Gpu, Strictness, Wish};
use crate::model::machine::{Machine, library_folders};
use crate::model::plan::plan;
use crate::model::{Placing, Plan, Readiness};

/// Docker's words for a GPU that is asked for and not here.
const NO_DRIVER: &str = "could not select device driver \"\" with capabilities: [[gpu]]";

/// What this machine has, and whether ONNX Runtime can use it. Looked at once for the whole host.
#[derive(Debug, Default)]
pub struct Devices {
    machine: Machine,
    /// ONNX Runtime's library, beside which its providers lie.
    core: PathBuf,
    folders: Vec<PathBuf>,
    readiness: OnceLock<Readiness>,
}

impl Devices {
    /// Of the machine whose files lie below `sysroot`, for the ONNX Runtime at `core`.
    pub fn look(sysroot: &Path, core: &Path) -> Devices {
        let machine = Machine::detect_at(sysroot);
        if let Some(jetson) = &machine.jetson {
            tracing::info!(board = %jetson, "Jetson");
        }
        for gpu in &machine.gpus {
            tracing::info!(gpu = %gpu, "found");
        }
        if let Err(reason) = machine.can_run_cuda()
            && (machine.jetson.is_some() || !machine.gpus.is_empty())
        {
            tracing::warn!(reason, "models run on the CPU");
        }
        // CUDA's libraries may lie beside ONNX Runtime's, where the loader does not look by itself.
        let beside = core.parent().map(Path::to_owned);
        let folders = library_folders(sysroot).into_iter().chain(beside).collect();
        Devices { machine, core: core.to_owned(), folders, readiness: OnceLock::new() }
    }

    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Opens the libraries that ONNX Runtime's providers need when it is first asked, and only then: that takes hundreds
    /// of megabytes and its time. Not for an asynchronous thread.
    pub fn readiness(&self) -> &Readiness {
        self.readiness.get_or_init(|| Readiness::check(&self.core, &self.folders))
    }

    /// Where a model that wishes for this is placed. The error names each choice and why it cannot be had.
    pub fn plan(&self, wish: &Wish, strictness: Strictness) -> Result<Plan, Vec<String>> {
        plan(wish, strictness, &self.machine, &|| self.readiness())
    }
}

/// What a container's models may run on.
#[derive(Debug)]
pub struct Choices {
    devices: Arc<Devices>,
    own: DeviceWish,
    host: DeviceWish,
    /// The GPUs that `--gpus` gives, by CUDA's numbers.
    given: Option<Vec<u32>>,
}

/// What a model, or a container as a whole, wishes for.
struct Resolved {
    wish: Wish,
    strictness: Strictness,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// `--device`, its label, or `config.pbtxt`.
    Listed,
    /// `--gpus`, `--runtime nvidia`.
    Gpus,
}

impl Choices {
    /// `own` is the container's wish, `host` that of the host, which fills what is open. Opens libraries: not for an
    /// asynchronous thread.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unmet`] where what the container requires as a whole is not here, even if it has no model.
    pub fn new(own: &DeviceWish, host: &DeviceWish, gpus: Option<&Gpus>, devices: &Arc<Devices>) -> Result<Choices> {
        let given = gpus.map(|gpus| given(gpus, &devices.machine)).transpose();
        let given = given.map_err(|reason| refusal(Demand::Gpus, &reason))?;
        let choices = Choices { devices: devices.clone(), own: own.clone(), host: host.clone(), given };
        choices.plan(&choices.of_container()?)?;
        Ok(choices)
    }

    /// Where the model called `name` goes: by the container's word for this model, else its word for all, else by the
    /// model's own `config.pbtxt`, else the host's.
    pub fn of_model(&self, name: &str, config: Option<&ModelConfig>) -> Result<Placing> {
        let instances = config.and_then(|config| config.instances.as_ref());
        let tensorrt = config.and_then(|config| config.tensorrt.as_ref());
        let resolved = match (self.own.models.get(name), &self.own.list, instances) {
            (Some(list), ..) => self.listed(list.devices(), self.own.required)?,
            (None, None, instances) if tensorrt.is_some() && instances.is_none_or(|one| one.kind != Kind::Cpu) => {
                let gpu = instances.and_then(|one| one.gpu).map(|gpu| gpu.to_string());
                let required = self.given.is_some() || instances.is_some_and(|one| one.kind == Kind::Gpu);
                self.listed(&[DeviceName::TensorRt(gpu.clone()), DeviceName::Cuda(gpu)], required)?
            }
            (None, None, Some(instances)) => self.of_instances(instances)?,
            _ => self.of_container()?,
        };
        let is_own = instances.is_some() && self.own.list.is_none() && !self.own.models.contains_key(name);
        let plan = self.plan(&resolved).map_err(|error| match is_own {
            true => Error::new(
                error.kind(),
                format!("{error}; model {name:?} asks for it in its config.pbtxt, which --device overrules"),
            ),
            false => error,
        });
        let mut placing = Placing::from(plan?);
        // TensorRT has no limit of its own but this one: weights and what flows between layers come on top.
        let limit = self.own.gpu_memory.or(self.host.gpu_memory);
        (placing.cuda.memory_limit, placing.tensorrt.workspace) = (limit, limit);
        placing.cuda.cuda_graph = self.own.cuda_graph.or(config.and_then(|config| config.cuda_graph)).unwrap_or(false);
        tell(&mut placing.tensorrt, &self.own.tensorrt, tensorrt);
        placing.tensorrt.max_batch = config.map_or(1, |config| config.largest_batch);
        placing.sessions = instances.and_then(|instances| instances.count);
        Ok(placing)
    }

    /// The words for a device that was planned for and refuses when it is used.
    pub fn refused(&self, placing: &Placing, error: Error) -> Error {
        if error.kind() != ErrorKind::Unmet {
            return error;
        }
        refusal(self.demand(), &format!("{}: {}", placing.plan.device, error.chain()))
    }

    fn demand(&self) -> Demand {
        if self.given.is_some() { Demand::Gpus } else { Demand::Listed }
    }

    /// A GPU by the container's name for it: of this machine, or of those given. The error is one clause.
    fn gpu(&self, named: Option<&str>) -> Result<Gpu, String> {
        match &self.given {
            None => Gpu::parse(named),
            Some(given) => among(given, named, &self.devices.machine).map(Gpu::Index),
        }
    }

    fn of_container(&self) -> Result<Resolved> {
        let wish = self.own.or(&self.host);
        let named = wish.list.as_ref().map_or(&[DeviceName::Auto][..], |list| list.devices());
        if self.given.is_none() {
            return self.listed(named, wish.required);
        }
        let gpus: Vec<DeviceName> = named.iter().filter(|name| **name != DeviceName::Cpu).cloned().collect();
        match gpus.as_slice() {
            [] => self.listed(&[DeviceName::Auto], true),
            gpus => self.listed(gpus, true),
        }
    }

    /// Names of devices, as of this machine or of the GPUs given to the container.
    fn listed(&self, named: &[DeviceName], required: bool) -> Result<Resolved> {
        let strictness = if required { Strictness::Require } else { Strictness::Prefer };
        let wish = match named {
            [DeviceName::Auto] if self.given.is_some() => self.gpu(None).map(Wish::Accelerated),
            [DeviceName::Auto] => Ok(Wish::Auto),
            _ => {
                let choices = named.iter().map(|name| match name {
                    DeviceName::Cuda(gpu) => self.gpu(gpu.as_deref()).map(Choice::Cuda),
                    DeviceName::TensorRt(gpu) => self.gpu(gpu.as_deref()).map(Choice::TensorRt),
                    DeviceName::Auto | DeviceName::Cpu => Ok(Choice::Cpu),
                });
                choices.collect::<Result<_, String>>().map(Wish::List)
            }
        };
        let wish = wish.map_err(|reason| refusal(self.demand(), &reason))?;
        Ok(Resolved { wish, strictness })
    }

    /// In Triton's meaning: a GPU is required, the CPU is the CPU, and the rest is what the host does best.
    fn of_instances(&self, instances: &Instances) -> Result<Resolved> {
        let gpu = instances.gpu.map(|gpu| gpu.to_string());
        match (instances.kind, &gpu) {
            (Kind::Cpu, _) => self.listed(&[DeviceName::Cpu], true),
            (Kind::Auto, None) => self.of_container(),
            (kind, _) => {
                let gpu = self.gpu(gpu.as_deref()).map_err(|reason| refusal(self.demand(), &reason))?;
                let required = kind == Kind::Gpu || self.given.is_some();
                let strictness = if required { Strictness::Require } else { Strictness::Prefer };
                Ok(Resolved { wish: Wish::Accelerated(gpu), strictness })
            }
        }
    }

    fn plan(&self, resolved: &Resolved) -> Result<Plan> {
        let planned = self.devices.plan(&resolved.wish, resolved.strictness);
        planned.map_err(|reasons| refusal(self.demand(), &reasons.join("; ")))
    }
}

fn refusal(demand: Demand, reasons: &str) -> Error {
    let message = match demand {
        Demand::Gpus => format!("{NO_DRIVER}: {reasons}"),
        Demand::Listed => format!("the required device cannot be used: {reasons}"),
    };
    Error::new(ErrorKind::Unmet, format!("{message} (`wharf doctor` says what is missing)"))
}

/// Which of the GPUs given to a container: as with docker, its numbers count those, from 0.
fn among(given: &[u32], own: Option<&str>, machine: &Machine) -> Result<u32, String> {
    let count = given.len();
    let Some(own) = own else { return given.first().copied().ok_or_else(|| "no GPU is given".to_owned()) };
    match Gpu::parse(Some(own))? {
        Gpu::Uuid(uuid) => match machine.find(&Gpu::Uuid(uuid))?.index {
            index if given.contains(&index) => Ok(index),
            _ => Err(format!("{own} is not among the {count} GPUs given")),
        },
        _ => {
            let number = own.parse::<usize>().ok().and_then(|number| given.get(number).copied());
            number.ok_or_else(|| format!("there is no GPU {own} among the {count} given, which are counted from 0"))
        }
    }
}

/// The GPUs that `--gpus` gives, by CUDA's numbers, in the order asked for.
fn given(gpus: &Gpus, machine: &Machine) -> Result<Vec<u32>, String> {
    machine.can_run_cuda()?;
    let here: Vec<u32> = machine.gpus.iter().map(|gpu| gpu.index).collect();
    match gpus {
        Gpus::All => Ok(here),
        Gpus::Count(count) => match usize::try_from(*count) {
            Ok(count) if count <= here.len() => Ok(here[..count].to_vec()),
            _ => Err(format!("{count} GPUs are asked for, and this machine has {}", here.len())),
        },
        Gpus::Devices(wanted) if wanted.is_empty() || wanted.iter().any(|one| one == "all") => Ok(here),
        Gpus::Devices(wanted) => {
            wanted.iter().map(|one| Ok(machine.find(&Gpu::parse(Some(one))?)?.index)).collect::<Result<_, String>>()
        }
    }
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
