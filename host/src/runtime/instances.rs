//! What a model's `config.pbtxt` says of where it runs, in Triton's meaning: `instance_group`, batches, and TensorRT.
//! What else stands there is named, so that nobody believes in it; types and shapes come from the model itself.

use std::fs;
use std::path::Path;

use super::pbtxt::{self, Message, Value};
use super::tensorrt::of_optimization;
use crate::container::tensorrt::TensorRtWish;
use crate::error::{Error, ErrorKind, Result};

const FILE: &str = "config.pbtxt";

/// Fields that say again what the model's file says, or where it lies.
const TOLD_BY_THE_MODEL: [&str; 5] = ["name", "platform", "backend", "input", "output"];

/// Of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelConfig {
    pub instances: Option<Instances>,
    /// How many requests may be joined into one run; 1 is none.
    pub max_batch: usize,
    /// Rows of the largest request, joined or not: `max_batch_size`.
    pub largest_batch: usize,
    /// Of its execution accelerators.
    pub tensorrt: Option<TensorRtWish>,
    /// Whether runs on CUDA are recorded and replayed, if it says.
    pub cuda_graph: Option<bool>,
    /// What is written there and has no effect here, a sentence each.
    pub unused: Vec<String>,
}

/// Of its first `instance_group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instances {
    pub kind: Kind,
    /// The first of `gpus`.
    pub gpu: Option<u32>,
    /// Most sessions at a time.
    pub count: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// What the host does best; `KIND_MODEL` too, which leaves it to the backend.
    #[default]
    Auto,
    Cpu,
    Gpu,
}

impl ModelConfig {
    /// Of the model at `NAME/VERSION/model.onnx`, whose configuration is `NAME/config.pbtxt`. Other models have none.
    pub fn of_model(model: &Path) -> Result<Option<ModelConfig>> {
        let version = model.parent().filter(|_| model.ends_with("model.onnx"));
        let is_version =
            |folder: &&Path| folder.file_name().is_some_and(|name| name.to_string_lossy().parse::<u64>().is_ok());
        let Some(folder) = version.filter(is_version).and_then(Path::parent) else { return Ok(None) };
        let path = folder.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Error::new(ErrorKind::Io, format!("cannot read {}", path.display())).because(error));
            }
        };
        let config = pbtxt::parse(&text).and_then(|message| ModelConfig::read(&message));
        config.map(Some).map_err(|reason| Error::invalid(format!("{}: {reason}", path.display())))
    }

    /// The error is one clause.
    fn read(message: &Message) -> Result<ModelConfig, String> {
        let mut config = ModelConfig { max_batch: 1, ..ModelConfig::default() };
        let (mut most, mut batches) = (1, false);
        for (name, value) in message {
            match (name.as_str(), value) {
                ("instance_group", Value::Message(group)) if config.instances.is_none() => {
                    config.instances = Some(Instances::read(group, &mut config.unused)?);
                }
                ("instance_group", _) => config.ignore("instance_group", "only the first group counts"),
                ("max_batch_size", value) => most = number(name, value)?,
                ("optimization", Value::Message(fields)) => {
                    config.tensorrt = of_optimization(fields, &mut config.unused)?;
                    config.cuda_graph = graphs(fields, &mut config.unused)?;
                }
                ("dynamic_batching", Value::Message(fields)) => {
                    batches = true;
                    for (field, _) in fields {
                        config.ignore(&format!("dynamic_batching.{field}"), "a free session takes what waits at once");
                    }
                }
                ("platform", Value::Scalar(word)) if word != "onnxruntime_onnx" && !word.is_empty() => {
                    return Err(format!("platform {word:?} is not served: only onnxruntime_onnx is"));
                }
                ("backend", Value::Scalar(word)) if word != "onnxruntime" && !word.is_empty() => {
                    return Err(format!("backend {word:?} is not served: only onnxruntime is"));
                }
                (told, _) if TOLD_BY_THE_MODEL.contains(&told) => {}
                (other, _) => config.ignore(other, "it is not known here"),
            }
        }
        config.largest_batch = usize::try_from(most.max(1)).unwrap_or(1);
        if batches {
            config.max_batch = config.largest_batch;
        }
        Ok(config)
    }

    fn ignore(&mut self, field: &str, why: &str) {
        self.unused.push(format!("{field} has no effect: {why}"));
    }
}

/// Of the field `optimization`: `cuda { graphs: true }`, as Triton has it. The error is one clause.
fn graphs(optimization: &Message, unused: &mut Vec<String>) -> Result<Option<bool>, String> {
    let mut graphs = None;
    for (_, cuda) in optimization.iter().filter(|(name, _)| name == "cuda") {
        let Value::Message(fields) = cuda else {
            return Err("optimization.cuda: fields in braces are expected".into());
        };
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("graphs", Value::Scalar(word)) if word == "true" || word == "1" => graphs = Some(true),
                ("graphs", Value::Scalar(word)) if word == "false" || word == "0" => graphs = Some(false),
                ("graphs", _) => return Err("optimization.cuda.graphs: write true or false".into()),
                (other, _) => unused.push(format!("optimization.cuda.{other} has no effect: it is not known here")),
            }
        }
    }
    Ok(graphs)
}

