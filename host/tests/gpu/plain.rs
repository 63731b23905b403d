//! ONNX Runtime without Wharf, as its own documentation shows it: a session with the provider's default options, and `run`
//! on tensors in the host's memory. In the same process, on the same device.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ort::ep;
use ort::session::Session;
use ort::session::SessionInputValue;
use ort::session::builder::SessionBuilder;
use ort::value::TensorRef;
use serde_json::Value;
use wharf::batch::{ModelOptions, Models};
use wharf::model::environment::usable_cores;
use wharf::model::library::Search;
use wharf::model::{Device, OnnxRuntime};
use wharf_tensor::Tensor;

use super::subject::Subject;

pub fn runtime() -> &'static OnnxRuntime {
    let path = std::env::var_os("ORT_DYLIB_PATH")
        .expect("ORT_DYLIB_PATH must name ONNX Runtime's library: run the tests with `cargo xtask test`");
    let search = Search { ort_dylib_path: Some(path.into()), ..Search::default() };
    OnnxRuntime::start(&search, usable_cores()).unwrap()
}

pub struct Plain(Session);

impl Plain {
    pub fn open(subject: &Subject, device: Device) -> Plain {
        Plain(builder(device).commit_from_file(&subject.path).unwrap())
    }

    pub fn run(&mut self, inputs: &[(String, Tensor)]) {
        let values: Vec<SessionInputValue<'_>> = inputs
            .iter()
            .map(|(_, tensor)| {
                let values = bytemuck::cast_slice::<u8, f32>(tensor.data());
                SessionInputValue::from(TensorRef::from_array_view((tensor.shape(), values)).unwrap())
            })
            .collect();
        let outputs = self.0.run(values.as_slice()).unwrap();
        assert!(outputs.len() > 0);
    }

    /// How many runs of nodes each provider did in one run of the model, by ONNX Runtime's profiler.
    pub fn profiled(subject: &Subject, device: Device) -> BTreeMap<String, usize> {
        let folder = tempfile::tempdir().unwrap();
        let builder = builder(device).with_profiling(folder.path().join("profile")).unwrap();
        let mut session = Plain({ builder }.commit_from_file(&subject.path).unwrap());
        let shapes = Models::new(runtime(), None).load(&subject.name, &subject.path, ModelOptions::default()).unwrap();
        session.run(&subject.inputs(&shapes, 1, 1));
        let file = PathBuf::from(session.0.end_profiling().unwrap());
        let events: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let mut ran = BTreeMap::new();
        for provider in events.iter().filter_map(|event| event["args"]["provider"].as_str()) {
            *ran.entry(provider.to_owned()).or_default() += 1;
        }
        ran
    }
}

fn builder(device: Device) -> SessionBuilder {
    let builder = Session::builder(runtime().environment()).unwrap();
    let cuda = |gpu: u32| ep::CUDA::default().with_device_id(gpu as i32).build().error_on_failure();
    match device {
        Device::Cpu => builder,
        Device::Cuda(gpu) => builder.with_execution_providers([cuda(gpu)]).unwrap(),
        Device::TensorRt(gpu) => {
            let tensorrt = ep::TensorRT::default().with_device_id(gpu as i32).build().error_on_failure();
            builder.with_execution_providers([tensorrt, cuda(gpu)]).unwrap()
        }
    }
}
