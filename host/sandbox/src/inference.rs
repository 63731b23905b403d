//! The host's side of `wharf:inference`: tensors as handles, models by name.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Resource, WasmList};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;
use wharf_tensor::infer::{Infer, InferError, InferErrorKind, InferRequest, Outputs, TensorSpec, TensorView};
use wharf_tensor::{DType, Tensor, TensorError};

use crate::bindings::wharf::inference::models::{Host, HostModel, HostPending, Metadata, TensorData, TensorMetadata};
use crate::bindings::wharf::inference::tensors::{self, Datatype, Error, ErrorKind, HostTensor, Scored};
use crate::governor;
use crate::limits::OverLimit;
use crate::state::State;

type Answer<T> = wasmtime::Result<Result<T, Error>>;
type NamedTensors = Vec<(String, Resource<Tensor>)>;

/// A model the guest has opened.
pub struct OpenModel {
    name: String,
    infer: Arc<dyn Infer>,
}

/// An inference the guest started and has not finished.
pub struct Pending {
    answer: Option<oneshot::Receiver<Result<Outputs, InferError>>>,
    arrived: Option<Result<Outputs, InferError>>,
    /// Dropping the handle cancels the inference.
    _task: AbortOnDropJoinHandle<()>,
}

#[async_trait::async_trait]
impl Pollable for Pending {
    async fn ready(&mut self) {
        if let Some(answer) = &mut self.answer {
            self.arrived = Some(received(answer.await));
            self.answer = None;
        }
    }
}

fn received(answer: Result<Result<Outputs, InferError>, oneshot::error::RecvError>) -> Result<Outputs, InferError> {
    answer.unwrap_or_else(|_| {
        Err(InferError::new(InferErrorKind::Internal, "the inference task ended without an answer"))
    })
}

impl tensors::Host for State {}

impl HostTensor for State {
    fn create(&mut self, datatype: Datatype, shape: Vec<u32>, data: Vec<u8>) -> Answer<Resource<Tensor>> {
        let made = Tensor::new(dtype(datatype), dims(&shape), data);
        self.tensor_answer(made)
    }

    fn datatype(&mut self, handle: Resource<Tensor>) -> wasmtime::Result<Datatype> {
        Ok(datatype(self.table.get(&handle)?.dtype()))
    }

    fn shape(&mut self, handle: Resource<Tensor>) -> wasmtime::Result<Vec<u32>> {
        // No tensor of more than u32::MAX elements along one dimension passes the memory limit.
        Ok(self.table.get(&handle)?.shape().iter().map(|dim| u32::try_from(*dim).unwrap_or(u32::MAX)).collect())
    }

    fn byte_size(&mut self, handle: Resource<Tensor>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&handle)?.data().len() as u64)
    }

    fn data(&mut self, handle: Resource<Tensor>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&handle)?.data().to_vec())
    }

    fn reshape(&mut self, handle: Resource<Tensor>, shape: Vec<u32>) -> Answer<Resource<Tensor>> {
        let made = self.table.get(&handle)?.reshape(dims(&shape));
        self.tensor_answer(made)
    }

    fn slice(&mut self, handle: Resource<Tensor>, axis: u32, start: u32, end: u32) -> Answer<Resource<Tensor>> {
        let made = self.table.get(&handle)?.slice(axis as usize, start as usize, end as usize);
        self.tensor_answer(made)
    }

    fn softmax(&mut self, handle: Resource<Tensor>, axis: i32) -> Answer<Resource<Tensor>> {
        let made = self.table.get(&handle)?.softmax(axis);
        self.tensor_answer(made)
    }

    fn top_k(&mut self, handle: Resource<Tensor>, k: u32) -> Answer<Vec<Scored>> {
        let scored = self.table.get(&handle)?.top_k(k as usize);
        Ok(scored
            .map_err(invalid)
            .map(|best| best.into_iter().map(|class| Scored { index: class.index, score: class.score }).collect()))
    }

    fn drop(&mut self, handle: Resource<Tensor>) -> wasmtime::Result<()> {
        self.drop_tensor(handle)?;
        Ok(())
    }
}