impl Instances {
    fn read(group: &Message, unused: &mut Vec<String>) -> Result<Instances, String> {
        let (mut kind, mut gpus, mut count) = (None, Vec::new(), None);
        for (name, value) in group {
            let field = format!("instance_group.{name}");
            match (name.as_str(), value) {
                ("name", _) => {}
                ("count", value) => {
                    count = Some(number(&field, value)?);
                    if count == Some(0) {
                        return Err(format!("{field}: 0 instances answer nothing; write 1 or more"));
                    }
                }
                ("gpus", value) => gpus.push(number(&field, value)?),
                ("kind", Value::Scalar(word)) => {
                    kind = Some(match word.as_str() {
                        "KIND_AUTO" | "KIND_MODEL" => Kind::Auto,
                        "KIND_CPU" => Kind::Cpu,
                        "KIND_GPU" => Kind::Gpu,
                        _ => {
                            return Err(format!(
                                "{field}: {word:?} is no kind: write KIND_AUTO, KIND_CPU, KIND_GPU or KIND_MODEL"
                            ));
                        }
                    });
                }
                _ => unused.push(format!("{field} has no effect: it is not known here")),
            }
        }
        let kind = kind.unwrap_or_default();
        if kind == Kind::Cpu && !gpus.is_empty() {
            return Err("instance_group: KIND_CPU has no gpus".to_owned());
        }
        if gpus.len() > 1 {
            unused.push(format!(
                "instance_group.gpus after the first has no effect: a model has one GPU, here {}",
                gpus[0]
            ));
        }
        Ok(Instances { kind, gpu: gpus.first().copied(), count })
    }
}

fn number(field: &str, value: &Value) -> Result<u32, String> {
    match value {
        Value::Scalar(word) => word.parse().map_err(|_| format!("{field}: {word:?} is no number from 0 up")),
        Value::Message(_) => Err(format!("{field}: a number is expected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ModelConfig, String> {
        ModelConfig::read(&pbtxt::parse(text)?)
    }

    #[test]
    fn groups_and_batches_are_read() {
        let config = read(
            "name: \"eyes\" platform: \"onnxruntime_onnx\" max_batch_size: 8 input [{ name: \"x\" }]\n\
             instance_group [{ count: 2 kind: KIND_GPU gpus: [ 1 ] }] dynamic_batching {}",
        );
        let instances = Some(Instances { kind: Kind::Gpu, gpu: Some(1), count: Some(2) });
        assert_eq!(
            config.unwrap(),
            ModelConfig { instances, max_batch: 8, largest_batch: 8, ..ModelConfig::default() }
        );
        // As in Triton: what takes batches need not be joined.
        assert_eq!(read("max_batch_size: 8").unwrap().max_batch, 1);
        assert_eq!(read("instance_group { }").unwrap().instances.unwrap().kind, Kind::Auto);
    }

    #[test]
    fn what_has_no_effect_is_named() {
        let config = read(
            "optimization { cuda { graphs: true busy_wait_events: true } graph { level: 1 } } instance_group [{ kind: KIND_GPU gpus: [0, 1] passive: true }, \
             { kind: KIND_CPU }] dynamic_batching { max_queue_delay_microseconds: 100 }",
        );
        let unused = config.unwrap().unused.join("\n");
        for field in [
            "optimization.cuda.busy_wait_events has no effect",
            "optimization.graph has no effect",
            "instance_group.passive has",
            "instance_group.gpus after the first has no effect: a model has one GPU, here 0",
            "instance_group has no effect: only the first",
            "dynamic_batching.max_queue_delay_microseconds has no effect",
        ] {
            assert!(unused.contains(field), "{field} is not in {unused}");
        }
    }

    #[test]
    fn cuda_graphs_are_asked_for_as_in_triton() {
        for (text, asked) in [
            ("", None),
            ("optimization { }", None),
            ("optimization { cuda { graphs: true } }", Some(true)),
            ("optimization { cuda { graphs: 0 } }", Some(false)),
        ] {
            let config = read(text).unwrap();
            assert_eq!((config.cuda_graph, config.unused), (asked, vec![]), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, words) in [
            ("optimization { cuda { graphs: maybe } }", "optimization.cuda.graphs: write true or false"),
            ("instance_group { kind: KIND_TPU }", "instance_group.kind: \"KIND_TPU\" is no kind: write KIND_AUTO"),
            ("instance_group { count: 0 }", "instance_group.count: 0 instances"),
            ("instance_group { count: -1 }", "instance_group.count: \"-1\" is no number"),
            ("instance_group { kind: KIND_CPU gpus: 0 }", "KIND_CPU has no gpus"),
            ("platform: \"tensorrt_plan\"", "platform \"tensorrt_plan\" is not served"),
            ("backend: \"python\"", "backend \"python\" is not served"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_file_lies_beside_the_versions() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("eyes/3/model.onnx");
        fs::create_dir_all(model.parent().unwrap()).unwrap();
        assert_eq!(ModelConfig::of_model(&model).unwrap(), None);
        fs::write(folder.path().join("eyes/config.pbtxt"), "instance_group [{ kind: KIND_CPU }]").unwrap();
        let config = ModelConfig::of_model(&model).unwrap().unwrap();
        assert_eq!(config.instances.unwrap().kind, Kind::Cpu);
        fs::write(folder.path().join("eyes/config.pbtxt"), "instance_group").unwrap();
        let error = ModelConfig::of_model(&model).unwrap_err().to_string();
        assert!(error.ends_with("eyes/config.pbtxt: line 1: `:` or `{` is expected, and the file ends"), "{error}");
        assert_eq!(ModelConfig::of_model(&folder.path().join("eyes.onnx")).unwrap(), None);
    }
}
