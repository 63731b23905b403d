//! How a container's models are to be compiled for TensorRT, as labels say it. Pure: what becomes of it is the
//! [`Runtime`](super::runtime::Runtime)'s.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::devices::gpu_memory;
use crate::error::{Error, Result};

/// `fp32`, or a list of `fp16`, `bf16` and `int8`.
pub const PRECISION: &str = "wharf.tensorrt-precision";
/// How much of the GPU's memory the builder may use, e.g. `1g`.
pub const WORKSPACE: &str = "wharf.tensorrt-workspace";

/// What is left open is as the model's own configuration has it, else as TensorRT does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TensorRtWish {
    pub precision: Option<Precision>,
    /// Bytes.
    pub workspace: Option<u64>,
}

/// What TensorRT may compute with besides 32-bit floats, which it takes where that is quicker. The answers differ from
/// those of the other devices accordingly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Precision {
    pub fp16: bool,
    pub bf16: bool,
    /// For models with quantised operators.
    pub int8: bool,
}

impl TensorRtWish {
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Result<TensorRtWish> {
        let wrong = |label: &str, value: &str, what: &str| Error::invalid(format!("label {label}={value}: {what}"));
        let precision = labels
            .get(PRECISION)
            .map(|value| value.parse().map_err(|error: Error| wrong(PRECISION, value, &error.to_string())));
        let workspace =
            labels.get(WORKSPACE).map(|value| gpu_memory(value).map_err(|error| wrong(WORKSPACE, value, &error)));
        Ok(TensorRtWish { precision: precision.transpose()?, workspace: workspace.transpose()? })
    }
}

impl FromStr for Precision {
    type Err = Error;

    /// In either case of letters, as Triton writes them.
    fn from_str(typed: &str) -> Result<Precision> {
        let mut precision = Precision::default();
        let words: Vec<String> = typed.split(',').map(|word| word.trim().to_ascii_lowercase()).collect();
        for word in &words {
            match word.as_str() {
                "fp16" => precision.fp16 = true,
                "bf16" => precision.bf16 = true,
                "int8" => precision.int8 = true,
                "fp32" if words.len() == 1 => {}
                "fp32" => return Err(Error::invalid(format!("{typed:?}: fp32 stands alone, the others include it"))),
                other => {
                    return Err(Error::invalid(format!(
                        "{other:?} is no precision: write fp32, or a list of fp16, bf16 and int8"
                    )));
                }
            }
        }
        Ok(precision)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(self.fp16, "fp16"), (self.bf16, "bf16"), (self.int8, "int8")];
        let words: Vec<&str> = words.into_iter().filter_map(|(is_on, word)| is_on.then_some(word)).collect();
        f.write_str(if words.is_empty() { "fp32".to_owned() } else { words.join(",") }.as_str())
    }
}

impl TryFrom<String> for Precision {
    type Error = Error;

    fn try_from(text: String) -> Result<Precision> {
        text.parse()
    }
}

impl From<Precision> for String {
    fn from(precision: Precision) -> String {
        precision.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precisions_are_printed_as_they_are_typed() {
        for text in ["fp32", "fp16", "bf16", "fp16,int8", "fp16,bf16,int8"] {
            assert_eq!(text.parse::<Precision>().unwrap().to_string(), text);
        }
        assert_eq!("FP16".parse::<Precision>().unwrap().to_string(), "fp16");
    }

    #[test]
    fn labels_are_read_or_refused_by_name() {
        let of = |label: &str, value: &str| TensorRtWish::of_labels(&[(label.to_owned(), value.to_owned())].into());
        let precision = Some(Precision { fp16: true, ..Precision::default() });
        assert_eq!(of(PRECISION, "fp16").unwrap(), TensorRtWish { precision, workspace: None });
        assert_eq!(of(WORKSPACE, "1g").unwrap(), TensorRtWish { precision: None, workspace: Some(1 << 30) });
        assert_eq!(of("wharf.device", "cpu").unwrap(), TensorRtWish::default());
        for (label, value, words) in [
            (PRECISION, "fp8", "label wharf.tensorrt-precision=fp8: \"fp8\" is no precision: write fp32"),
            (PRECISION, "", "\"\" is no precision"),
            (PRECISION, "fp32,fp16", "fp32 stands alone"),
            (WORKSPACE, "much", "label wharf.tensorrt-workspace=much: \"much\" is no size"),
        ] {
            let error = of(label, value).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn records_keep_what_was_asked_for() {
        let wish = TensorRtWish { precision: "fp16,int8".parse().ok(), workspace: Some(1 << 30) };
        let json = serde_json::to_string(&wish).unwrap();
        assert_eq!(json, r#"{"precision":"fp16,int8","workspace":1073741824}"#);
        assert_eq!(serde_json::from_str::<TensorRtWish>(&json).unwrap(), wish);
        assert_eq!(serde_json::from_str::<TensorRtWish>("{}").unwrap(), TensorRtWish::default());
    }
}