impl Host for State {
    fn names(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.guest.models.iter().map(|(name, _)| name.clone()).collect())
    }
}

impl HostModel for State {
    fn open(&mut self, name: String) -> Answer<Resource<OpenModel>> {
        match self.open_model(&name) {
            Ok(model) => Ok(Ok(self.table.push(model)?)),
            Err(error) => Ok(Err(error_out(error))),
        }
    }

    fn metadata(&mut self, handle: Resource<OpenModel>) -> wasmtime::Result<Metadata> {
        let model = self.table.get(&handle)?;
        let signature = model.infer.signature();
        Ok(Metadata {
            name: model.name.clone(),
            platform: signature.platform.to_owned(),
            inputs: signature.inputs.iter().map(tensor_metadata).collect(),
            outputs: signature.outputs.iter().map(tensor_metadata).collect(),
        })
    }

    async fn infer(&mut self, handle: Resource<OpenModel>, inputs: NamedTensors) -> Answer<NamedTensors> {
        let (infer, request) = self.request(&handle, inputs)?;
        let since = Instant::now();
        let answer = governor::model(infer.infer(request)).await;
        self.turn.hosted_since(since);
        self.outputs(answer)
    }

    /// Never called: [`add_infer_from_memory`] takes this import's place in the linker.
    fn infer_data(&mut self, _: Resource<OpenModel>, _: Vec<TensorData>) -> Answer<NamedTensors> {
        Err(wasmtime::format_err!("infer-data is linked by hand"))
    }

    fn start(&mut self, handle: Resource<OpenModel>, inputs: NamedTensors) -> Answer<Resource<Pending>> {
        let (infer, request) = self.request(&handle, inputs)?;
        let (send, answer) = oneshot::channel();
        let task = wasmtime_wasi::runtime::spawn(async move {
            // The guest may have dropped its handle meanwhile.
            let _ = send.send(infer.infer(request).await);
        });
        Ok(Ok(self.table.push(Pending { answer: Some(answer), arrived: None, _task: task })?))
    }

