//! Where a session runs, and what was asked for: words only. What this machine has is [`super::machine`]'s
//! business, what follows from both is [`super::plan`]'s.

use std::fmt;

/// Where a model's session runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    #[default]
    Cpu,
    /// CUDA on the GPU of this number, as CUDA counts them.
    Cuda(u32),
    /// `TensorRT` on the GPU of this number; nodes it cannot take go to CUDA on the same GPU.
    TensorRt(u32),
}

/// Which GPU was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Gpu {
    /// None by name: the first there is.
    #[default]
    Any,
    /// As CUDA counts them, from 0.
    Index(u32),
    /// `GPU-…`, as `nvidia-smi -L` prints it; the start of one serves where it is unambiguous.
    Uuid(String),
}

/// One entry of a wish.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    Cpu,
    Cuda(Gpu),
    TensorRt(Gpu),
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wish {
    /// The best this machine has: TensorRT, CUDA, CPU on a Jetson; CUDA, CPU on others with an NVIDIA GPU; else CPU.
    #[default]
    Auto,
    /// The best this machine does with this GPU: what `--gpus` and `--runtime nvidia` mean.
    Accelerated(Gpu),
    /// In order of preference, never empty.
    List(Vec<Choice>),
}

/// What it means when a wish cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strictness {
    /// Run on the next best, in the end on the CPU, and say so.
    #[default]
    Prefer,
    /// Do not run. Of a list, one entry must be had; of `auto`, an entry before the CPU if this machine has one.
    Require,
}

impl Gpu {
    /// `None`, `0`, `GPU-…`: the part after the colon, or an entry of `--gpus device=…`. The error is one clause.
    pub fn parse(text: Option<&str>) -> Result<Gpu, String> {
        let Some(text) = text else { return Ok(Gpu::Any) };
        if text.len() > 4 && (text.starts_with("GPU-") || text.starts_with("MIG-")) {
            return Ok(Gpu::Uuid(text.to_owned()));
        }
        text.parse().map(Gpu::Index).map_err(|_| format!("{text:?} is neither a GPU's number nor its UUID (GPU-…)"))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(id) => write!(f, "cuda:{id}"),
            Device::TensorRt(id) => write!(f, "tensorrt:{id}"),
        }
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gpu::Any => Ok(()),
            Gpu::Index(index) => write!(f, ":{index}"),
            Gpu::Uuid(uuid) => write!(f, ":{uuid}"),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Cpu => f.write_str("cpu"),
            Choice::Cuda(gpu) => write!(f, "cuda{gpu}"),
            Choice::TensorRt(gpu) => write!(f, "tensorrt{gpu}"),
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wish::Auto => f.write_str("auto"),
            Wish::Accelerated(gpu) => write!(f, "gpu{gpu}"),
            Wish::List(choices) => {
                for (index, choice) in choices.iter().enumerate() {
                    write!(f, "{}{choice}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_printed_as_they_are_typed() {
        let list = Wish::List(vec![Choice::TensorRt(Gpu::Any), Choice::Cuda(Gpu::Index(1)), Choice::Cpu]);
        assert_eq!(list.to_string(), "tensorrt,cuda:1,cpu");
        let uuid = Gpu::parse(Some("GPU-8f0e1a2b")).unwrap();
        assert_eq!(Wish::Accelerated(uuid).to_string(), "gpu:GPU-8f0e1a2b");
        assert_eq!((Gpu::parse(None), Gpu::parse(Some("MIG-77aa"))), (Ok(Gpu::Any), Ok(Gpu::Uuid("MIG-77aa".into()))));
    }

    #[test]
    fn refusals_name_what_was_seen() {
        for text in ["x", "-1", "", "GPU-", "gpu0"] {
            let error = Gpu::parse(Some(text)).unwrap_err();
            assert_eq!(error, format!("{text:?} is neither a GPU's number nor its UUID (GPU-…)"));
        }
    }
}
