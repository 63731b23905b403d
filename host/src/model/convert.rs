//! Tensors to ONNX Runtime's values and back. Inputs are lent where their bytes are aligned, outputs keep
//! ONNX Runtime's memory alive: on the usual path nothing is copied.

use std::slice;

use bytemuck::Pod;
use bytes::Bytes;
use ort::memory::{AllocationDevice, Allocator, MemoryInfo};
use ort::session::SessionInputValue;
use ort::value::{DynTensor, DynTensorValueType, DynValue, PrimitiveTensorElementType, TensorElementType, TensorRef};
use wharf_tensor::infer::TensorView;
use wharf_tensor::{DType, Tensor};

/// One input as the session sees it: somebody else's bytes, not necessarily aligned.
#[derive(Clone, Copy, Debug)]
pub struct InputRef<'a> {
    pub name: &'a str,
    pub dtype: DType,
    pub shape: &'a [usize],
    pub data: &'a [u8],
}

impl<'a> InputRef<'a> {
    pub fn of_tensor(name: &'a str, tensor: &'a Tensor) -> Self {
        InputRef { name, dtype: tensor.dtype(), shape: tensor.shape(), data: tensor.data() }
    }

    pub fn of_view(view: &'a TensorView<'_>) -> Self {
        InputRef { name: view.name, dtype: view.dtype, shape: &view.shape, data: view.data }
    }
}

pub fn dtype_of(element: TensorElementType) -> Option<DType> {
    Some(match element {
        TensorElementType::Bool => DType::Bool,
        TensorElementType::Uint8 => DType::Uint8,
        TensorElementType::Uint16 => DType::Uint16,
        TensorElementType::Uint32 => DType::Uint32,
        TensorElementType::Uint64 => DType::Uint64,
        TensorElementType::Int8 => DType::Int8,
        TensorElementType::Int16 => DType::Int16,
        TensorElementType::Int32 => DType::Int32,
        TensorElementType::Int64 => DType::Int64,
        TensorElementType::Float16 => DType::Fp16,
        TensorElementType::Bfloat16 => DType::Bf16,
        TensorElementType::Float32 => DType::Fp32,
        TensorElementType::Float64 => DType::Fp64,
        TensorElementType::String => DType::Bytes,
        _ => return None,
    })
}

/// `None` for strings, which lie in no buffer.
pub(super) fn element_of(dtype: DType) -> Option<TensorElementType> {
    Some(match dtype {
        DType::Bool => TensorElementType::Bool,
        DType::Uint8 => TensorElementType::Uint8,
        DType::Uint16 => TensorElementType::Uint16,
        DType::Uint32 => TensorElementType::Uint32,
        DType::Uint64 => TensorElementType::Uint64,
        DType::Int8 => TensorElementType::Int8,
        DType::Int16 => TensorElementType::Int16,
        DType::Int32 => TensorElementType::Int32,
        DType::Int64 => TensorElementType::Int64,
        DType::Fp16 => TensorElementType::Float16,
        DType::Bf16 => TensorElementType::Bfloat16,
        DType::Fp32 => TensorElementType::Float32,
        DType::Fp64 => TensorElementType::Float64,
        DType::Bytes => return None,
    })
}

/// Copy an input into a tensor of its type and shape, in memory the host reaches. The error is one clause about this input.
pub(super) fn fill(tensor: &mut DynTensor, input: &InputRef<'_>) -> Result<(), String> {
    if input.dtype == DType::Bool {
        checked_bools(input)?;
    }
    let bytes = bytes_mut(tensor)?;
    if bytes.len() != input.data.len() {
        return Err(format!("shape {:?} needs {} bytes, got {}", input.shape, bytes.len(), input.data.len()));
    }
    bytes.copy_from_slice(input.data);
    Ok(())
}

/// All bytes of a tensor in memory that the host reaches. Whatever is in them is a value of no meaning until written.
#[expect(unsafe_code, reason = "ort has no untyped view of a tensor's memory")]
pub(super) fn bytes_mut(tensor: &mut DynTensor) -> Result<&mut [u8], String> {
    let length = tensor.data_type().byte_size(tensor.shape().num_elements()).unwrap_or(0);
    if length == 0 {
        return Ok(&mut []);
    }
    if *tensor.data_type() == TensorElementType::String || !is_in_host_memory(tensor.memory_info()) {
        return Err("it is not in host memory".into());
    }
    // SAFETY: ONNX Runtime allocated `length` bytes for this tensor, in memory of this process (checked above), and the
    // tensor is borrowed for as long as they are.
    Ok(unsafe { slice::from_raw_parts_mut(tensor.data_ptr_mut().cast::<u8>(), length) })
}

/// Pinned memory is the host's, though ONNX Runtime counts it among the GPU's since 1.23.
fn is_in_host_memory(info: &MemoryInfo<'_>) -> bool {
    info.is_cpu_accessible() || info.allocation_device() == AllocationDevice::CUDA_PINNED
}

/// Lend an input to ONNX Runtime. The error is one clause about this input: what is wrong with it.
pub fn lend<'a>(input: &InputRef<'a>) -> Result<SessionInputValue<'a>, String> {
    let text = |error: ort::Error| error.to_string();
    match input.dtype {
        DType::Bool => lend_bools(input),
        DType::Uint8 => lend_slice::<u8>(input).map_err(text),
        DType::Uint16 => lend_slice::<u16>(input).map_err(text),
        DType::Uint32 => lend_slice::<u32>(input).map_err(text),
        DType::Uint64 => lend_slice::<u64>(input).map_err(text),
        DType::Int8 => lend_slice::<i8>(input).map_err(text),
        DType::Int16 => lend_slice::<i16>(input).map_err(text),
        DType::Int32 => lend_slice::<i32>(input).map_err(text),
        DType::Int64 => lend_slice::<i64>(input).map_err(text),
        DType::Fp32 => lend_slice::<f32>(input).map_err(text),
        DType::Fp64 => lend_slice::<f64>(input).map_err(text),
        DType::Fp16 => copy_halves(input, TensorElementType::Float16).map_err(text),
        DType::Bf16 => copy_halves(input, TensorElementType::Bfloat16).map_err(text),
        DType::Bytes => copy_strings(input),
    }
}

