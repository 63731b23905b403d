//! The host's side of the standard `wasi:nn` (0.2.0-rc-2024-10-28), an adapter over the container's models
//! for guests that know nothing of Wharf.
//!
//! Graphs are opened by name only: a guest cannot bring a model of its own, as its memory and time would not be
//! the container's. Outputs keep the model's type; types the interface has no name for (BOOL, the
//! other integers, strings) are an error rather than a silent conversion.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::Resource;
use wharf_tensor::infer::{Infer, InferError, InferErrorKind, InferRequest};
use wharf_tensor::{DType, Tensor};

use crate::bindings::wasi::nn::errors::{self, ErrorCode, HostError};
use crate::bindings::wasi::nn::graph::{self, ExecutionTarget, GraphBuilder, GraphEncoding, HostGraph};
use crate::bindings::wasi::nn::inference::{self, HostGraphExecutionContext};
use crate::bindings::wasi::nn::tensor::{self, HostTensor, TensorType};
use crate::governor;
use crate::state::State;

/// A tensor as `wasi:nn` sees it. The constructor cannot fail there, so a bad one is kept and reported by
/// `compute`.
pub struct NnTensor(Result<Tensor, Malformed>);

struct Malformed {
    ty: TensorType,
    dimensions: Vec<u32>,
    message: String,
}

pub struct Graph(Arc<dyn Infer>);

pub struct Context(Arc<dyn Infer>);

pub struct NnError {
    code: ErrorCode,
    message: String,
}

type Answer<T> = wasmtime::Result<Result<T, Resource<NnError>>>;

impl tensor::Host for State {}

impl HostTensor for State {
    fn new(&mut self, dimensions: Vec<u32>, ty: TensorType, data: Vec<u8>) -> wasmtime::Result<Resource<NnTensor>> {
        let size = data.len();
        let shape: Vec<usize> = dimensions.iter().map(|dim| *dim as usize).collect();
        let made = Tensor::new(dtype(ty), shape, data).map_err(|error| error.to_string());
        let made = made.and_then(|tensor| match self.meter.hold(size) {
            Ok(()) => Ok(tensor),
            Err(over) => Err(over.to_string()),
        });
        Ok(self.table.push(NnTensor(made.map_err(|message| Malformed { ty, dimensions, message })))?)
    }

    fn dimensions(&mut self, handle: Resource<NnTensor>) -> wasmtime::Result<Vec<u32>> {
        Ok(match &self.table.get(&handle)?.0 {
            Ok(tensor) => tensor.shape().iter().map(|dim| u32::try_from(*dim).unwrap_or(u32::MAX)).collect(),
            Err(malformed) => malformed.dimensions.clone(),
        })
    }

    fn ty(&mut self, handle: Resource<NnTensor>) -> wasmtime::Result<TensorType> {
        match &self.table.get(&handle)?.0 {
            Ok(tensor) => tensor_type(tensor.dtype())
                .ok_or_else(|| wasmtime::format_err!("wasi:nn has no name for {}", tensor.dtype())),
            Err(malformed) => Ok(malformed.ty),
        }
    }

    fn data(&mut self, handle: Resource<NnTensor>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&handle)?.0.as_ref().map(|tensor| tensor.data().to_vec()).unwrap_or_default())
    }

    fn drop(&mut self, handle: Resource<NnTensor>) -> wasmtime::Result<()> {
        if let NnTensor(Ok(tensor)) = self.table.delete(handle)? {
            self.meter.release(tensor.data().len());
        }
        Ok(())
    }
}

impl graph::Host for State {
    fn load(&mut self, _: Vec<GraphBuilder>, _: GraphEncoding, _: ExecutionTarget) -> Answer<Resource<Graph>> {
        self.refuse(
            ErrorCode::UnsupportedOperation,
            "graphs cannot be loaded from bytes: put the model into the image and open it with load-by-name",
        )
    }

    fn load_by_name(&mut self, name: String) -> Answer<Resource<Graph>> {
        match self.open_model(&name) {
            Ok(model) => Ok(Ok(self.table.push(Graph(model.infer().clone()))?)),
            Err(error) => self.refuse_infer(error),
        }
    }
}

