//! Where a session runs, and what was asked for: words only. What this machine has is [`super::machine`]'s
//! business, what follows from both is [`super::plan`]'s.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

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
    /// The best this machine does with this GPU: what `--gpus` and `--runtime nvidia` mean. Not written in `--device`.
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

const ALLOWED: &str = "auto, cpu, cuda[:N|:UUID], tensorrt[:N|:UUID], or a comma-separated list of the last three in order \
                       of preference";

impl FromStr for Wish {
    type Err = Error;

    /// `auto | cpu | cuda[:N|:UUID] | tensorrt[:N|:UUID] | LIST`. The error names `device` as the field.
    fn from_str(text: &str) -> Result<Wish, Error> {
        if text == "auto" {
            return Ok(Wish::Auto);
        }
        let mut choices = Vec::new();
        for part in text.split(',') {
            let choice = Choice::parse(part.trim()).map_err(|reason| refused(text, &reason))?;
            if choices.contains(&choice) {
                return Err(refused(text, &format!("{choice} is given twice")));
            }
            choices.push(choice);
        }
        Ok(Wish::List(choices))
    }
}

impl FromStr for Strictness {
    type Err = Error;

    fn from_str(text: &str) -> Result<Strictness, Error> {
        match text {
            "prefer" => Ok(Strictness::Prefer),
            "require" => Ok(Strictness::Require),
            _ => Err(Error::invalid(format!("invalid device policy {text:?}: allowed are prefer and require"))),
        }
    }
}

fn refused(text: &str, reason: &str) -> Error {
    Error::invalid(format!("invalid device {text:?}: {reason}. Allowed: {ALLOWED}"))
}

impl Choice {
    fn parse(part: &str) -> Result<Choice, String> {
        let (word, gpu) = match part.split_once(':') {
            Some((word, gpu)) => (word, Some(gpu)),
            None => (part, None),
        };
        match (word, gpu) {
            ("cpu", None) => Ok(Choice::Cpu),
            ("cpu", Some(_)) => Err("the CPU has no number".into()),
            ("cuda", gpu) => Ok(Choice::Cuda(Gpu::parse(gpu)?)),
            ("tensorrt", gpu) => Ok(Choice::TensorRt(Gpu::parse(gpu)?)),
            ("auto", _) => Err("auto stands alone".into()),
            ("", None) => Err("an entry is empty".into()),
            (other, _) => Err(format!("there is no device {other:?}")),
        }
    }
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

impl fmt::Display for Strictness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Strictness::Prefer => "prefer",
            Strictness::Require => "require",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_printed_as_they_are_written() {
        for text in ["auto", "cpu", "cuda", "cuda:1", "tensorrt", "tensorrt:0,cuda:0,cpu", "cuda:GPU-8f0e1a2b"] {
            assert_eq!(text.parse::<Wish>().unwrap().to_string(), text);
        }
        assert_eq!(" cpu".parse::<Wish>().unwrap(), Wish::List(vec![Choice::Cpu]));
        assert_eq!("require".parse::<Strictness>().unwrap(), Strictness::Require);
    }

    #[test]
    fn refusals_name_the_field_what_was_seen_and_what_is_allowed() {
        for (text, reason) in [
            ("gpu", "there is no device \"gpu\""),
            ("cuda:x", "\"x\" is neither a GPU's number nor its UUID (GPU-…)"),
            ("cuda:-1", "\"-1\" is neither a GPU's number nor its UUID (GPU-…)"),
            ("cpu:0", "the CPU has no number"),
            ("cuda,", "an entry is empty"),
            ("auto,cpu", "auto stands alone"),
            ("cuda:0,cuda:0", "cuda:0 is given twice"),
        ] {
            let error = text.parse::<Wish>().unwrap_err().to_string();
            assert_eq!(error, format!("invalid device {text:?}: {reason}. Allowed: {ALLOWED}"));
        }
        let error = "must".parse::<Strictness>().unwrap_err().to_string();
        assert_eq!(error, "invalid device policy \"must\": allowed are prefer and require");
    }
}
