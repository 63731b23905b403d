//! [`Image`]: 8-bit pixels in host memory.

use std::sync::Arc;

use crate::convert::{luma, over_white};
use crate::{Format, Limits, VisionError};

/// How a pixel lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// 1 byte a pixel.
    Gray8,
    /// 3 bytes a pixel: R G B.
    Rgb8,
    /// 4 bytes a pixel: R G B A, alpha not premultiplied.
    Rgba8,
}

impl PixelFormat {
    /// Bytes per pixel.
    pub const fn size(self) -> usize {
        match self {
            PixelFormat::Gray8 => 1,
            PixelFormat::Rgb8 => 3,
            PixelFormat::Rgba8 => 4,
        }
    }
}

/// A colour, alpha not premultiplied; `a` of 255 is opaque.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Color {
    pub r: u8,
    pub g: u8,
    pub b: u8,
    pub a: u8,
}

impl Color {
    pub const WHITE: Color = Color::rgb(255, 255, 255);
    pub const BLACK: Color = Color::rgb(0, 0, 0);

    /// An opaque colour.
    pub const fn rgb(r: u8, g: u8, b: u8) -> Self {
        Color { r, g, b, a: 255 }
    }

    /// The bytes of one pixel of this colour, on white where the format has no alpha. Only the first
    /// [`PixelFormat::size`] bytes count.
    pub(crate) fn pixel(self, format: PixelFormat) -> [u8; 4] {
        let [r, g, b] = [self.r, self.g, self.b].map(|c| over_white(c, self.a));
        match format {
            PixelFormat::Gray8 => [luma([r, g, b]), 0, 0, 0],
            PixelFormat::Rgb8 => [r, g, b, 0],
            PixelFormat::Rgba8 => [self.r, self.g, self.b, self.a],
        }
    }
}

/// A picture of at least 1 × 1 pixels, rows top down, no padding between them.
///
/// Cloning shares the pixels; drawing on a shared picture copies them first. All other operations leave the
/// picture as it is and return a new one.
///
/// Invariant: `pixels` holds exactly `width × height × format.size()` bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    format: PixelFormat,
    width: u32,
    height: u32,
    source: Option<Format>,
    pixels: Arc<Vec<u8>>,
}

impl Image {
    /// A picture of one colour: [`PixelFormat::Rgb8`] where the colour is opaque, else
    /// [`PixelFormat::Rgba8`].
    ///
    /// Errors: `InvalidArgument` for a size of 0, `TooLarge`.
    pub fn create(width: u32, height: u32, color: Color, limits: &Limits) -> Result<Self, VisionError> {
        let format = if color.a == 255 { PixelFormat::Rgb8 } else { PixelFormat::Rgba8 };
        limits.check("making", (width, height), format.size() as u64)?;
        Ok(Image::filled(format, width, height, color))
    }

    /// Raw pixels, rows top down, no padding. Nothing is copied.
    ///
    /// Errors: `InvalidArgument` where `data` is not `width × height × format.size()` bytes, `TooLarge`.
    pub fn from_pixels(
        format: PixelFormat,
        width: u32,
        height: u32,
        data: Vec<u8>,
        limits: &Limits,
    ) -> Result<Self, VisionError> {
        limits.check("taking", (width, height), format.size() as u64)?;
        let expected = u64::from(width) * u64::from(height) * format.size() as u64;
        if data.len() as u64 != expected {
            return Err(VisionError::invalid(format!(
                "a {format:?} picture of {width} x {height} pixels needs {expected} bytes, got {}",
                data.len()
            )));
        }
        Ok(Image::new(format, width, height, data))
    }

    /// The caller upholds the invariant and has checked the limits.
    pub(crate) fn new(format: PixelFormat, width: u32, height: u32, pixels: Vec<u8>) -> Self {
        debug_assert_eq!(pixels.len(), width as usize * height as usize * format.size());
        Image { format, width, height, source: None, pixels: Arc::new(pixels) }
    }

    /// As [`Image::new`], all of one colour.
    pub(crate) fn filled(format: PixelFormat, width: u32, height: u32, color: Color) -> Self {
        let pixel = color.pixel(format);
        let pixel = pixel.get(..format.size()).unwrap_or_default();
        Image::new(format, width, height, pixel.repeat(width as usize * height as usize))
    }

    #[must_use]
    pub(crate) fn with_source(mut self, source: Option<Format>) -> Self {
        self.source = source;
        self
    }

    /// In pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// In pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    pub fn pixel_format(&self) -> PixelFormat {
        self.format
    }

    /// The format the picture was decoded from; also of pictures made from a decoded one.
    pub fn source_format(&self) -> Option<Format> {
        self.source
    }

    /// All pixels, rows top down, no padding.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Bytes of host memory behind the pixels. Pictures that share pixels each report all of them.
    pub fn memory(&self) -> u64 {
        self.pixels.capacity() as u64
    }

    /// Bytes of a row; never 0.
    pub(crate) fn stride(&self) -> usize {
        self.width as usize * self.format.size()
    }

    /// The pixels for drawing: copied first if another picture shares them.
    pub(crate) fn pixels_mut(&mut self) -> &mut [u8] {
        Arc::<Vec<u8>>::make_mut(&mut self.pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_picture_of_one_colour() {
        let limits = Limits::default();
        let image = Image::create(3, 2, Color::rgb(1, 2, 3), &limits).unwrap();
        assert_eq!((image.width(), image.height(), image.pixel_format()), (3, 2, PixelFormat::Rgb8));
        assert_eq!(image.pixels(), [1, 2, 3].repeat(6));
        assert_eq!(image.memory(), 18);
        let glass = Image::create(1, 1, Color { a: 7, ..Color::WHITE }, &limits).unwrap();
        assert_eq!(glass.pixels(), [255, 255, 255, 7]);
        assert_eq!(Image::create(0, 2, Color::WHITE, &limits).unwrap_err().kind, ErrorKind::InvalidArgument);
        assert_eq!(Image::create(1 << 20, 1 << 20, Color::WHITE, &limits).unwrap_err().kind, ErrorKind::TooLarge);
    }

    #[test]
    fn raw_pixels_must_fit_the_size() {
        let make = |bytes| Image::from_pixels(PixelFormat::Rgba8, 2, 2, vec![9; bytes], &Limits::default());
        assert_eq!(make(16).unwrap().pixels(), [9; 16]);
        assert_eq!(make(12).unwrap_err().message, "a Rgba8 picture of 2 x 2 pixels needs 16 bytes, got 12");
    }

    #[test]
    fn drawing_on_a_shared_picture_copies_it_first() {
        let original = Image::create(2, 2, Color::WHITE, &Limits::default()).unwrap();
        let mut copy = original.clone();
        assert_eq!(original.pixels().as_ptr(), copy.pixels().as_ptr());
        copy.draw_rect(0, 0, 1, 1, Color::BLACK, 1);
        assert_eq!(original.pixels(), [255; 12]);
        assert_eq!(copy.pixels()[..3], [0, 0, 0]);
    }
}
