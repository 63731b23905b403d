//! Joining tensors along dimension 0 and taking them apart again: what batching does to inputs and outputs.

use bytes::Bytes;

use crate::tensor::{BytesElements, element_count};
use crate::{DType, Tensor, TensorError};

/// Join tensors along dimension 0. All must have the same datatype and, but for dimension 0, the same
/// shape. One tensor alone is returned as it is, without a copy.
pub fn concat(tensors: &[&Tensor]) -> Result<Tensor, TensorError> {
    let [first, rest @ ..] = tensors else {
        return Err(TensorError::Argument("nothing to join: the list of tensors is empty".into()));
    };
    let Some((rows, item)) = first.shape().split_first() else {
        return Err(TensorError::Argument("tensor 0 is a scalar, it has no dimension 0 to join along".into()));
    };
    if rest.is_empty() {
        return Ok((*first).clone());
    }
    let (mut rows, mut length) = (*rows, first.data().len());
    for (index, tensor) in rest.iter().enumerate() {
        let index = index + 1;
        if tensor.dtype() != first.dtype() {
            return Err(TensorError::Argument(format!(
                "tensor {index} holds {}, tensor 0 holds {}: only one datatype can be joined",
                tensor.dtype(),
                first.dtype()
            )));
        }
        match tensor.shape().split_first() {
            Some((more, tail)) if tail == item => {
                let overflow = || TensorError::Overflow(tensor.shape().to_vec());
                rows = rows.checked_add(*more).ok_or_else(overflow)?;
                length += tensor.data().len();
            }
            _ => {
                return Err(TensorError::Argument(format!(
                    "tensor {index} has shape {:?}, tensor 0 has {:?}: they may differ in dimension 0 only",
                    tensor.shape(),
                    first.shape()
                )));
            }
        }
    }
    let mut data = Vec::with_capacity(length);
    tensors.iter().for_each(|tensor| data.extend_from_slice(tensor.data()));
    Tensor::new(first.dtype(), with_rows(rows, item), data)
}

/// Take a tensor apart along dimension 0 into parts of `sizes` rows, which must add up to that dimension.
/// The parts share the tensor's bytes.
pub fn split(tensor: &Tensor, sizes: &[usize]) -> Result<Vec<Tensor>, TensorError> {
    let Some((rows, item)) = tensor.shape().split_first() else {
        return Err(TensorError::Argument("a scalar has no dimension 0 to split along".into()));
    };
    let total = sizes.iter().try_fold(0usize, |sum, size| sum.checked_add(*size));
    if total != Some(*rows) {
        return Err(TensorError::Argument(format!(
            "cannot split shape {:?} into parts of {sizes:?} rows: they must add up to {rows}",
            tensor.shape()
        )));
    }
    let mut rest = tensor.data().clone();
    let mut parts = Vec::with_capacity(sizes.len());
    for size in sizes {
        let shape = with_rows(*size, item);
        let part = rest.split_to(bytes_of(tensor.dtype(), element_count(&shape)?, &rest)?);
        parts.push(Tensor::new(tensor.dtype(), shape, part)?);
    }
    Ok(parts)
}

/// How many bytes the next `count` elements take.
fn bytes_of(dtype: DType, count: usize, rest: &Bytes) -> Result<usize, TensorError> {
    let length = match dtype.size() {
        // Bounded by the whole tensor's size, which was checked when it was made.
        Some(size) => count * size,
        None => {
            let mut length = 0;
            for element in BytesElements::new(rest).take(count) {
                length += 4 + element?.len();
            }
            length
        }
    };
    Ok(length.min(rest.len()))
}

