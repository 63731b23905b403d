//! What a container's models are to run on, as labels and flags say it. Pure: whether this machine has it, the
//! [`Runtime`](super::runtime::Runtime) finds out.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::tensorrt::TensorRtWish;
use crate::error::{Error, Result};

/// A list of devices: `auto`, `cpu`, `cuda[:N]`, `tensorrt[:N]`.
pub const DEVICE: &str = "wharf.device";
/// `true`: a container whose device is missing does not start.
pub const REQUIRE_DEVICE: &str = "wharf.require-device";
/// Before the name of a model: a list for this model alone, e.g. `wharf.device.digits`.
pub const DEVICE_OF: &str = "wharf.device.";
/// How much of the GPU's memory the models of a container may use each, e.g. `2g`.
pub const GPU_MEMORY: &str = "wharf.gpu-memory";
/// `true`: runs on CUDA are recorded and replayed, where a model's shapes are fixed.
pub const CUDA_GRAPH: &str = "wharf.cuda-graph";

/// Less holds no CUDA arena at all. Bytes.
const LEAST_GPU_MEMORY: u64 = 16 << 20;

/// What is wished for. The default leaves everything to the host's own wish.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceWish {
    pub list: Option<DeviceList>,
    /// Of single models, by name, instead of `list`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, DeviceList>,
    /// Nothing but the list will do: otherwise the CPU does what no device of the list can.
    pub required: bool,
    /// Bytes, for each model.
    pub gpu_memory: Option<u64>,
    /// CUDA graphs; what is left open is as the model's own configuration has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda_graph: Option<bool>,
    #[serde(default)]
    pub tensorrt: TensorRtWish,
}

/// Devices, first choice first; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceList(Vec<DeviceName>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// What this machine has: its GPU, then the CPU.
    Auto,
    Cpu,
    /// On the GPU of this number or UUID; `None` is the first, or whichever `--gpus` names.
    Cuda(Option<String>),
    TensorRt(Option<String>),
}

impl DeviceWish {
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Result<DeviceWish> {
        let wrong = |label: &str, value: &str, what: &str| Error::invalid(format!("label {label}={value}: {what}"));
        let list = labels
            .get(DEVICE)
            .map(|value| value.parse().map_err(|error: Error| wrong(DEVICE, value, &error.to_string())));
        let list: Option<DeviceList> = list.transpose()?;
        let of_models = labels.iter().filter_map(|(label, value)| Some((label.strip_prefix(DEVICE_OF)?, value)));
        let models: BTreeMap<String, DeviceList> = of_models
            .map(|(model, value)| match value.parse() {
                Ok(list) => Ok((model.to_owned(), list)),
                Err(error) => Err(wrong(&format!("{DEVICE_OF}{model}"), value, &Error::to_string(&error))),
            })
            .collect::<Result<_>>()?;
        let switch = |label: &str| match labels.get(label).map(String::as_str) {
            None => Ok(None),
            Some("false") => Ok(Some(false)),
            Some("" | "true") => Ok(Some(true)),
            Some(other) => Err(wrong(label, other, "write true or false")),
        };
        let required = switch(REQUIRE_DEVICE)?.unwrap_or(false);
        let cuda_graph = switch(CUDA_GRAPH)?;
        if required && list.is_none() && models.is_empty() {
            return Err(Error::invalid(format!("label {REQUIRE_DEVICE} needs {DEVICE}, which says what is required")));
        }
        let gpu_memory =
            labels.get(GPU_MEMORY).map(|value| gpu_memory(value).map_err(|error| wrong(GPU_MEMORY, value, &error)));
        let tensorrt = TensorRtWish::of_labels(labels)?;
        Ok(DeviceWish { list, models, required, gpu_memory: gpu_memory.transpose()?, cuda_graph, tensorrt })
    }

    /// What is left open here is as `host` has it.
    pub fn or(&self, host: &DeviceWish) -> DeviceWish {
        let gpu_memory = self.gpu_memory.or(host.gpu_memory);
        let from = if self.list.is_some() { self } else { host };
        DeviceWish { list: from.list.clone(), required: from.required, gpu_memory, ..self.clone() }
    }
}

