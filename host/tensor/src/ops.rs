//! The few operations on tensors that guests may ask of the host, because doing them in the guest would
//! copy the bytes across the boundary: slice, softmax, top-k.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::half::{bf16_to_f32, fp16_to_f32};
use crate::tensor::element_count;
use crate::{DType, Element, Tensor, TensorError};

/// One class of a classification.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Position along the last dimension.
    pub index: u32,
    /// The value there; 64-bit values are rounded to the nearest `f32`.
    pub score: f32,
}

impl Tensor {
    /// The part with `start <= index < end` along dimension `axis`; empty where `start == end`.
    ///
    /// Shares the bytes where the part is contiguous (every dimension before `axis` is 1), copies them
    /// otherwise. Refused for `BYTES`, whose elements have no fixed place.
    pub fn slice(&self, axis: usize, start: usize, end: usize) -> Result<Tensor, TensorError> {
        let Some(size) = self.dtype().size() else {
            return Err(TensorError::Datatype { expected: "a datatype of fixed size", actual: self.dtype() });
        };
        let Some(&dim) = self.shape().get(axis) else {
            return Err(no_such_axis(axis, self.shape()));
        };
        if start > end || end > dim {
            return Err(TensorError::Argument(format!(
                "cannot slice {start}..{end} along axis {axis} of shape {:?}: expected start <= end <= {dim}",
                self.shape()
            )));
        }
        let shape: Vec<usize> =
            self.shape().iter().enumerate().map(|(i, d)| if i == axis { end - start } else { *d }).collect();
        if element_count(&shape)? == 0 {
            return Tensor::new(self.dtype(), shape, Vec::new());
        }
        // No dimension is 0 from here on, so these products are bounded by the bytes that exist.
        let (before, from_axis) = self.shape().split_at(axis);
        let run = from_axis.iter().skip(1).product::<usize>() * size;
        let range = start * run..end * run;
        if before.iter().all(|d| *d == 1) {
            return Tensor::new(self.dtype(), shape, self.data().slice(range));
        }
        let parts = self.data().chunks_exact(dim * run).filter_map(|block| block.get(range.clone()));
        Tensor::new(self.dtype(), shape, parts.collect::<Vec<_>>().concat())
    }

    /// Softmax along `axis` (negative counts from the end), computed in `f32` with the maximum subtracted
    /// first. `FP32`, `FP64`, `FP16` and `BF16` in, `FP32` of the same shape out.
    ///
    /// As in other libraries a NaN or +infinity makes every value of its row NaN, and so does a row of
    /// nothing but -infinity.
    pub fn softmax(&self, axis: i32) -> Result<Tensor, TensorError> {
        let rank = self.shape().len();
        let index =
            if axis < 0 { (axis.unsigned_abs() as usize).wrapping_neg().wrapping_add(rank) } else { axis as usize };
        let Some(&dim) = self.shape().get(index) else {
            return Err(no_such_axis(axis, self.shape()));
        };
        let mut values = match self.dtype() {
            DType::Fp32 => self.values::<f32>()?.into_owned(),
            DType::Fp64 => self.values::<f64>()?.iter().map(|v| *v as f32).collect(),
            DType::Fp16 | DType::Bf16 => self.halves(),
            actual => return Err(TensorError::Datatype { expected: "FP32, FP64, FP16 or BF16", actual }),
        };
        if !values.is_empty() {
            let inner = self.shape().iter().skip(index + 1).product::<usize>();
            if inner == 1 {
                values.chunks_exact_mut(dim).for_each(softmax_row);
            } else {
                values.chunks_exact_mut(dim * inner).for_each(|block| softmax_planes(block, inner));
            }
        }
        Tensor::from_vec(self.shape(), values)
    }

    /// The `k` largest values along the last dimension, best first; equal values keep the lower index
    /// first. `k` is capped at the length of the last dimension, and NaN is never chosen, so there may be
    /// fewer than `k`. Every other dimension must be 1; refused for `BOOL` and `BYTES`.
    pub fn top_k(&self, k: usize) -> Result<Vec<Scored>, TensorError> {
        match self.shape().split_last() {
            Some((last, leading)) if leading.iter().all(|d| *d == 1) && u32::try_from(*last).is_ok() => {}
            _ => {
                return Err(TensorError::Argument(format!(
                    "top-k needs a shape of [n] or [1, …, 1, n] with n below 4294967296, the tensor has {:?}",
                    self.shape()
                )));
            }
        }
        match self.dtype() {
            DType::Uint8 => largest(self.values::<u8>()?, k, f32::from),
            DType::Uint16 => largest(self.values::<u16>()?, k, f32::from),
            DType::Uint32 => largest(self.values::<u32>()?, k, |v| v as f32),
            DType::Uint64 => largest(self.values::<u64>()?, k, |v| v as f32),
            DType::Int8 => largest(self.values::<i8>()?, k, f32::from),
            DType::Int16 => largest(self.values::<i16>()?, k, f32::from),
            DType::Int32 => largest(self.values::<i32>()?, k, |v| v as f32),
            DType::Int64 => largest(self.values::<i64>()?, k, |v| v as f32),
            DType::Fp32 => largest(self.values::<f32>()?, k, |v| v),
            DType::Fp64 => largest(self.values::<f64>()?, k, |v| v as f32),
            DType::Fp16 | DType::Bf16 => largest(self.halves().into(), k, |v| v),
            actual @ (DType::Bool | DType::Bytes) => {
                Err(TensorError::Datatype { expected: "a numeric datatype", actual })
            }
        }
    }