    fn drop(&mut self, handle: Resource<OpenModel>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl HostPending for State {
    fn subscribe(&mut self, handle: Resource<Pending>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, handle)
    }

    async fn finish(&mut self, handle: Resource<Pending>) -> Answer<NamedTensors> {
        let pending = self.table.get_mut(&handle)?;
        pending.ready().await;
        match pending.arrived.take() {
            Some(answer) => self.outputs(answer),
            None => Ok(Err(error_out(InferError::invalid("this inference was finished before")))),
        }
    }

    fn drop(&mut self, handle: Resource<Pending>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl State {
    pub(crate) fn open_model(&self, name: &str) -> Result<OpenModel, InferError> {
        match self.guest.models.iter().find(|(known, _)| known == name) {
            Some((name, infer)) => Ok(OpenModel { name: name.clone(), infer: infer.clone() }),
            None => {
                let known: Vec<&str> = self.guest.models.iter().map(|(name, _)| name.as_str()).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Err(InferError::new(
                    InferErrorKind::NotFound,
                    format!("this container has no model {name:?}; its models: {known}"),
                ))
            }
        }
    }

    fn tensor_answer(&mut self, made: Result<Tensor, TensorError>) -> Answer<Resource<Tensor>> {
        Ok(match made {
            Ok(tensor) => self.hold_tensor(tensor)?.map_err(over_limit),
            Err(error) => Err(invalid(error)),
        })
    }

    fn request(
        &mut self,
        handle: &Resource<OpenModel>,
        inputs: NamedTensors,
    ) -> wasmtime::Result<(Arc<dyn Infer>, InferRequest)> {
        let infer = self.table.get(handle)?.infer.clone();
        let inputs = inputs
            .into_iter()
            .map(|(name, tensor)| Ok((name, self.table.get(&tensor)?.clone())))
            .collect::<wasmtime::Result<_>>()?;
        Ok((infer, InferRequest { inputs, deadline: self.deadline }))
    }

    fn outputs(&mut self, answer: Result<Outputs, InferError>) -> Answer<NamedTensors> {
        let outputs = match answer {
            Ok(outputs) => outputs,
            Err(error) => return Ok(Err(error_out(error))),
        };
        let mut handles = Vec::with_capacity(outputs.len());
        for (name, tensor) in outputs {
            match self.hold_tensor(tensor)? {
                Ok(handle) => handles.push((name.to_string(), handle)),
                Err(over) => {
                    for (_, handle) in handles {
                        self.drop_tensor(handle)?;
                    }
                    return Ok(Err(over_limit(over)));
                }
            }
        }
        Ok(Ok(handles))
    }
}

impl OpenModel {
    pub(crate) fn infer(&self) -> &Arc<dyn Infer> {
        &self.infer
    }
}

/// `tensor-data` with its bytes left in guest memory.
#[derive(ComponentType, Lift)]
#[component(record)]
struct GuestData {
    name: String,
    datatype: Datatype,
    shape: Vec<u32>,
    data: WasmList<u8>,
}

/// Links `infer-data`. The generated binding would lift each list into a `Vec`; here the model reads the
/// guest's memory in place, while this thread (and so the guest) stands still.
pub(crate) fn add_infer_from_memory(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.instance("wharf:inference/models@0.1.0")?.func_wrap(
        "[method]model.infer-data",
        |mut store: StoreContextMut<'_, State>, (handle, inputs): (Resource<OpenModel>, Vec<GuestData>)| {
            let state = store.data();
            let infer = state.table.get(&handle)?.infer.clone();
            let deadline = state.deadline;
            let views: Vec<TensorView<'_>> = inputs
                .iter()
                .map(|input| TensorView {
                    name: &input.name,
                    dtype: dtype(input.datatype),
                    shape: dims(&input.shape),
                    data: input.data.as_le_slice(&store),
                })
                .collect();
            let since = Instant::now();
            let answer = governor::model_now(|| infer.infer_blocking(&views, deadline));
            store.data_mut().turn.hosted_since(since);
            Ok((store.data_mut().outputs(answer)?,))
        },
    )
}

fn dims(shape: &[u32]) -> Vec<usize> {
    shape.iter().map(|dim| *dim as usize).collect()
}

fn tensor_metadata(spec: &TensorSpec) -> TensorMetadata {
    TensorMetadata {
        name: spec.name.to_string(),
        datatype: datatype(spec.dtype),
        shape: spec.shape.iter().map(|dim| dim.map_or(-1, |dim| dim as i64)).collect(),
    }
}

fn invalid(error: TensorError) -> Error {
    Error { kind: ErrorKind::InvalidArgument, message: error.to_string() }
}

fn over_limit(over: OverLimit) -> Error {
    Error { kind: ErrorKind::Internal, message: over.to_string() }
}

fn error_out(error: InferError) -> Error {
    let kind = match error.kind {
        InferErrorKind::InvalidArgument => ErrorKind::InvalidArgument,
        InferErrorKind::NotFound => ErrorKind::NotFound,
        InferErrorKind::Unavailable => ErrorKind::Unavailable,
        InferErrorKind::DeadlineExceeded | InferErrorKind::Cancelled => ErrorKind::DeadlineExceeded,
        InferErrorKind::Internal => ErrorKind::Internal,
    };
    Error { kind, message: error.message }
}

macro_rules! datatypes {
    ($($dtype:ident => $wit:ident),* $(,)?) => {
        pub(crate) fn datatype(dtype: DType) -> Datatype {
            match dtype { $(DType::$dtype => Datatype::$wit,)* }
        }

        pub(crate) fn dtype(datatype: Datatype) -> DType {
            match datatype { $(Datatype::$wit => DType::$dtype,)* }
        }
    };
}
datatypes!(Bool => Bool, Uint8 => Uint8, Uint16 => Uint16, Uint32 => Uint32, Uint64 => Uint64, Int8 => Int8,
    Int16 => Int16, Int32 => Int32, Int64 => Int64, Fp16 => Fp16, Bf16 => Bf16, Fp32 => Fp32, Fp64 => Fp64,
    Bytes => Bytes);