/// `512m`, `2g`, or bytes: of 1024, as docker counts memory.
pub fn gpu_memory(typed: &str) -> Result<u64, String> {
    let lower = typed.trim().to_ascii_lowercase();
    let plain = lower.trim_end_matches('b').trim_end_matches('i');
    let (number, shift) = match plain.char_indices().next_back() {
        Some((at, 'k')) => (&plain[..at], 10),
        Some((at, 'm')) => (&plain[..at], 20),
        Some((at, 'g')) => (&plain[..at], 30),
        _ => (plain, 0),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    match bytes {
        Some(bytes) if bytes >= LEAST_GPU_MEMORY => Ok(bytes),
        Some(_) => Err("at least 16m is needed".to_owned()),
        None => Err(format!("{typed:?} is no size: write e.g. 512m or 2g")),
    }
}

impl DeviceList {
    pub fn devices(&self) -> &[DeviceName] {
        &self.0
    }
}

impl FromStr for DeviceList {
    type Err = Error;

    fn from_str(typed: &str) -> Result<DeviceList> {
        let devices = typed.split(',').map(|one| one.trim().parse()).collect::<Result<Vec<DeviceName>>>()?;
        match devices.iter().position(|device| *device == DeviceName::Auto) {
            Some(_) if devices.len() > 1 => Err(Error::invalid(format!("{typed:?}: auto stands alone"))),
            _ => Ok(DeviceList(devices)),
        }
    }
}

/// A GPU's number, or its UUID (or that of a part of it) as `nvidia-smi -L` prints it.
fn is_gpu(text: &str) -> bool {
    text.len() > 4 && (text.starts_with("GPU-") || text.starts_with("MIG-")) || text.parse::<u32>().is_ok()
}

impl FromStr for DeviceName {
    type Err = Error;

    fn from_str(typed: &str) -> Result<DeviceName> {
        let (kind, number) = match typed.split_once(':') {
            Some((kind, number)) => (kind, Some(number)),
            None => (typed, None),
        };
        let gpu = number.map(str::to_owned);
        match (kind.to_ascii_lowercase().as_str(), number) {
            ("auto", None) => Ok(DeviceName::Auto),
            ("cpu", None) => Ok(DeviceName::Cpu),
            ("cuda", number) if number.is_none_or(is_gpu) => Ok(DeviceName::Cuda(gpu)),
            ("tensorrt", number) if number.is_none_or(is_gpu) => Ok(DeviceName::TensorRt(gpu)),
            _ => Err(Error::invalid(format!(
                "{typed:?} is no device: write auto, cpu, cuda[:N|:UUID], tensorrt[:N|:UUID], or a list such as tensorrt:0,cuda:0,cpu"
            ))),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceName::Auto => f.write_str("auto"),
            DeviceName::Cpu => f.write_str("cpu"),
            DeviceName::Cuda(None) => f.write_str("cuda"),
            DeviceName::Cuda(Some(gpu)) => write!(f, "cuda:{gpu}"),
            DeviceName::TensorRt(None) => f.write_str("tensorrt"),
            DeviceName::TensorRt(Some(gpu)) => write!(f, "tensorrt:{gpu}"),
        }
    }
}

impl fmt::Display for DeviceList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, device) in self.0.iter().enumerate() {
            write!(f, "{}{device}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl TryFrom<String> for DeviceList {
    type Error = Error;

    fn try_from(text: String) -> Result<DeviceList> {
        text.parse()
    }
}

impl From<DeviceList> for String {
    fn from(list: DeviceList) -> String {
        list.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn lists_are_read_and_written_alike() {
        for text in ["auto", "cpu", "cuda", "cuda:1", "cuda:GPU-8f0e", "tensorrt:0,cuda:0,cpu"] {
            assert_eq!(text.parse::<DeviceList>().unwrap().to_string(), text);
        }
        assert_eq!("CUDA:1, cpu".parse::<DeviceList>().unwrap().to_string(), "cuda:1,cpu");
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:GPU-", "cpu:0", "auto,cpu", "cuda,,cpu", "auto:1"]
        {
            assert!(wrong.parse::<DeviceList>().is_err(), "{wrong}");
        }
        let error = "gpu".parse::<DeviceList>().unwrap_err().to_string();
        assert!(error.contains("\"gpu\" is no device") && error.contains("cuda[:N|:UUID]"), "{error}");
    }

    #[test]
    fn labels_say_what_is_wished_for() {
        let wish = DeviceWish::of_labels(&labels(&[
            (DEVICE, "cuda:1"),
            (REQUIRE_DEVICE, ""),
            (GPU_MEMORY, "2g"),
            (CUDA_GRAPH, "true"),
        ]));
        let wish = wish.unwrap();
        assert_eq!((wish.list.unwrap().to_string().as_str(), wish.required), ("cuda:1", true));
        assert_eq!((wish.gpu_memory, wish.cuda_graph), (Some(2 << 30), Some(true)));
        assert_eq!(DeviceWish::of_labels(&labels(&[])).unwrap(), DeviceWish::default());
        let wish = DeviceWish::of_labels(&labels(&[("wharf.device.eyes", "cpu"), (REQUIRE_DEVICE, "true")])).unwrap();
        assert_eq!((wish.list, wish.models["eyes"].to_string().as_str()), (None, "cpu"));
        for (label, value, words) in [
            (DEVICE, "gpu", "label wharf.device=gpu: \"gpu\" is no device"),
            ("wharf.device.eyes", "gpu", "label wharf.device.eyes=gpu: \"gpu\" is no device"),
            (REQUIRE_DEVICE, "true", "needs wharf.device"),
            (REQUIRE_DEVICE, "maybe", "write true or false"),
            (GPU_MEMORY, "much", "label wharf.gpu-memory=much: \"much\" is no size"),
            (GPU_MEMORY, "1m", "at least 16m"),
            (CUDA_GRAPH, "yes", "label wharf.cuda-graph=yes: write true or false"),
        ] {
            let error = DeviceWish::of_labels(&labels(&[(label, value)])).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_hosts_wish_fills_what_is_open() {
        let host = DeviceWish {
            list: "cuda".parse().ok(),
            required: true,
            gpu_memory: Some(1 << 30),
            ..DeviceWish::default()
        };
        assert_eq!(DeviceWish::default().or(&host), host);
        let own = DeviceWish { list: "cpu".parse().ok(), ..DeviceWish::default() };
        assert_eq!(own.or(&host), DeviceWish { gpu_memory: Some(1 << 30), ..own });
    }
}
