//! What a model's `config.pbtxt` says of TensorRT, in Triton's meaning: `optimization.execution_accelerators`. And how it
//! and the container's wish come to what the builder is told.

use super::pbtxt::{Message, Value};
use crate::container::tensorrt::TensorRtWish;
use crate::model::options::TensorRtOptions;

/// Of the field `optimization`: what is asked of TensorRT, if the model is to run on it. What has no effect here is added
/// to `unused`, a sentence each. The error is one clause.
pub fn of_optimization(message: &Message, unused: &mut Vec<String>) -> Result<Option<TensorRtWish>, String> {
    let mut wish = None;
    for (name, value) in message {
        match (name.as_str(), value) {
            ("execution_accelerators", Value::Message(accelerators)) => {
                for (kind, accelerator) in accelerators {
                    let field = format!("optimization.execution_accelerators.{kind}");
                    match (kind.as_str(), accelerator) {
                        ("gpu_execution_accelerator", Value::Message(fields)) if wish.is_none() => {
                            wish = Some(accelerated(&field, fields, unused)?);
                        }
                        _ => unused.push(format!("{field} has no effect: only the first for GPUs counts")),
                    }
                }
            }
            // Of CUDA, and read by `instances`.
            ("cuda", _) => {}
            (other, _) => unused.push(format!("optimization.{other} has no effect: it is not known here")),
        }
    }
    Ok(wish)
}

fn accelerated(field: &str, fields: &Message, unused: &mut Vec<String>) -> Result<TensorRtWish, String> {
    let (mut name, mut wish) = (None, TensorRtWish::default());
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("name", Value::Scalar(word)) => name = Some(word.as_str()),
            ("parameters", Value::Message(entry)) => parameter(field, entry, &mut wish, unused)?,
            (other, _) => return Err(format!("{field}.{other} is not known")),
        }
    }
    match name {
        Some("tensorrt") => Ok(wish),
        Some(other) => Err(format!("{field}: {other:?} is no accelerator here: write tensorrt")),
        None => Err(format!("{field} has no name: write tensorrt")),
    }
}

fn parameter(field: &str, entry: &Message, wish: &mut TensorRtWish, unused: &mut Vec<String>) -> Result<(), String> {
    let of = |wanted: &str| {
        entry.iter().find_map(|(name, value)| match value {
            Value::Scalar(text) if name == wanted => Some(text.as_str()),
            _ => None,
        })
    };
    let (Some(key), Some(value)) = (of("key"), of("value")) else {
        return Err(format!("{field}.parameters: a key and a value are expected"));
    };
    match key {
        "precision_mode" => {
            wish.precision = Some(value.parse().map_err(|error| format!("{field}: precision_mode: {error}"))?);
        }
        "max_workspace_size_bytes" => {
            let bytes = value.parse().map_err(|_| format!("{field}: {key}: {value:?} is no number of bytes"))?;
            wish.workspace = Some(bytes);
        }
        "trt_engine_cache_enable" | "trt_engine_cache_path" => {
            unused.push(format!("{field}: {key} has no effect: engines are always kept, in the host's cache"));
        }
        other => {
            return Err(format!(
                "{field}: {other:?} is no parameter here: write precision_mode or max_workspace_size_bytes"
            ));
        }
    }
    Ok(())
}

/// Put what the container wishes for, and where it leaves that open the model's configuration, into `options`.
pub fn tell(options: &mut TensorRtOptions, own: &TensorRtWish, config: Option<&TensorRtWish>) {
    let precision = own.precision.or(config.and_then(|config| config.precision)).unwrap_or_default();
    (options.fp16, options.bf16, options.int8) = (precision.fp16, precision.bf16, precision.int8);
    if let Some(bytes) = own.workspace.or(config.and_then(|config| config.workspace)) {
        options.workspace = Some(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::pbtxt;

    fn read(text: &str) -> Result<(Option<TensorRtWish>, Vec<String>), String> {
        let mut unused = Vec::new();
        Ok((of_optimization(&pbtxt::parse(text)?, &mut unused)?, unused))
    }

    fn accelerator(inside: &str) -> String {
        format!("execution_accelerators {{ gpu_execution_accelerator : [ {{ {inside} }} ] }}")
    }

    #[test]
    fn what_triton_writes_is_read() {
        let (wish, unused) = read(&accelerator(
            "name : \"tensorrt\" parameters { key: \"precision_mode\" value: \"FP16\" } \
             parameters { key: \"max_workspace_size_bytes\" value: \"1073741824\" } \
             parameters { key: \"trt_engine_cache_enable\" value: \"true\" }",
        ))
        .unwrap();
        let wanted = TensorRtWish { precision: "fp16".parse().ok(), workspace: Some(1 << 30) };
        assert_eq!(wish, Some(wanted));
        assert_eq!(unused.len(), 1, "{unused:?}");
        assert_eq!(read(&accelerator("name: \"tensorrt\"")).unwrap().0, Some(TensorRtWish::default()));
        let (none, unused) =
            read("graph { level: 1 } execution_accelerators { cpu_execution_accelerator [] }").unwrap();
        assert_eq!((none, unused), (None, vec!["optimization.graph has no effect: it is not known here".to_owned()]));
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (inside, words) in [
            ("name: \"openvino\"", "\"openvino\" is no accelerator here: write tensorrt"),
            ("", "has no name: write tensorrt"),
            ("name: \"tensorrt\" level: 1", "gpu_execution_accelerator.level is not known"),
            ("name: \"tensorrt\" parameters { key: \"precision_mode\" value: \"FP8\" }", "\"fp8\" is no precision"),
            (
                "name: \"tensorrt\" parameters { key: \"precision\" value: \"FP16\" }",
                "\"precision\" is no parameter here",
            ),
            (
                "name: \"tensorrt\" parameters { key: \"max_workspace_size_bytes\" value: \"1g\" }",
                "\"1g\" is no number",
            ),
            ("name: \"tensorrt\" parameters { key: \"precision_mode\" }", "a key and a value are expected"),
        ] {
            let error = read(&accelerator(inside)).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_container_has_the_first_word() {
        let config = TensorRtWish { precision: "int8".parse().ok(), workspace: Some(5) };
        let mut options = TensorRtOptions { workspace: Some(1), ..TensorRtOptions::default() };
        tell(&mut options, &TensorRtWish::default(), None);
        assert_eq!((options.fp16, options.int8, options.workspace), (false, false, Some(1)));
        tell(&mut options, &TensorRtWish::default(), Some(&config));
        assert_eq!((options.fp16, options.int8, options.workspace), (false, true, Some(5)));
        let own = TensorRtWish { precision: "fp16".parse().ok(), workspace: Some(7) };
        tell(&mut options, &own, Some(&config));
        assert_eq!((options.fp16, options.int8, options.workspace), (true, false, Some(7)));
    }
}
