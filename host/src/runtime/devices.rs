//! From what is wished for to the devices to try, and the words for what could not be had.

use super::accelerators::Accelerators;
use crate::container::devices::{DeviceName, DeviceWish};
use crate::container::spec::Gpus;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Device;

/// Docker's words for a GPU that is asked for and not here.
const NO_DRIVER: &str = "could not select device driver \"\" with capabilities: [[gpu]]";

/// Devices to try, first choice first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choices {
    pub devices: Vec<Device>,
    /// Bytes, for each model on a GPU.
    pub gpu_memory: Option<u64>,
    demand: Demand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// The CPU is among the devices.
    Preferred,
    /// `--require-device`.
    Required,
    /// `--gpus`, `--runtime nvidia`.
    Gpus,
}

impl Choices {
    /// What `wish` and `--gpus` come to on this machine.
    pub fn new(wish: &DeviceWish, gpus: Option<&Gpus>, machine: &Accelerators) -> Result<Choices> {
        let named = wish.list.as_ref().map_or(&[DeviceName::Auto][..], |list| list.devices());
        let Some(gpus) = gpus else { return Choices::listed(named, wish, machine) };
        let refuse = |reason: String| Error::new(ErrorKind::Unmet, format!("{NO_DRIVER}: {reason}"));
        let given = given(gpus, machine).map_err(refuse)?;
        let mut devices = Vec::new();
        for name in named {
            match name {
                DeviceName::Cuda(own) => devices.push(Device::Cuda(among(&given, own, machine).map_err(refuse)?)),
                DeviceName::TensorRt(own) => {
                    devices.push(Device::TensorRt(among(&given, own, machine).map_err(refuse)?))
                }
                DeviceName::Auto | DeviceName::Cpu => {}
            }
        }
        if devices.is_empty() {
            devices = of_gpu(among(&given, &None, machine).map_err(refuse)?, machine);
        }
        Ok(Choices { devices, gpu_memory: wish.gpu_memory, demand: Demand::Gpus })
    }

    fn listed(named: &[DeviceName], wish: &DeviceWish, machine: &Accelerators) -> Result<Choices> {
        let refuse = |reason: String| Error::new(ErrorKind::Unmet, reason);
        let mut devices = Vec::new();
        for name in named {
            match name {
                DeviceName::Cpu => devices.push(Device::Cpu),
                DeviceName::Cuda(gpu) => devices.push(Device::Cuda(number(gpu, 0, machine).map_err(refuse)?)),
                DeviceName::TensorRt(gpu) => devices.push(Device::TensorRt(number(gpu, 0, machine).map_err(refuse)?)),
                DeviceName::Auto if machine.gpus.is_empty() => devices.push(Device::Cpu),
                DeviceName::Auto => devices.extend(of_gpu(0, machine).into_iter().chain([Device::Cpu])),
            }
        }
        if !wish.required && !devices.contains(&Device::Cpu) {
            devices.push(Device::Cpu);
        }
        let demand = if wish.required { Demand::Required } else { Demand::Preferred };
        let choices = Choices { devices, gpu_memory: wish.gpu_memory, demand };
        // Said before any model is loaded, and where there is no model at all.
        if machine.gpus.is_empty() && !choices.devices.contains(&Device::Cpu) {
            let missing = choices.devices.iter().map(|device| format!("{device}: {}", machine.missing())).collect();
            return Err(choices.refusal(missing));
        }
        Ok(choices)
    }

    /// None of the devices could be used; `reasons` names each with why.
    pub fn refusal(&self, reasons: Vec<String>) -> Error {
        let reasons = reasons.join("; ");
        let message = match self.demand {
            Demand::Gpus => format!("{NO_DRIVER}: {reasons}"),
            Demand::Preferred | Demand::Required => format!("the required device cannot be used: {reasons}"),
        };
        Error::new(ErrorKind::Unmet, format!("{message} (`wharf doctor` says what is missing)"))
    }
}

/// What a GPU is used through: on a Jetson TensorRT first, which is made for it.
fn of_gpu(index: u32, machine: &Accelerators) -> Vec<Device> {
    match machine.jetson {
        Some(_) => vec![Device::TensorRt(index), Device::Cuda(index)],
        None => vec![Device::Cuda(index)],
    }
}

/// What the list says, else `otherwise`. A number is taken as it is: CUDA says whether there is such a GPU.
fn number(gpu: &Option<String>, otherwise: u32, machine: &Accelerators) -> Result<u32, String> {
    match gpu.as_deref() {
        None => Ok(otherwise),
        Some(gpu) => gpu.parse().or_else(|_| machine.find(gpu)),
    }
}

/// Which of the GPUs given to a container: as with docker, its numbers count those, from 0.
fn among(given: &[u32], own: &Option<String>, machine: &Accelerators) -> Result<u32, String> {
    let count = given.len();
    let Some(own) = own.as_deref() else {
        return given.first().copied().ok_or_else(|| machine.missing());
    };
    match own.parse::<usize>() {
        Ok(number) => given.get(number).copied().ok_or_else(|| format!("{own} of the {count} GPUs given (from 0)")),
        Err(_) => machine.find(own).and_then(|index| match given.contains(&index) {
            true => Ok(index),
            false => Err(format!("{own} is not among the {count} GPUs given")),
        }),
    }
}

