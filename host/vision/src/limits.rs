//! How large a picture may be. Checked from the declared size, before any memory is taken for pixels.

use crate::{ErrorKind, VisionError};

/// Limits of one operation. The caller may lower `max_bytes` to what a container has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most pixels (width × height) of a picture that is read or made.
    pub max_pixels: u64,
    /// Most bytes that the operation may hold at its peak: the result and what its making needs. An
    /// estimate from above for the pixel buffers; row buffers and tables of a few hundred KB are not counted.
    pub max_bytes: u64,
}

impl Default for Limits {
    /// 64 Mi pixels, e.g. 8192 × 8192: above what phones and cameras take (50 to 61 million). As RGB that is
    /// 192 MiB, which fits the default memory of a container, 256 MiB, the default for `max_bytes`.
    fn default() -> Self {
        Limits { max_pixels: 64 << 20, max_bytes: 256 << 20 }
    }
}

impl Limits {
    /// Refuse an operation on, or resulting in, a picture of this size that holds `bytes_per_pixel` for each
    /// of its pixels at its peak. `verb` begins the sentence, e.g. `decoding`.
    pub(crate) fn check(
        &self,
        verb: &str,
        (width, height): (u32, u32),
        bytes_per_pixel: u64,
    ) -> Result<(), VisionError> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 {
            return Err(VisionError::invalid(format!(
                "{verb} a picture of {width} x {height} pixels: width and height must be at least 1"
            )));
        }
        if pixels > self.max_pixels {
            return Err(VisionError::new(
                ErrorKind::TooLarge,
                format!(
                    "{verb} a picture of {width} x {height} pixels: that is {pixels} pixels, the limit is {}",
                    self.max_pixels
                ),
            ));
        }
        let bytes = pixels.saturating_mul(bytes_per_pixel);
        if bytes > self.max_bytes {
            return Err(VisionError::new(
                ErrorKind::TooLarge,
                format!(
                    "{verb} a picture of {width} x {height} pixels: that needs {bytes} bytes, the limit is {}",
                    self.max_bytes
                ),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_size_and_the_limit() {
        let limits = Limits::default();
        assert!(limits.check("decoding", (8192, 8192), 4).is_ok());
        let error = limits.check("decoding", (50_000, 50_000), 3).unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge);
        assert_eq!(
            error.message,
            "decoding a picture of 50000 x 50000 pixels: that is 2500000000 pixels, the limit is 67108864"
        );
        let error = limits.check("decoding", (8192, 8192), 9).unwrap_err();
        assert!(error.message.ends_with("that needs 603979776 bytes, the limit is 268435456"), "{error}");
        assert_eq!(limits.check("making", (0, 9), 3).unwrap_err().kind, ErrorKind::InvalidArgument);
        assert!(limits.check("making", (u32::MAX, u32::MAX), u64::MAX).is_err());
    }
}
