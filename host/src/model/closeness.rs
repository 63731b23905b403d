//! How far two answers of one model are apart. A GPU adds up in another order than a CPU, so that equal bytes cannot be
//! asked for; what is asked for is said as a tolerance. Pure.

use std::fmt;

use wharf_tensor::half::{bf16_to_f32, fp16_to_f32};
use wharf_tensor::{DType, Tensor};

/// Between two tensors of one type and shape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Difference {
    /// Of the element that differs most. Infinite where one is a number and the other is none, or another infinity.
    pub largest: f64,
    /// Of the expected elements, the largest by magnitude, infinities left out.
    pub magnitude: f64,
    pub elements: usize,
}

impl Difference {
    /// The error is one clause: another type or another shape, which no tolerance forgives.
    pub fn between(expected: &Tensor, actual: &Tensor) -> Result<Difference, String> {
        if expected.dtype() != actual.dtype() || expected.shape() != actual.shape() {
            let (have, want) = (described(actual), described(expected));
            return Err(format!("it is {have}, expected {want}"));
        }
        if expected.dtype() == DType::Bytes {
            let same = expected.data() == actual.data();
            return if same { Ok(Difference::default()) } else { Err("its strings differ".into()) };
        }
        let mut difference = Difference { elements: expected.len(), ..Difference::default() };
        for (want, have) in numbers(expected).zip(numbers(actual)) {
            if want.is_finite() {
                difference.magnitude = difference.magnitude.max(want.abs());
            }
            // Two infinities of one sign, or two that are no number, are the same answer.
            if want != have && !(want.is_nan() && have.is_nan()) {
                let apart = (want - have).abs();
                difference.largest = difference.largest.max(if apart.is_nan() { f64::INFINITY } else { apart });
            }
        }
        Ok(difference)
    }

    /// The difference as a part of the largest element: 1e-3 is a thousandth.
    pub fn relative(&self) -> f64 {
        if self.largest == 0.0 { 0.0 } else { self.largest / self.magnitude.max(f64::MIN_POSITIVE) }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { largest, magnitude, elements } = self;
        write!(f, "{largest:.2e} of {magnitude:.2e} at most ({:.2e}), {elements} elements", self.relative())
    }
}

fn described(tensor: &Tensor) -> String {
    format!("{} {:?}", tensor.dtype(), tensor.shape())
}

/// Integers of 64 bits lose their last bits beyond 2⁵³.
fn numbers(tensor: &Tensor) -> Box<dyn Iterator<Item = f64> + '_> {
    fn each<'a, const N: usize>(
        bytes: &'a [u8],
        number: impl Fn([u8; N]) -> f64 + 'a,
    ) -> Box<dyn Iterator<Item = f64> + 'a> {
        Box::new(bytes.as_chunks::<N>().0.iter().map(move |chunk| number(*chunk)))
    }
    let bytes = tensor.data().as_ref();
    match tensor.dtype() {
        DType::Bool | DType::Uint8 => each(bytes, |[byte]: [u8; 1]| f64::from(byte)),
        DType::Int8 => each(bytes, |[byte]: [u8; 1]| f64::from(byte as i8)),
        DType::Uint16 => each(bytes, |b| f64::from(u16::from_ne_bytes(b))),
        DType::Int16 => each(bytes, |b| f64::from(i16::from_ne_bytes(b))),
        DType::Uint32 => each(bytes, |b| f64::from(u32::from_ne_bytes(b))),
        DType::Int32 => each(bytes, |b| f64::from(i32::from_ne_bytes(b))),
        DType::Uint64 => each(bytes, |b| u64::from_ne_bytes(b) as f64),
        DType::Int64 => each(bytes, |b| i64::from_ne_bytes(b) as f64),
        DType::Fp16 => each(bytes, |b| f64::from(fp16_to_f32(u16::from_ne_bytes(b)))),
        DType::Bf16 => each(bytes, |b| f64::from(bf16_to_f32(u16::from_ne_bytes(b)))),
        DType::Fp32 => each(bytes, |b| f64::from(f32::from_ne_bytes(b))),
        DType::Fp64 => each(bytes, f64::from_ne_bytes),
        DType::Bytes => Box::new(std::iter::empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f32]) -> Tensor {
        Tensor::from_vec([values.len()], values.to_vec()).unwrap()
    }

    #[test]
    fn the_largest_difference_counts() {
        let difference = Difference::between(&floats(&[1., -8., 3.]), &floats(&[1.5, -8., 2.])).unwrap();
        assert_eq!(difference, Difference { largest: 1., magnitude: 8., elements: 3 });
        assert_eq!(difference.relative(), 0.125);
        assert_eq!(difference.to_string(), "1.00e0 of 8.00e0 at most (1.25e-1), 3 elements");
        assert_eq!(Difference::between(&floats(&[0., 0.]), &floats(&[0., 0.])).unwrap().relative(), 0.);
        assert!(Difference::between(&floats(&[0.]), &floats(&[1e-30])).unwrap().relative() > 1.);
    }

    #[test]
    fn what_is_no_number_equals_itself_only() {
        let odd = floats(&[f32::NAN, f32::INFINITY, 1.]);
        assert_eq!(Difference::between(&odd, &odd).unwrap().largest, 0.);
        for other in [[0., f32::INFINITY, 1.], [f32::NAN, f32::NEG_INFINITY, 1.], [f32::NAN, 3., 1.]] {
            assert_eq!(Difference::between(&odd, &floats(&other)).unwrap().largest, f64::INFINITY, "{other:?}");
        }
        assert_eq!(Difference::between(&floats(&[1.]), &floats(&[f32::NAN])).unwrap().relative(), f64::INFINITY);
    }

    #[test]
    fn another_shape_or_type_is_never_close() {
        let two = Tensor::from_vec([1, 2], vec![1f32, 2.]).unwrap();
        let refused = Difference::between(&floats(&[1., 2.]), &two).unwrap_err();
        assert_eq!(refused, "it is FP32 [1, 2], expected FP32 [2]");
        let texts = |text: &str| Tensor::from_elements([1], &[text]).unwrap();
        assert_eq!(Difference::between(&texts("a"), &texts("a")).unwrap(), Difference::default());
        assert_eq!(Difference::between(&texts("a"), &texts("b")).unwrap_err(), "its strings differ");
    }

    #[test]
    fn every_type_is_read_as_numbers() {
        let halves = |dtype, bits| Tensor::from_half_bits(dtype, [1], vec![bits]).unwrap();
        for (one, two, apart) in [
            (halves(DType::Fp16, 0x3c00), halves(DType::Fp16, 0x4000), 1.),
            (halves(DType::Bf16, 0x3f80), halves(DType::Bf16, 0x4040), 2.),
            (Tensor::from_vec([1], vec![-3i8]).unwrap(), Tensor::from_vec([1], vec![4i8]).unwrap(), 7.),
            (Tensor::from_vec([1], vec![-3i64]).unwrap(), Tensor::from_vec([1], vec![4i64]).unwrap(), 7.),
            (Tensor::from_vec([1], vec![3u16]).unwrap(), Tensor::from_vec([1], vec![4u16]).unwrap(), 1.),
            (Tensor::from_vec([1], vec![0.5f64]).unwrap(), Tensor::from_vec([1], vec![1f64]).unwrap(), 0.5),
        ] {
            assert_eq!(Difference::between(&one, &two).unwrap().largest, apart, "{}", one.dtype());
        }
    }
}