/// The GPUs that `--gpus` gives, by CUDA's numbers, in the order asked for.
fn given(gpus: &Gpus, machine: &Accelerators) -> Result<Vec<u32>, String> {
    let here: Vec<u32> = machine.gpus.iter().map(|gpu| gpu.index).collect();
    if here.is_empty() {
        return Err(machine.missing());
    }
    match gpus {
        Gpus::All => Ok(here),
        Gpus::Count(count) => match usize::try_from(*count) {
            Ok(count) if count <= here.len() => Ok(here[..count].to_vec()),
            _ => Err(format!("{count} GPUs are asked for, and this machine has {}", here.len())),
        },
        Gpus::Devices(wanted) if wanted.is_empty() || wanted.iter().any(|one| one == "all") => Ok(here),
        Gpus::Devices(wanted) => wanted.iter().map(|one| machine.find(one)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::accelerators::Gpu;

    fn machine(gpus: u32, jetson: bool) -> Accelerators {
        let gpu = |index| Gpu { index, uuid: format!("GPU-{index}{index}"), name: String::new() };
        Accelerators { jetson: jetson.then(|| "Jetson".to_owned()), gpus: (0..gpus).map(gpu).collect() }
    }

    fn choices(list: &str, required: bool, gpus: Option<Gpus>, machine: &Accelerators) -> Result<String, String> {
        let list = (!list.is_empty()).then(|| list.parse().unwrap());
        let wish = DeviceWish { list, required, gpu_memory: None };
        let choices = Choices::new(&wish, gpus.as_ref(), machine).map_err(|error| error.to_string())?;
        Ok(choices.devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn lists_come_to_devices() {
        let (none, two, jetson) = (machine(0, false), machine(2, false), machine(1, true));
        let of = |list: &str, machine: &Accelerators| choices(list, false, None, machine).unwrap();
        assert_eq!([of("", &none), of("auto", &two), of("", &jetson)], ["cpu", "cuda:0,cpu", "tensorrt:0,cuda:0,cpu"]);
        assert_eq!(
            [of("cuda:1", &two), of("cuda", &none), of("cpu,cuda", &two)],
            ["cuda:1,cpu", "cuda:0,cpu", "cpu,cuda:0"]
        );
        assert_eq!(choices("cuda", true, None, &two).unwrap(), "cuda:0");
        let refused = choices("cuda,tensorrt", true, None, &none).unwrap_err();
        assert!(refused.starts_with("the required device cannot be used: cuda:0: no NVIDIA GPU"), "{refused}");
        assert!(refused.contains("tensorrt:0: no NVIDIA GPU") && refused.contains("wharf doctor"), "{refused}");
        assert_eq!(choices("cuda,cpu", true, None, &none).unwrap(), "cuda:0,cpu");
    }

    #[test]
    fn gpus_are_required() {
        let (none, two, jetson) = (machine(0, false), machine(2, false), machine(1, true));
        let devices = |list: &[&str]| Some(Gpus::Devices(list.iter().map(|one| (*one).to_owned()).collect()));
        assert_eq!(choices("", false, Some(Gpus::All), &two).unwrap(), "cuda:0");
        assert_eq!(choices("", false, Some(Gpus::All), &jetson).unwrap(), "tensorrt:0,cuda:0");
        assert_eq!(choices("", false, devices(&["GPU-11"]), &two).unwrap(), "cuda:1");
        assert_eq!(choices("tensorrt,cpu", false, devices(&["1"]), &two).unwrap(), "tensorrt:1");
        // Numbers count what the container is given.
        assert_eq!(choices("cuda:0", false, devices(&["1"]), &two).unwrap(), "cuda:1");
        assert_eq!(choices("cuda:1", false, devices(&["1", "0"]), &two).unwrap(), "cuda:0");
        assert!(choices("cuda:1", false, devices(&["1"]), &two).unwrap_err().contains("1 of the 1 GPUs given"));
        assert!(choices("cuda:GPU-00", false, devices(&["1"]), &two).unwrap_err().contains("not among the 1 GPUs"));
        for (gpus, machine, words) in [
            (Some(Gpus::All), &none, "[[gpu]]: no NVIDIA GPU: /dev/nvidia0 does not exist"),
            (Some(Gpus::Count(3)), &two, "[[gpu]]: 3 GPUs are asked for, and this machine has 2"),
            (devices(&["0", "7"]), &two, "[[gpu]]: no GPU \"7\": this machine has 0 (GPU-00), 1 (GPU-11)"),
        ] {
            let refused = choices("", false, gpus, machine).unwrap_err();
            assert!(refused.starts_with("could not select device driver \"\"") && refused.contains(words), "{refused}");
        }
    }
}
