//! [`Tensor`]: a handle to numbers in the host's memory, and typed views of a guest's own.

use std::fmt;

use crate::bindings::wharf::inference::tensors;
use crate::error::{InferenceError, InferenceErrorKind};

pub use crate::bindings::wharf::inference::tensors::{Datatype, Scored};

type Result<T> = std::result::Result<T, InferenceError>;

impl Datatype {
    /// The name in the Open Inference Protocol: `FP32`, `BOOL`, …
    pub fn name(self) -> &'static str {
        match self {
            Datatype::Bool => "BOOL",
            Datatype::Uint8 => "UINT8",
            Datatype::Uint16 => "UINT16",
            Datatype::Uint32 => "UINT32",
            Datatype::Uint64 => "UINT64",
            Datatype::Int8 => "INT8",
            Datatype::Int16 => "INT16",
            Datatype::Int32 => "INT32",
            Datatype::Int64 => "INT64",
            Datatype::Fp16 => "FP16",
            Datatype::Bf16 => "BF16",
            Datatype::Fp32 => "FP32",
            Datatype::Fp64 => "FP64",
            Datatype::Bytes => "BYTES",
        }
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Rust number that is the in-memory form of a datatype.
pub trait Element: bytemuck::Pod {
    /// The datatype.
    const DATATYPE: Datatype;
}

macro_rules! elements {
    ($($number:ty => $datatype:ident),* $(,)?) => {
        $(impl Element for $number { const DATATYPE: Datatype = Datatype::$datatype; })*
    };
}
elements!(u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64,
          i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64, f32 => Fp32, f64 => Fp64);

/// A tensor still in the guest's memory, for [`Model::run_slices`](crate::Model::run_slices).
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    pub(crate) datatype: Datatype,
    pub(crate) shape: &'a [u32],
    pub(crate) bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// Row-major numbers of a shape.
    pub fn new<T: Element>(shape: &'a [u32], numbers: &'a [T]) -> Self {
        TensorView { datatype: T::DATATYPE, shape, bytes: bytemuck::cast_slice(numbers) }
    }

    /// Little-endian, row-major bytes of any datatype: FP16, BOOL (a byte each), BYTES (each with a 4-byte
    /// length before it).
    pub fn from_bytes(datatype: Datatype, shape: &'a [u32], bytes: &'a [u8]) -> Self {
        TensorView { datatype, shape, bytes }
    }
}

/// An immutable tensor in the host's memory. Operations make new ones.
#[derive(Debug)]
pub struct Tensor {
    handle: tensors::Tensor,
}

impl Tensor {
    pub(crate) fn from_handle(handle: tensors::Tensor) -> Self {
        Tensor { handle }
    }

    pub(crate) fn handle(&self) -> &tensors::Tensor {
        &self.handle
    }

    fn made(handle: std::result::Result<tensors::Tensor, tensors::Error>) -> Result<Self> {
        Ok(Tensor { handle: handle? })
    }

    /// Copy row-major numbers into the host. To run a model once with them,
    /// [`Model::run_slices`](crate::Model::run_slices) saves the copy.
    pub fn from_slice<T: Element>(shape: &[u32], numbers: &[T]) -> Result<Self> {
        Tensor::from_view(TensorView::new(shape, numbers))
    }

    /// Copy a view into the host.
    pub fn from_view(view: TensorView<'_>) -> Result<Self> {
        Tensor::made(tensors::Tensor::create(view.datatype, view.shape, view.bytes))
    }

    /// A BYTES tensor: one string, or any bytes, for each element.
    pub fn from_strings<S: AsRef<[u8]>>(shape: &[u32], strings: &[S]) -> Result<Self> {
        let mut bytes = Vec::new();
        for string in strings {
            let string = string.as_ref();
            let length = u32::try_from(string.len()).map_err(|_| invalid("a BYTES element is larger than 4 GiB"))?;
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(string);
        }
        Tensor::from_view(TensorView::from_bytes(Datatype::Bytes, shape, &bytes))
    }

    /// The datatype.
    pub fn datatype(&self) -> Datatype {
        self.handle.datatype()
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> Vec<u32> {
        self.handle.shape()
    }

    /// Size of the numbers in bytes.
    pub fn byte_size(&self) -> u64 {
        self.handle.byte_size()
    }

    /// Copy the little-endian, row-major bytes into the guest.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.handle.data()
    }

    /// Copy the numbers into the guest. `u8` also reads BOOL.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let datatype = self.datatype();
        let same = datatype == T::DATATYPE || (datatype == Datatype::Bool && T::DATATYPE == Datatype::Uint8);
        if !same {
            return Err(invalid(format!("the tensor holds {datatype}, asked for {}", T::DATATYPE)));
        }
        Ok(bytemuck::pod_collect_to_vec(&self.to_bytes()))
    }

    /// Copy the elements of a BYTES tensor into the guest.
    pub fn to_strings(&self) -> Result<Vec<Vec<u8>>> {
        let datatype = self.datatype();
        if datatype != Datatype::Bytes {
            return Err(invalid(format!("the tensor holds {datatype}, asked for BYTES")));
        }
        strings(&self.to_bytes())
    }

    /// The same numbers in another shape. Shares them.
    pub fn reshape(&self, shape: &[u32]) -> Result<Self> {
        Tensor::made(self.handle.reshape(shape))
    }

    /// The part with `start <= index < end` along a dimension.
    pub fn slice(&self, axis: u32, range: std::ops::Range<u32>) -> Result<Self> {
        Tensor::made(self.handle.slice(axis, range.start, range.end))
    }

    /// Softmax along a dimension (-1: the last), as FP32.
    pub fn softmax(&self, axis: i32) -> Result<Self> {
        Tensor::made(self.handle.softmax(axis))
    }

    /// The `k` largest numbers along the last dimension, best first. All other dimensions must be 1.
    pub fn top_k(&self, k: u32) -> Result<Vec<Scored>> {
        Ok(self.handle.top_k(k)?)
    }
}

fn invalid(message: impl Into<String>) -> InferenceError {
    InferenceError::new(InferenceErrorKind::InvalidArgument, message)
}

/// The elements of raw BYTES: each has its length before it.
fn strings(mut bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((string, rest)) = rest.split_at_checked(length) else { break };
        strings.push(string.to_vec());
        bytes = rest;
    }
    if bytes.is_empty() { Ok(strings) } else { Err(invalid("a BYTES element ends early")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_reads_numbers_in_place() {
        let numbers = [1.0f32, 2.0];
        let view = TensorView::new(&[1, 2], &numbers);
        assert_eq!((view.datatype, view.bytes.len()), (Datatype::Fp32, 8));
        assert_eq!(view.bytes.as_ptr(), numbers.as_ptr().cast());
    }

    #[test]
    fn bytes_elements_have_their_length_before_them() {
        assert_eq!(strings(b"\x02\0\0\0ab\0\0\0\0"), Ok(vec![b"ab".to_vec(), vec![]]));
        assert_eq!(strings(b"\x03\0\0\0ab"), Err(invalid("a BYTES element ends early")));
        assert_eq!(strings(b"\x03\0"), Err(invalid("a BYTES element ends early")));
    }
}
