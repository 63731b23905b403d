//! [`Tensor`]: a checked triple of datatype, shape and bytes.

use std::borrow::Cow;

use bytemuck::Pod;
use bytes::Bytes;

use crate::DType;

/// A row-major, contiguous tensor in host memory. Cloning shares the bytes.
///
/// Invariant: `data.len()` is the number of elements times the element size; for `BYTES`, `data` holds
/// exactly one length-prefixed entry per element. Dimensions may be 0 (an empty tensor).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Bytes,
}

/// Why a tensor could not be made. Every message names what was given and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    #[error("shape {shape:?} of {dtype} needs {expected} bytes, got {actual}")]
    Size { dtype: DType, shape: Vec<usize>, expected: usize, actual: usize },
    #[error("shape {0:?} has more elements than this machine can address")]
    Overflow(Vec<usize>),
    #[error("shape {shape:?} needs {expected} BYTES elements, got {actual}")]
    Count { shape: Vec<usize>, expected: usize, actual: usize },
    #[error("BYTES element {index} claims {claimed} bytes, only {left} are left")]
    Truncated { index: usize, claimed: usize, left: usize },
    #[error("BOOL element {index} is {value}, expected 0 or 1")]
    Bool { index: usize, value: u8 },
    #[error("expected {expected}, the tensor holds {actual}")]
    Datatype { expected: &'static str, actual: DType },
    #[error("cannot reshape {from:?} ({count} elements) to {to:?}")]
    Reshape { from: Vec<usize>, to: Vec<usize>, count: usize },
    #[error("{0}")]
    Argument(String),
}

/// A Rust type that is the in-memory form of one datatype.
pub trait Element: Pod + Send + Sync {
    const DTYPE: DType;
}

macro_rules! elements {
    ($($rust:ty => $dtype:ident),* $(,)?) => {
        $(impl Element for $rust { const DTYPE: DType = DType::$dtype; })*
    };
}
elements!(u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64,
          i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64, f32 => Fp32, f64 => Fp64);

/// Lets a `Vec<T>` own the memory behind [`Bytes`] without a copy, and keeps it aligned for `T`.
pub(crate) struct Owner<T>(pub(crate) Vec<T>);

impl<T: Pod> AsRef<[u8]> for Owner<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl Tensor {
    /// Check and make a tensor from raw little-endian bytes. Nothing is copied.
    pub fn new(dtype: DType, shape: impl Into<Vec<usize>>, data: impl Into<Bytes>) -> Result<Self, TensorError> {
        let (shape, data) = (shape.into(), data.into());
        let count = element_count(&shape)?;
        match dtype.size() {
            Some(size) => {
                let expected = count.checked_mul(size).ok_or_else(|| TensorError::Overflow(shape.clone()))?;
                if data.len() != expected {
                    return Err(TensorError::Size { dtype, shape, expected, actual: data.len() });
                }
                if dtype == DType::Bool
                    && let Some(index) = data.iter().position(|b| *b > 1)
                {
                    return Err(TensorError::Bool { index, value: data[index] });
                }
            }
            None => {
                let mut actual = 0;
                for entry in BytesElements::new(&data) {
                    entry?;
                    actual += 1;
                }
                if actual != count {
                    return Err(TensorError::Count { shape, expected: count, actual });
                }
            }
        }
        Ok(Tensor { dtype, shape, data })
    }

    /// Make a tensor from typed values. Nothing is copied.
    pub fn from_vec<T: Element>(shape: impl Into<Vec<usize>>, values: Vec<T>) -> Result<Self, TensorError> {
        Tensor::new(T::DTYPE, shape, Bytes::from_owner(Owner(values)))
    }

    /// Make a `BYTES` tensor from its elements.
    pub fn from_elements<B: AsRef<[u8]>>(shape: impl Into<Vec<usize>>, elements: &[B]) -> Result<Self, TensorError> {
        let mut data = Vec::with_capacity(elements.iter().map(|e| e.as_ref().len() + 4).sum());
        for (index, element) in elements.iter().enumerate() {
            let element = element.as_ref();
            let length = u32::try_from(element.len()).map_err(|_| {
                TensorError::Argument(format!(
                    "BYTES element {index} is {} bytes, the most is 4294967295",
                    element.len()
                ))
            })?;
            data.extend_from_slice(&length.to_le_bytes());
            data.extend_from_slice(element);
        }
        Tensor::new(DType::Bytes, shape, data)
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The raw bytes.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    pub fn into_data(self) -> Bytes {
        self.data
    }

    /// The elements as Rust values; borrowed when the bytes are aligned for `T`, copied otherwise.
    pub fn values<T: Element>(&self) -> Result<Cow<'_, [T]>, TensorError> {
        if self.dtype != T::DTYPE {
            return Err(TensorError::Datatype { expected: T::DTYPE.name(), actual: self.dtype });
        }
        Ok(match bytemuck::try_cast_slice(&self.data) {
            Ok(values) => Cow::Borrowed(values),
            Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(&self.data)),
        })
    }

    /// The elements of a `BYTES` tensor.
    pub fn elements(&self) -> Result<Vec<&[u8]>, TensorError> {
        if self.dtype != DType::Bytes {
            return Err(TensorError::Datatype { expected: "BYTES", actual: self.dtype });
        }
        BytesElements::new(&self.data).collect()
    }

    /// The same bytes under another shape.
    pub fn reshape(&self, shape: impl Into<Vec<usize>>) -> Result<Self, TensorError> {
        let shape = shape.into();
        let count = self.len();
        if element_count(&shape)? != count {
            return Err(TensorError::Reshape { from: self.shape.clone(), to: shape, count });
        }
        Ok(Tensor { dtype: self.dtype, shape, data: self.data.clone() })
    }
}