impl HostGraph for State {
    fn init_execution_context(&mut self, handle: Resource<Graph>) -> Answer<Resource<Context>> {
        let infer = self.table.get(&handle)?.0.clone();
        Ok(Ok(self.table.push(Context(infer))?))
    }

    fn drop(&mut self, handle: Resource<Graph>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl inference::Host for State {}

impl HostGraphExecutionContext for State {
    async fn compute(
        &mut self,
        handle: Resource<Context>,
        inputs: Vec<(String, Resource<NnTensor>)>,
    ) -> Answer<Vec<(String, Resource<NnTensor>)>> {
        let infer = self.table.get(&handle)?.0.clone();
        let mut named = Vec::with_capacity(inputs.len());
        let mut malformed = None;
        for (name, tensor) in inputs {
            match self.table.delete(tensor)?.0 {
                Ok(tensor) => {
                    self.meter.release(tensor.data().len());
                    named.push((name, tensor));
                }
                Err(bad) => malformed = malformed.or(Some(format!("input {name:?}: {}", bad.message))),
            }
        }
        if let Some(message) = malformed {
            return self.refuse(ErrorCode::InvalidArgument, message);
        }
        let answer = infer.infer(InferRequest { inputs: named, deadline: self.deadline });
        let since = Instant::now();
        let answer = governor::model(answer).await;
        self.turn.hosted_since(since);
        let outputs = match answer {
            Ok(outputs) => outputs,
            Err(error) => return self.refuse_infer(error),
        };
        for (name, tensor) in &outputs {
            if tensor_type(tensor.dtype()).is_none() {
                let message = format!("output {name:?} is {}, which wasi:nn has no name for", tensor.dtype());
                return self.refuse(ErrorCode::UnsupportedOperation, message);
            }
        }
        let mut handles = Vec::with_capacity(outputs.len());
        for (name, tensor) in outputs {
            if let Err(over) = self.meter.hold(tensor.data().len()) {
                return self.refuse(ErrorCode::TooLarge, over.to_string());
            }
            handles.push((name.to_string(), self.table.push(NnTensor(Ok(tensor)))?));
        }
        Ok(Ok(handles))
    }

    fn drop(&mut self, handle: Resource<Context>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl errors::Host for State {}

impl HostError for State {
    fn code(&mut self, handle: Resource<NnError>) -> wasmtime::Result<ErrorCode> {
        Ok(self.table.get(&handle)?.code)
    }

    fn data(&mut self, handle: Resource<NnError>) -> wasmtime::Result<String> {
        Ok(self.table.get(&handle)?.message.clone())
    }

    fn drop(&mut self, handle: Resource<NnError>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl State {
    fn refuse<T>(&mut self, code: ErrorCode, message: impl Into<String>) -> Answer<T> {
        Ok(Err(self.table.push(NnError { code, message: message.into() })?))
    }

    fn refuse_infer<T>(&mut self, error: InferError) -> Answer<T> {
        let code = match error.kind {
            InferErrorKind::InvalidArgument => ErrorCode::InvalidArgument,
            InferErrorKind::NotFound => ErrorCode::NotFound,
            InferErrorKind::DeadlineExceeded | InferErrorKind::Cancelled => ErrorCode::Timeout,
            InferErrorKind::Unavailable | InferErrorKind::Internal => ErrorCode::RuntimeError,
        };
        self.refuse(code, error.message)
    }
}

fn dtype(ty: TensorType) -> DType {
    match ty {
        TensorType::Fp16 => DType::Fp16,
        TensorType::Fp32 => DType::Fp32,
        TensorType::Fp64 => DType::Fp64,
        TensorType::Bf16 => DType::Bf16,
        TensorType::U8 => DType::Uint8,
        TensorType::I32 => DType::Int32,
        TensorType::I64 => DType::Int64,
    }
}

fn tensor_type(dtype: DType) -> Option<TensorType> {
    match dtype {
        DType::Fp16 => Some(TensorType::Fp16),
        DType::Fp32 => Some(TensorType::Fp32),
        DType::Fp64 => Some(TensorType::Fp64),
        DType::Bf16 => Some(TensorType::Bf16),
        DType::Uint8 => Some(TensorType::U8),
        DType::Int32 => Some(TensorType::I32),
        DType::Int64 => Some(TensorType::I64),
        _ => None,
    }
}
