//! Pixels to bytes.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use jpeg_encoder::{ColorType, Encoder};

use crate::convert::to_rgb;
use crate::{ErrorKind, Format, Image, PixelFormat, VisionError};

impl Image {
    /// Encode. `quality` is 1 to 100 and counts for JPEG only; PNG (compressed for speed) and WebP are
    /// lossless. JPEG has no alpha: such pictures are laid on white.
    ///
    /// Errors: `InvalidArgument` for a quality of 0 or over 100, whatever the format; `TooLarge` for more
    /// than 65535 (JPEG) or 16384 (WebP) pixels a side.
    pub fn encode(&self, format: Format, quality: u8) -> Result<Vec<u8>, VisionError> {
        if !(1..=100).contains(&quality) {
            return Err(VisionError::invalid(format!("quality is {quality}, expected 1 to 100")));
        }
        // A guess that spares most of the growing.
        let mut bytes = Vec::with_capacity(self.pixels().len() / 4 + 1024);
        match format {
            Format::Jpeg => self.write_jpeg(&mut bytes, quality)?,
            Format::Png => {
                let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive);
                self.write_with(encoder, format)?;
            }
            Format::Webp => {
                self.check_side(format, 16384)?;
                self.write_with(WebPEncoder::new_lossless(&mut bytes), format)?;
            }
        }
        Ok(bytes)
    }

    fn write_jpeg(&self, bytes: &mut Vec<u8>, quality: u8) -> Result<(), VisionError> {
        let too_large = || self.oversize(Format::Jpeg, u32::from(u16::MAX));
        let width = u16::try_from(self.width()).map_err(|_| too_large())?;
        let height = u16::try_from(self.height()).map_err(|_| too_large())?;
        let encoder = Encoder::new(bytes, quality);
        let result = match self.pixel_format() {
            PixelFormat::Gray8 => encoder.encode(self.pixels(), width, height, ColorType::Luma),
            PixelFormat::Rgb8 => encoder.encode(self.pixels(), width, height, ColorType::Rgb),
            PixelFormat::Rgba8 => {
                let mut flat = vec![0; self.pixels().len() / 4 * 3];
                to_rgb(PixelFormat::Rgba8, self.pixels(), &mut flat);
                encoder.encode(&flat, width, height, ColorType::Rgb)
            }
        };
        result.map_err(|error| VisionError::invalid(format!("cannot encode as JPEG: {error}")))
    }

    fn write_with(&self, encoder: impl ImageEncoder, format: Format) -> Result<(), VisionError> {
        let color = match self.pixel_format() {
            PixelFormat::Gray8 => ExtendedColorType::L8,
            PixelFormat::Rgb8 => ExtendedColorType::Rgb8,
            PixelFormat::Rgba8 => ExtendedColorType::Rgba8,
        };
        encoder
            .write_image(self.pixels(), self.width(), self.height(), color)
            .map_err(|error| VisionError::invalid(format!("cannot encode as {}: {error}", format.name())))
    }

    fn check_side(&self, format: Format, most: u32) -> Result<(), VisionError> {
        if self.width().max(self.height()) > most { Err(self.oversize(format, most)) } else { Ok(()) }
    }

    fn oversize(&self, format: Format, most: u32) -> VisionError {
        VisionError::new(
            ErrorKind::TooLarge,
            format!(
                "cannot encode {} x {} pixels as {}: it holds at most {most} a side",
                self.width(),
                self.height(),
                format.name()
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pictures::{distance, photograph};
    use crate::{Color, Limits};

    #[test]
    fn lossless_formats_keep_every_pixel() {
        let limits = Limits::default();
        let original = photograph(31, 17);
        for pixel_format in [PixelFormat::Gray8, PixelFormat::Rgb8, PixelFormat::Rgba8] {
            let mut image = original.convert(pixel_format, &limits).unwrap();
            if pixel_format == PixelFormat::Rgba8 {
                image.pixels_mut()[3] = 9;
            }
            let png = Image::decode(&image.encode(Format::Png, 1).unwrap(), &limits).unwrap();
            assert_eq!((png.pixel_format(), png.pixels()), (pixel_format, image.pixels()));
            let webp = Image::decode(&image.encode(Format::Webp, 1).unwrap(), &limits).unwrap();
            // WebP has no grey.
            let expected = if pixel_format == PixelFormat::Gray8 { PixelFormat::Rgb8 } else { pixel_format };
            assert_eq!(webp, image.convert(expected, &limits).unwrap().with_source(Some(Format::Webp)));
        }
    }

    #[test]
    fn jpeg_quality_counts() {
        let limits = Limits::default();
        let original = photograph(64, 48);
        let (low, high) = (original.encode(Format::Jpeg, 10).unwrap(), original.encode(Format::Jpeg, 95).unwrap());
        assert!(low.len() < high.len());
        assert!(distance(&original, &Image::decode(&high, &limits).unwrap()) < 4.0);
        for quality in [0, 101, 255] {
            assert_eq!(original.encode(Format::Png, quality).unwrap_err().kind, ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn jpeg_lays_alpha_on_white() {
        let limits = Limits::default();
        let clear = Image::create(16, 16, Color { a: 0, ..Color::BLACK }, &limits).unwrap();
        let decoded = Image::decode(&clear.encode(Format::Jpeg, 90).unwrap(), &limits).unwrap();
        assert!(decoded.pixels().iter().all(|v| *v > 250));
    }

    #[test]
    fn sides_that_a_format_cannot_hold_are_refused() {
        let limits = Limits::default();
        let wide = Image::create(65_536, 1, Color::WHITE, &limits).unwrap();
        for format in [Format::Jpeg, Format::Webp] {
            assert_eq!(wide.encode(format, 90).unwrap_err().kind, ErrorKind::TooLarge, "{format:?}");
        }
        assert!(wide.encode(Format::Png, 90).is_ok());
        let edge = Image::create(16_384, 1, Color::WHITE, &limits).unwrap();
        assert!(edge.encode(Format::Webp, 90).is_ok());
    }
}