fn with_rows(rows: usize, item: &[usize]) -> Vec<usize> {
    [&[rows], item].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_in_order() {
        let a = Tensor::from_vec([1, 2], vec![1i16, 2]).unwrap();
        let b = Tensor::from_vec([2, 2], vec![3i16, 4, 5, 6]).unwrap();
        let joined = concat(&[&a, &b, &a]).unwrap();
        assert_eq!(joined.shape(), [4, 2]);
        assert_eq!(joined.values::<i16>().unwrap().as_ref(), [1, 2, 3, 4, 5, 6, 1, 2]);
    }

    #[test]
    fn one_tensor_is_not_copied() {
        let tensor = Tensor::from_vec([2], vec![1u8, 2]).unwrap();
        assert_eq!(concat(&[&tensor]).unwrap().data().as_ptr(), tensor.data().as_ptr());
    }

    #[test]
    fn mismatches_are_refused_by_name() {
        let a = Tensor::from_vec([1, 2], vec![1i16, 2]).unwrap();
        let message = |tensors: &[&Tensor]| concat(tensors).unwrap_err().to_string();
        assert!(message(&[]).contains("empty"));
        let other = Tensor::from_vec([1, 2], vec![1u16, 2]).unwrap();
        assert_eq!(
            message(&[&a, &other]),
            "tensor 1 holds UINT16, tensor 0 holds INT16: only one datatype can be joined"
        );
        let wide = Tensor::from_vec([1, 3], vec![0i16; 3]).unwrap();
        assert_eq!(
            message(&[&a, &a, &wide]),
            "tensor 2 has shape [1, 3], tensor 0 has [1, 2]: they may differ in dimension 0 only"
        );
        let scalar = Tensor::from_vec([], vec![1i16]).unwrap();
        assert!(message(&[&scalar]).contains("scalar"));
        assert!(message(&[&a, &scalar]).contains("tensor 1"));
        let endless = Tensor::new(DType::Uint8, [usize::MAX, 0], Vec::new()).unwrap();
        assert!(matches!(concat(&[&endless, &endless]), Err(TensorError::Overflow(_))));
    }

    #[test]
    fn parts_share_the_bytes() {
        let tensor = Tensor::from_vec([3, 2], vec![1i32, 2, 3, 4, 5, 6]).unwrap();
        let parts = split(&tensor, &[1, 0, 2]).unwrap();
        assert_eq!(parts.iter().map(|p| p.shape().to_vec()).collect::<Vec<_>>(), [[1, 2], [0, 2], [2, 2]]);
        assert_eq!(parts[2].data().as_ptr(), tensor.data()[8..].as_ptr());
        assert_eq!(parts[2].values::<i32>().unwrap().as_ref(), [3, 4, 5, 6]);
    }

    #[test]
    fn bytes_elements_are_counted_not_measured() {
        let tensor = Tensor::from_elements([3, 2], &["a", "", "long one", "b", "c", "dd"]).unwrap();
        let parts = split(&tensor, &[2, 1]).unwrap();
        assert_eq!(parts[0].elements().unwrap(), [b"a".as_slice(), b"", b"long one", b"b"]);
        assert_eq!(parts[1].elements().unwrap(), [b"c".as_slice(), b"dd"]);
        assert_eq!(concat(&[&parts[0], &parts[1]]).unwrap(), tensor);
    }

    #[test]
    fn sizes_must_add_up() {
        let tensor = Tensor::from_vec([3], vec![1u8, 2, 3]).unwrap();
        let message = |sizes: &[usize]| split(&tensor, sizes).unwrap_err().to_string();
        assert_eq!(message(&[1, 1]), "cannot split shape [3] into parts of [1, 1] rows: they must add up to 3");
        assert!(message(&[usize::MAX, 4]).contains("add up"));
        assert!(split(&Tensor::from_vec([], vec![1u8]).unwrap(), &[1]).is_err());
        assert_eq!(split(&Tensor::from_vec([0], Vec::<u8>::new()).unwrap(), &[]).unwrap(), []);
    }

    #[test]
    fn random_tensors_round_trip() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut below = move |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % bound as u64) as usize
        };
        for _ in 0..500 {
            let dtype = DType::ALL[below(DType::ALL.len())];
            let item: Vec<usize> = (0..below(3)).map(|_| below(4)).collect();
            let parts: Vec<Tensor> = (0..1 + below(5))
                .map(|_| {
                    let shape = with_rows(below(4), &item);
                    let count = element_count(&shape).unwrap();
                    match dtype.size() {
                        Some(size) => {
                            let data: Vec<u8> = (0..count * size).map(|_| below(2) as u8).collect();
                            Tensor::new(dtype, shape, data).unwrap()
                        }
                        None => {
                            let elements: Vec<Vec<u8>> = (0..count).map(|_| vec![7; below(9)]).collect();
                            Tensor::from_elements(shape, &elements).unwrap()
                        }
                    }
                })
                .collect();
            let joined = concat(&parts.iter().collect::<Vec<_>>()).unwrap();
            let sizes: Vec<usize> = parts.iter().map(|p| p.shape()[0]).collect();
            assert_eq!(split(&joined, &sizes).unwrap(), parts);
        }
    }
}
