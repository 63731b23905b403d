//! Tells ONNX Runtime which providers a session uses. Each fails loudly: its default is to log and to run on the CPU.

use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider, ExecutionProviderDispatch};

use super::device::Device;
use super::options::{CudaOptions, TensorRtOptions};
use super::preflight::Provider;

/// First choice first.
pub(super) fn dispatches(
    device: Device,
    cuda: &CudaOptions,
    tensorrt: &TensorRtOptions,
) -> Vec<ExecutionProviderDispatch> {
    let Some(gpu) = device.gpu() else { return Vec::new() };
    let one = |provider: Provider| match provider {
        Provider::Cuda => {
            let mut ep = ep::CUDA::default();
            for (key, value) in cuda.pairs(gpu) {
                ep = ep.with_arbitrary_config(key, value);
            }
            Some(ep.build().error_on_failure())
        }
        Provider::TensorRt => {
            let mut ep = ep::TensorRT::default();
            for (key, value) in tensorrt.pairs(gpu) {
                ep = ep.with_arbitrary_config(key, value);
            }
            Some(ep.build().error_on_failure())
        }
        Provider::Cpu => None,
    };
    device.providers().into_iter().filter_map(one).collect()
}