    /// The elements of an `FP16` or `BF16` tensor.
    fn halves(&self) -> Vec<f32> {
        let convert = if self.dtype() == DType::Bf16 { bf16_to_f32 } else { fp16_to_f32 };
        let (pairs, _) = self.data().as_chunks::<2>();
        pairs.iter().map(|pair| convert(u16::from_le_bytes(*pair))).collect()
    }
}

fn no_such_axis(axis: impl std::fmt::Display, shape: &[usize]) -> TensorError {
    TensorError::Argument(format!("axis {axis} does not exist, shape {shape:?} has {} dimensions", shape.len()))
}

fn softmax_row(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in row.iter_mut() {
        *value = (*value - max).exp();
        sum += *value;
    }
    row.iter_mut().for_each(|value| *value /= sum);
}

/// Softmax across the planes of `inner` values that `block` consists of. Walks plane by plane, so that
/// memory is read in order.
fn softmax_planes(block: &mut [f32], inner: usize) {
    let mut max = vec![f32::NEG_INFINITY; inner];
    for plane in block.chunks_exact(inner) {
        max.iter_mut().zip(plane).for_each(|(max, value)| *max = max.max(*value));
    }
    let mut sum = vec![0.0; inner];
    for plane in block.chunks_exact_mut(inner) {
        for ((value, max), sum) in plane.iter_mut().zip(&max).zip(&mut sum) {
            *value = (*value - max).exp();
            *sum += *value;
        }
    }
    for plane in block.chunks_exact_mut(inner) {
        plane.iter_mut().zip(&sum).for_each(|(value, sum)| *value /= sum);
    }
}