fn lend_slice<'a, T>(input: &InputRef<'a>) -> ort::Result<SessionInputValue<'a>>
where
    T: PrimitiveTensorElementType + Pod + std::fmt::Debug,
{
    match bytemuck::try_cast_slice::<u8, T>(input.data) {
        Ok(values) => Ok(TensorRef::from_array_view((input.shape, values))?.into()),
        // Guests may pass bytes at any address; ONNX Runtime's kernels want them aligned.
        Err(_) => {
            let values: Vec<T> = bytemuck::pod_collect_to_vec(input.data);
            Ok(ort::value::Tensor::from_array((input.shape, values))?.into())
        }
    }
}

fn checked_bools<'a>(input: &InputRef<'a>) -> Result<&'a [bool], String> {
    bytemuck::checked::try_cast_slice::<u8, bool>(input.data).map_err(|_| {
        let found = input.data.iter().enumerate().find(|(_, byte)| **byte > 1);
        let (index, value) = found.map_or((0, 0), |(index, byte)| (index, *byte));
        format!("BOOL element {index} is {value}, expected 0 or 1")
    })
}

fn lend_bools<'a>(input: &InputRef<'a>) -> Result<SessionInputValue<'a>, String> {
    let values = checked_bools(input)?;
    Ok(TensorRef::from_array_view((input.shape, values)).map_err(|error| error.to_string())?.into())
}

/// `ort` has Rust types for halves only with another crate's float types; the bytes are copied instead.
#[expect(unsafe_code, reason = "ort has no safe way to write 16-bit floats without its `half` feature")]
fn copy_halves(input: &InputRef<'_>, element: TensorElementType) -> ort::Result<SessionInputValue<'static>> {
    let mut tensor = DynTensor::new(&Allocator::default(), element, input.shape)?;
    let length = element.byte_size(tensor.shape().num_elements()).unwrap_or(0);
    if length != input.data.len() {
        return Err(ort::Error::new(format!("shape {:?} needs {length} bytes, got {}", input.shape, input.data.len())));
    }
    if length > 0 {
        // SAFETY: the default allocator's memory is the host's; ONNX Runtime allocated `length` bytes there
        // for this tensor alone, and every bit pattern is a valid half.
        unsafe { slice::from_raw_parts_mut(tensor.data_ptr_mut().cast::<u8>(), length) }.copy_from_slice(input.data);
    }
    Ok(tensor.into_dyn().into())
}

fn copy_strings(input: &InputRef<'_>) -> Result<SessionInputValue<'static>, String> {
    let tensor =
        Tensor::new(DType::Bytes, input.shape, Bytes::copy_from_slice(input.data)).map_err(|e| e.to_string())?;
    let elements = tensor.elements().map_err(|e| e.to_string())?;
    let mut texts = Vec::with_capacity(elements.len());
    for (index, element) in elements.into_iter().enumerate() {
        let text =
            str::from_utf8(element).map_err(|_| format!("BYTES element {index} is not UTF-8, as ONNX strings are"))?;
        if text.contains('\0') {
            return Err(format!("BYTES element {index} holds a zero byte, which ONNX Runtime's strings cannot"));
        }
        texts.push(text.to_string());
    }
    let tensor = ort::value::Tensor::from_string_array((input.shape, texts.as_slice()));
    Ok(tensor.map_err(|e| e.to_string())?.into())
}

/// Memory of ONNX Runtime's, given back when the last `Bytes` over it goes.
struct Owner {
    tensor: DynTensor,
    length: usize,
}

impl AsRef<[u8]> for Owner {
    #[expect(unsafe_code, reason = "ort has no untyped view of a tensor's memory")]
    fn as_ref(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: the value is a tensor in host memory (checked in `take`) of `length` bytes in all; it is
        // owned by `self`, never written to again, and its memory does not move.
        unsafe { slice::from_raw_parts(self.tensor.data_ptr().cast::<u8>(), self.length) }
    }
}

/// An output as a tensor, without copying (strings excepted). The error is one clause about this output.
pub fn take(value: DynValue) -> Result<Tensor, String> {
    let value = value.downcast::<DynTensorValueType>().map_err(|error| format!("it is no tensor: {error}"))?;
    let element = *value.data_type();
    let dtype =
        dtype_of(element).ok_or_else(|| format!("its element type {element} has no datatype in Open Inference"))?;
    let shape = value
        .shape()
        .iter()
        .map(|dim| usize::try_from(*dim).map_err(|_| format!("its shape is {:?}", value.shape())))
        .collect::<Result<Vec<usize>, _>>()?;
    if dtype == DType::Bytes {
        let (_, texts) = value.try_extract_strings().map_err(|error| error.to_string())?;
        return Tensor::from_elements(shape, &texts).map_err(|error| error.to_string());
    }
    if !is_in_host_memory(value.memory_info()) {
        return Err("it is not in host memory".into());
    }
    let length = element.byte_size(value.shape().num_elements()).unwrap_or(0);
    Tensor::new(dtype, shape, Bytes::from_owner(Owner { tensor: value, length })).map_err(|error| error.to_string())
}