/// Product of the dimensions, or an error where it overflows.
pub fn element_count(shape: &[usize]) -> Result<usize, TensorError> {
    // A 0 anywhere makes the tensor empty, whatever the other dimensions would overflow to.
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1usize, |product, dim| product.checked_mul(*dim))
        .ok_or_else(|| TensorError::Overflow(shape.to_vec()))
}

/// Walks length-prefixed entries.
pub(crate) struct BytesElements<'a> {
    rest: &'a [u8],
    index: usize,
}

impl<'a> BytesElements<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        BytesElements { rest: data, index: 0 }
    }
}

impl<'a> Iterator for BytesElements<'a> {
    type Item = Result<&'a [u8], TensorError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let index = self.index;
        self.index += 1;
        let Some((prefix, rest)) = self.rest.split_first_chunk::<4>() else {
            let left = self.rest.len();
            self.rest = &[];
            return Some(Err(TensorError::Truncated { index, claimed: 4, left }));
        };
        let claimed = u32::from_le_bytes(*prefix) as usize;
        if claimed > rest.len() {
            self.rest = &[];
            return Some(Err(TensorError::Truncated { index, claimed, left: rest.len() }));
        }
        let (element, rest) = rest.split_at(claimed);
        self.rest = rest;
        Some(Ok(element))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_must_match_the_shape() {
        assert!(Tensor::new(DType::Fp32, [2, 2], vec![0u8; 16]).is_ok());
        let error = Tensor::new(DType::Fp32, [2, 2], vec![0u8; 15]).unwrap_err();
        assert_eq!(error.to_string(), "shape [2, 2] of FP32 needs 16 bytes, got 15");
    }

    #[test]
    fn shapes_that_overflow_are_refused() {
        let error = Tensor::new(DType::Uint8, [usize::MAX, 3], vec![]).unwrap_err();
        assert!(matches!(error, TensorError::Overflow(_)));
        let error = Tensor::new(DType::Fp64, [usize::MAX / 4], vec![]).unwrap_err();
        assert!(matches!(error, TensorError::Overflow(_)));
        assert!(Tensor::new(DType::Fp64, [usize::MAX, 0], vec![]).is_ok());
    }

    #[test]
    fn bytes_elements_round_trip() {
        let tensor = Tensor::from_elements([3], &["one", "", "three"]).unwrap();
        assert_eq!(tensor.elements().unwrap(), [b"one".as_slice(), b"", b"three"]);
        assert_eq!(tensor.len(), 3);
    }

    #[test]
    fn bytes_elements_that_overrun_are_refused() {
        let error = Tensor::new(DType::Bytes, [1], vec![9, 0, 0, 0, 1]).unwrap_err();
        assert_eq!(error, TensorError::Truncated { index: 0, claimed: 9, left: 1 });
        let error = Tensor::new(DType::Bytes, [2], vec![0, 0, 0, 0]).unwrap_err();
        assert_eq!(error, TensorError::Count { shape: vec![2], expected: 2, actual: 1 });
        assert!(Tensor::new(DType::Bytes, [1], vec![1, 0, 0]).is_err());
    }

    #[test]
    fn bools_are_zero_or_one() {
        assert!(Tensor::new(DType::Bool, [2], vec![0, 1]).is_ok());
        let error = Tensor::new(DType::Bool, [2], vec![0, 2]).unwrap_err();
        assert_eq!(error.to_string(), "BOOL element 1 is 2, expected 0 or 1");
    }

    #[test]
    fn values_are_typed() {
        let tensor = Tensor::from_vec([2], vec![1.5f32, -2.0]).unwrap();
        assert_eq!(tensor.values::<f32>().unwrap().as_ref(), [1.5, -2.0]);
        assert!(tensor.values::<i32>().is_err());
        // Bytes that are not aligned for their type are copied, not refused.
        let shifted = Bytes::from([&[0u8][..], tensor.data()].concat()).slice(1..);
        let unaligned = Tensor::new(DType::Fp32, [2], shifted).unwrap();
        assert_eq!(unaligned.values::<f32>().unwrap().as_ref(), [1.5, -2.0]);
    }

    #[test]
    fn reshape_keeps_the_bytes() {
        let tensor = Tensor::from_vec([2, 3], vec![0i64; 6]).unwrap();
        assert_eq!(tensor.reshape([3, 2]).unwrap().shape(), [3, 2]);
        assert!(tensor.reshape([4]).is_err());
    }
}