fn largest<T: Element + PartialOrd>(
    values: Cow<'_, [T]>,
    k: usize,
    score: impl Fn(T) -> f32,
) -> Result<Vec<Scored>, TensorError> {
    // Only NaN is not equal to itself.
    #[expect(clippy::eq_op, reason = "the test for NaN that also holds for integers")]
    let mut candidates: Vec<(u32, T)> = (0u32..).zip(values.iter().copied()).filter(|(_, v)| v == v).collect();
    let better = |a: &(u32, T), b: &(u32, T)| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0));
    if k == 0 {
        return Ok(Vec::new());
    }
    if k < candidates.len() {
        candidates.select_nth_unstable_by(k, better);
        candidates.truncate(k);
    }
    candidates.sort_unstable_by(better);
    Ok(candidates.into_iter().map(|(index, value)| Scored { index, score: score(value) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(shape: &[usize]) -> Tensor {
        let count = shape.iter().product::<usize>();
        Tensor::from_vec(shape, (0..count as i32).collect()).unwrap()
    }

    fn close(tensor: &Tensor, expected: &[f32]) {
        let values = tensor.values::<f32>().unwrap();
        assert_eq!(values.len(), expected.len());
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{values:?}");
        }
    }

    #[test]
    fn slices_along_every_axis() {
        let tensor = range(&[2, 3, 2]);
        let first = tensor.slice(0, 1, 2).unwrap();
        assert_eq!(
            (first.shape(), first.values::<i32>().unwrap().as_ref()),
            (&[1, 3, 2][..], &[6, 7, 8, 9, 10, 11][..])
        );
        let middle = tensor.slice(1, 1, 3).unwrap();
        assert_eq!(middle.shape(), [2, 2, 2]);
        assert_eq!(middle.values::<i32>().unwrap().as_ref(), [2, 3, 4, 5, 8, 9, 10, 11]);
        let last = tensor.slice(2, 1, 2).unwrap();
        assert_eq!((last.shape(), last.values::<i32>().unwrap().as_ref()), (&[2, 3, 1][..], &[1, 3, 5, 7, 9, 11][..]));
    }

    #[test]
    fn a_contiguous_slice_shares_the_bytes() {
        let tensor = range(&[1, 4, 2]);
        let part = tensor.slice(1, 1, 3).unwrap();
        assert_eq!(part.data().as_ptr(), tensor.data()[8..].as_ptr());
        assert_eq!(part.values::<i32>().unwrap().as_ref(), [2, 3, 4, 5]);
    }

    #[test]
    fn a_slice_may_be_empty_or_whole() {
        let tensor = range(&[2, 3]);
        assert_eq!(tensor.slice(1, 2, 2).unwrap().shape(), [2, 0]);
        assert_eq!(tensor.slice(1, 0, 3).unwrap(), tensor);
        assert_eq!(range(&[0, 3]).slice(1, 1, 2).unwrap().shape(), [0, 1]);
    }

    #[test]
    fn slices_outside_the_tensor_are_refused() {
        let tensor = range(&[2, 3]);
        let message = |axis, start, end| tensor.slice(axis, start, end).unwrap_err().to_string();
        assert_eq!(message(2, 0, 1), "axis 2 does not exist, shape [2, 3] has 2 dimensions");
        assert_eq!(message(1, 1, 4), "cannot slice 1..4 along axis 1 of shape [2, 3]: expected start <= end <= 3");
        assert!(message(1, 2, 1).contains("start <= end"));
        assert!(tensor.slice(1, usize::MAX, usize::MAX).is_err());
        let bytes = Tensor::from_elements([2], &["a", "b"]).unwrap();
        assert_eq!(
            bytes.slice(0, 0, 1).unwrap_err().to_string(),
            "expected a datatype of fixed size, the tensor holds BYTES"
        );
        let scalar = Tensor::from_vec([], vec![1i32]).unwrap();
        assert!(scalar.slice(0, 0, 1).is_err());
    }

    #[test]
    fn softmax_sums_to_one_along_its_axis() {
        let tensor = Tensor::from_vec([2, 3], vec![1.0f32, 2.0, 3.0, 1.0, 1.0, 1.0]).unwrap();
        let third = 1.0 / 3.0;
        let rows = [0.09003057, 0.24472847, 0.66524096, third, third, third];
        close(&tensor.softmax(-1).unwrap(), &rows);
        close(&tensor.softmax(1).unwrap(), &rows);
        close(&tensor.softmax(0).unwrap(), &[0.5, 0.7310586, 0.880797, 0.5, 0.26894143, 0.11920292]);
        assert_eq!(tensor.softmax(-2).unwrap(), tensor.softmax(0).unwrap());
    }

    #[test]
    fn softmax_survives_large_values() {
        let tensor = Tensor::from_vec([3], vec![1000.0f64, 1000.0, f64::NEG_INFINITY]).unwrap();
        close(&tensor.softmax(0).unwrap(), &[0.5, 0.5, 0.0]);
        let poisoned = Tensor::from_vec([2], vec![f32::NAN, 1.0]).unwrap().softmax(0).unwrap();
        assert!(poisoned.values::<f32>().unwrap().iter().all(|v| v.is_nan()));
    }

    #[test]
    fn softmax_reads_halves() {
        let fp16 = Tensor::from_half_bits(DType::Fp16, [1, 2], vec![0x3c00, 0x3c00]).unwrap();
        close(&fp16.softmax(-1).unwrap(), &[0.5, 0.5]);
        let bf16 = Tensor::from_half_bits(DType::Bf16, [2], vec![0x3f80, 0x0000]).unwrap();
        close(&bf16.softmax(-1).unwrap(), &[0.7310586, 0.26894143]);
    }

    #[test]
    fn softmax_refuses_what_it_cannot_do() {
        let tensor = Tensor::from_vec([2], vec![1.0f32, 2.0]).unwrap();
        for axis in [1, -2, i32::MIN, i32::MAX] {
            assert!(tensor.softmax(axis).unwrap_err().to_string().contains("does not exist"), "{axis}");
        }
        assert!(matches!(range(&[2]).softmax(0), Err(TensorError::Datatype { .. })));
        let empty = Tensor::from_vec([0, 3], Vec::<f32>::new()).unwrap();
        assert_eq!(empty.softmax(1).unwrap().shape(), [0, 3]);
    }

    #[test]
    fn top_k_is_best_first_and_ties_keep_the_lower_index() {
        let tensor = Tensor::from_vec([1, 6], vec![1.0f32, 5.0, f32::NAN, 5.0, -0.0, 0.0]).unwrap();
        let indices = |k| tensor.top_k(k).unwrap().iter().map(|s| s.index).collect::<Vec<_>>();
        assert_eq!(indices(0), []);
        assert_eq!(indices(1), [1]);
        assert_eq!(indices(3), [1, 3, 0]);
        assert_eq!(indices(usize::MAX), [1, 3, 0, 4, 5]);
        assert_eq!(tensor.top_k(1).unwrap(), [Scored { index: 1, score: 5.0 }]);
    }

    #[test]
    fn top_k_compares_integers_exactly() {
        let big = 1i64 << 60;
        let tensor = Tensor::from_vec([3], vec![big, big + 1, i64::MIN]).unwrap();
        assert_eq!(tensor.top_k(1).unwrap()[0].index, 1);
        let halves = Tensor::from_half_bits(DType::Fp16, [2], vec![0xc000, 0x3c00]).unwrap();
        assert_eq!(halves.top_k(2).unwrap()[0], Scored { index: 1, score: 1.0 });
    }

    #[test]
    fn top_k_refuses_batches_and_things_without_an_order() {
        assert!(range(&[2, 3]).top_k(1).unwrap_err().to_string().contains("[2, 3]"));
        assert!(Tensor::from_vec([], vec![1.0f32]).unwrap().top_k(1).is_err());
        assert!(Tensor::new(DType::Bool, [2], vec![0, 1]).unwrap().top_k(1).is_err());
        assert!(Tensor::from_elements([1], &["a"]).unwrap().top_k(1).is_err());
        assert_eq!(range(&[1, 0]).top_k(3).unwrap(), []);
    }
}
