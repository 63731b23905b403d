//! Where a session runs, and how ONNX Runtime is told.

use std::fmt;

use ort::ep::{self, ExecutionProviderDispatch};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    #[default]
    Cpu,
    /// CUDA on the GPU of this number.
    Cuda(u32),
    /// `TensorRT` on the GPU of this number; nodes it cannot take go to CUDA on the same GPU.
    TensorRt(u32),
}

impl Device {
    /// The providers to register, first choice first. Each fails loudly: ONNX Runtime's default is to log
    /// and to run on the CPU instead.
    pub(super) fn providers(self) -> Vec<ExecutionProviderDispatch> {
        let number = |id: u32| i32::try_from(id).unwrap_or(i32::MAX);
        match self {
            Device::Cpu => Vec::new(),
            Device::Cuda(id) => vec![cuda(number(id))],
            Device::TensorRt(id) => {
                let tensorrt = ep::TensorRT::default().with_device_id(number(id)).build().error_on_failure();
                vec![tensorrt, cuda(number(id))]
            }
        }
    }
}

fn cuda(id: i32) -> ExecutionProviderDispatch {
    ep::CUDA::default().with_device_id(id).build().error_on_failure()
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
