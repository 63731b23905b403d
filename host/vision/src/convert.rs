//! Between pixel formats. Where alpha is dropped the picture is laid on white: that is what people expect
//! of a drawing or a digit with a transparent background.

use crate::{Image, Limits, PixelFormat, VisionError};

/// ITU-R BT.601 luma in 16.16 fixed point, the same weights and rounding as Pillow's `L`.
pub(crate) fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// A channel's value with opacity `alpha` on white, rounded to nearest.
pub(crate) fn over_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

fn flatten([r, g, b, a]: [u8; 4]) -> [u8; 3] {
    if a == 255 { [r, g, b] } else { [r, g, b].map(|c| over_white(c, a)) }
}

/// Pixels of `format` to one byte each. `to` is as many bytes as there are pixels.
pub(crate) fn to_gray(format: PixelFormat, from: &[u8], to: &mut [u8]) {
    match format {
        PixelFormat::Gray8 => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
        PixelFormat::Rgb8 => to.iter_mut().zip(from.as_chunks().0).for_each(|(to, from)| *to = luma(*from)),
        PixelFormat::Rgba8 => to.iter_mut().zip(from.as_chunks().0).for_each(|(to, from)| *to = luma(flatten(*from))),
    }
}

/// Pixels of `format` to R G B. `to` is three times as many bytes as there are pixels.
pub(crate) fn to_rgb(format: PixelFormat, from: &[u8], to: &mut [u8]) {
    let to = to.as_chunks_mut().0.iter_mut();
    match format {
        PixelFormat::Gray8 => to.zip(from).for_each(|(to, from)| *to = [*from; 3]),
        PixelFormat::Rgb8 => to.zip(from.as_chunks().0).for_each(|(to, from)| *to = *from),
        PixelFormat::Rgba8 => to.zip(from.as_chunks().0).for_each(|(to, from)| *to = flatten(*from)),
    }
}

fn to_rgba(format: PixelFormat, from: &[u8], to: &mut [u8]) {
    let to = to.as_chunks_mut().0.iter_mut();
    match format {
        PixelFormat::Gray8 => to.zip(from).for_each(|(to, v)| *to = [*v, *v, *v, 255]),
        PixelFormat::Rgb8 => to.zip(from.as_chunks().0).for_each(|(to, [r, g, b])| *to = [*r, *g, *b, 255]),
        PixelFormat::Rgba8 => to.zip(from.as_chunks().0).for_each(|(to, from)| *to = *from),
    }
}

impl Image {
    /// The same picture in another pixel format. Grey is BT.601 luma; alpha becomes 255 where there was none
    /// and is laid on white where it is dropped. Shares the pixels where nothing changes.
    ///
    /// Errors: `TooLarge`.
    pub fn convert(&self, to: PixelFormat, limits: &Limits) -> Result<Image, VisionError> {
        let from = self.pixel_format();
        if from == to {
            return Ok(self.clone());
        }
        limits.check("converting", (self.width(), self.height()), to.size() as u64)?;
        let mut pixels = vec![0; self.pixels().len() / from.size() * to.size()];
        match to {
            PixelFormat::Gray8 => to_gray(from, self.pixels(), &mut pixels),
            PixelFormat::Rgb8 => to_rgb(from, self.pixels(), &mut pixels),
            PixelFormat::Rgba8 => to_rgba(from, self.pixels(), &mut pixels),
        }
        Ok(Image::new(to, self.width(), self.height(), pixels).with_source(self.source_format()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(from: PixelFormat, data: &[u8], to: PixelFormat) -> Vec<u8> {
        let width = (data.len() / from.size()) as u32;
        let limits = Limits::default();
        let image = Image::from_pixels(from, width, 1, data.to_vec(), &limits).unwrap();
        image.convert(to, &limits).unwrap().pixels().to_vec()
    }

    #[test]
    fn grey_is_luma() {
        use PixelFormat::*;
        let primaries = [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0];
        assert_eq!(convert(Rgb8, &primaries, Gray8), [76, 150, 29, 255, 0]);
        for value in 0..=255 {
            assert_eq!(luma([value; 3]), value);
        }
    }

    #[test]
    fn alpha_is_laid_on_white() {
        use PixelFormat::*;
        let pixels = [0, 0, 0, 0, 0, 0, 0, 255, 10, 20, 30, 255, 0, 100, 200, 128];
        assert_eq!(convert(Rgba8, &pixels, Rgb8), [255, 255, 255, 0, 0, 0, 10, 20, 30, 127, 177, 227]);
        assert_eq!(convert(Rgba8, &pixels[..8], Gray8), [255, 0]);
    }

    #[test]
    fn what_was_not_there_is_added() {
        use PixelFormat::*;
        assert_eq!(convert(Gray8, &[7, 8], Rgb8), [7, 7, 7, 8, 8, 8]);
        assert_eq!(convert(Gray8, &[7], Rgba8), [7, 7, 7, 255]);
        assert_eq!(convert(Rgb8, &[1, 2, 3], Rgba8), [1, 2, 3, 255]);
    }

    #[test]
    fn the_same_format_shares_the_pixels() {
        let limits = Limits::default();
        let image = Image::from_pixels(PixelFormat::Gray8, 1, 1, vec![5], &limits).unwrap();
        let same = image.convert(PixelFormat::Gray8, &limits).unwrap();
        assert_eq!(same.pixels().as_ptr(), image.pixels().as_ptr());
        assert!(image.convert(PixelFormat::Rgb8, &Limits { max_bytes: 2, ..limits }).is_err());
    }
}
