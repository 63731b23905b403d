//! The two 16-bit float formats as bit patterns, for the few places that must read or write them: no
//! Rust type stands for them here, `FP16` and `BF16` tensors are `u16` patterns in memory.

use bytes::Bytes;

use crate::tensor::Owner;
use crate::{DType, Tensor, TensorError};

/// IEEE 754 binary16 to `f32`; exact for every pattern, NaN payloads included.
pub fn fp16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from(bits >> 10 & 0x1f);
    let fraction = u32::from(bits & 0x3ff);
    match (exponent, fraction) {
        // Zero and subnormals: fraction × 2⁻²⁴, which `f32` holds exactly.
        (0, _) => f32::from_bits((fraction as f32 * f32::from_bits(0x3380_0000)).to_bits() | sign),
        (0x1f, _) => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        // The exponent's bias grows from 15 to 127.
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// `f32` to IEEE 754 binary16, rounded to nearest, ties to even. Overflow becomes infinity, NaN stays a
/// (quiet) NaN.
pub fn f32_to_fp16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    // 65520 is half way between the largest finite value and what would come next.
    if magnitude >= 0x477f_f000 {
        return sign | 0x7c00;
    }
    if magnitude < 0x3880_0000 {
        // Below 2⁻¹⁴: count units of 2⁻²⁴. Adding 0.5 (whose last place is worth 2⁻²⁴) makes the
        // hardware round the value to such units, and leaves their number in the low bits.
        let rounded = (f32::from_bits(magnitude) + 0.5).to_bits();
        return sign | rounded.wrapping_sub(0.5f32.to_bits()) as u16;
    }
    let round = 0xfff + (magnitude >> 13 & 1);
    // The carry of the rounding runs into the exponent, as it should.
    sign | ((magnitude + round - (112 << 23)) >> 13) as u16
}

/// bfloat16 to `f32`: its upper half.
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// `f32` to bfloat16, rounded to nearest, ties to even. NaN stays a (quiet) NaN.
pub fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

impl Tensor {
    /// Make an `FP16` or `BF16` tensor from bit patterns. Nothing is copied.
    pub fn from_half_bits(dtype: DType, shape: impl Into<Vec<usize>>, bits: Vec<u16>) -> Result<Self, TensorError> {
        if !matches!(dtype, DType::Fp16 | DType::Bf16) {
            return Err(TensorError::Argument(format!("{dtype} is no 16-bit float, expected FP16 or BF16")));
        }
        Tensor::new(dtype, shape, Bytes::from_owner(Owner(bits)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of binary16, in `f64`, as a second opinion.
    fn fp16_by_definition(bits: u16) -> f64 {
        let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
        let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
        match exponent {
            0 => sign * fraction * 2f64.powi(-24),
            0x1f if fraction == 0.0 => sign * f64::INFINITY,
            0x1f => f64::NAN,
            _ => sign * (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
        }
    }

    #[test]
    fn every_fp16_pattern_means_what_the_standard_says_and_comes_back() {
        for bits in 0..=u16::MAX {
            let value = fp16_to_f32(bits);
            let expected = fp16_by_definition(bits);
            if expected.is_nan() {
                assert!(value.is_nan() && fp16_to_f32(f32_to_fp16(value)).is_nan(), "{bits:#06x}");
            } else {
                assert_eq!(f64::from(value), expected, "{bits:#06x}");
                assert_eq!(f32_to_fp16(value), bits, "{bits:#06x}");
            }
        }
    }

    #[test]
    fn fp16_rounds_to_nearest_and_ties_to_even() {
        // Between each finite value and the next: just below, at and just above the middle.
        for bits in 0..0x7bffu16 {
            let (low, high) = (fp16_to_f32(bits), fp16_to_f32(bits + 1));
            let middle = (low + high) / 2.0;
            assert_eq!(f32_to_fp16(middle.next_down()), bits, "{bits:#06x}");
            assert_eq!(f32_to_fp16(middle), bits + (bits & 1), "{bits:#06x}");
            assert_eq!(f32_to_fp16(middle.next_up()), bits + 1, "{bits:#06x}");
            assert_eq!(f32_to_fp16(-middle), 0x8000 | (bits + (bits & 1)), "{bits:#06x}");
        }
        assert_eq!(f32_to_fp16(65519.996), 0x7bff);
        assert_eq!(f32_to_fp16(65520.0), 0x7c00);
        assert_eq!(f32_to_fp16(f32::MAX), 0x7c00);
        assert_eq!(f32_to_fp16(f32::MIN_POSITIVE), 0);
    }

    #[test]
    fn every_bf16_pattern_comes_back_and_rounding_is_to_nearest_even() {
        for bits in 0..=u16::MAX {
            let value = bf16_to_f32(bits);
            if value.is_nan() {
                assert!(bf16_to_f32(f32_to_bf16(value)).is_nan(), "{bits:#06x}");
                continue;
            }
            assert_eq!(f32_to_bf16(value), bits, "{bits:#06x}");
            if value.is_finite() {
                let middle = f32::from_bits(value.to_bits() + 0x8000);
                assert_eq!(f32_to_bf16(middle), bits + (bits & 1), "{bits:#06x}");
                assert_eq!(f32_to_bf16(f32::from_bits(middle.to_bits() - 1)), bits, "{bits:#06x}");
                assert_eq!(f32_to_bf16(f32::from_bits(middle.to_bits() + 1)), bits + 1, "{bits:#06x}");
            }
        }
    }

    #[test]
    fn half_tensors_hold_patterns() {
        let tensor = Tensor::from_half_bits(DType::Fp16, [2], vec![0x3c00, 0xc000]).unwrap();
        assert_eq!(tensor.data().as_ref(), [0x00, 0x3c, 0x00, 0xc0]);
        assert!(Tensor::from_half_bits(DType::Uint16, [2], vec![0, 0]).is_err());
        assert!(Tensor::from_half_bits(DType::Bf16, [3], vec![0, 0]).is_err());
    }
}
