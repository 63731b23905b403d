//! Resize, crop and pad.

use std::cell::RefCell;

use fast_image_resize as fir;

use crate::{Color, ErrorKind, Image, Limits, PixelFormat, VisionError};

/// How pixels are weighed when a picture changes size. All but `Nearest` are convolutions: when shrinking
/// they take every source pixel into account, as Pillow does and OpenCV's linear mode does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    Nearest,
    Bilinear,
    CatmullRom,
    Lanczos3,
}

/// An area in pixels, from the top left corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rect {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// What a thread's resizer may keep for the next picture: enough for photographs of usual size.
const KEPT_BUFFERS: usize = 16 << 20;

thread_local! {
    // The resizer keeps its intermediate rows between calls, so that they are not allocated each time.
    static RESIZER: RefCell<fir::Resizer> = RefCell::new(fir::Resizer::new());
}

impl Image {
    /// The picture in another size, which need not have the same proportions. Transparent pixels do not
    /// bleed their colour into visible ones. Shares the pixels where the size stays.
    ///
    /// Errors: `InvalidArgument` for a size of 0, `TooLarge`.
    pub fn resize(&self, width: u32, height: u32, filter: Filter, limits: &Limits) -> Result<Image, VisionError> {
        let format = self.pixel_format();
        limits.check("resizing to", (width, height), format.size() as u64)?;
        if (width, height) == (self.width(), self.height()) {
            return Ok(self.clone());
        }
        // Between its two passes the resizer holds source rows of the new width, and a premultiplied copy of
        // the source where there is alpha.
        let copies = u64::from(format == PixelFormat::Rgba8) * u64::from(self.width()) + u64::from(width);
        let scratch = copies * u64::from(self.height()) * format.size() as u64;
        if scratch > limits.max_bytes {
            return Err(VisionError::new(
                ErrorKind::TooLarge,
                format!(
                    "resizing {} x {} to {width} x {height} pixels needs {scratch} bytes on the way, the limit is {}",
                    self.width(),
                    self.height(),
                    limits.max_bytes
                ),
            ));
        }
        let pixel_type = match format {
            PixelFormat::Gray8 => fir::PixelType::U8,
            PixelFormat::Rgb8 => fir::PixelType::U8x3,
            PixelFormat::Rgba8 => fir::PixelType::U8x4,
        };
        let algorithm = match filter {
            Filter::Nearest => fir::ResizeAlg::Nearest,
            Filter::Bilinear => fir::ResizeAlg::Convolution(fir::FilterType::Bilinear),
            Filter::CatmullRom => fir::ResizeAlg::Convolution(fir::FilterType::CatmullRom),
            Filter::Lanczos3 => fir::ResizeAlg::Convolution(fir::FilterType::Lanczos3),
        };
        let unfit = |error: &dyn std::fmt::Display| VisionError::invalid(format!("cannot resize: {error}"));
        let mut pixels = vec![0; width as usize * height as usize * format.size()];
        let from = fir::images::ImageRef::new(self.width(), self.height(), self.pixels(), pixel_type);
        let from = from.map_err(|error| unfit(&error))?;
        let mut to =
            fir::images::Image::from_slice_u8(width, height, &mut pixels, pixel_type).map_err(|error| unfit(&error))?;
        // `use_alpha` premultiplies around the convolution, for the one format that has alpha.
        let options = fir::ResizeOptions::new().resize_alg(algorithm).use_alpha(true);
        RESIZER
            .with_borrow_mut(|resizer| {
                let result = resizer.resize(&from, &mut to, &options);
                if resizer.size_of_internal_buffers() > KEPT_BUFFERS {
                    resizer.reset_internal_buffers();
                }
                result
            })
            .map_err(|error| unfit(&error))?;
        Ok(Image::new(format, width, height, pixels).with_source(self.source_format()))
    }

    /// The part inside `area`.
    ///
    /// Errors: `InvalidArgument` where the area is empty or reaches outside the picture.
    pub fn crop(&self, area: Rect) -> Result<Image, VisionError> {
        let Rect { x, y, width, height } = area;
        let fits =
            |start: u32, length: u32, end: u32| length > 0 && start.checked_add(length).is_some_and(|e| e <= end);
        if !fits(x, width, self.width()) || !fits(y, height, self.height()) {
            return Err(VisionError::invalid(format!(
                "cannot crop {width} x {height} pixels at ({x}, {y}) from a picture of {} x {}: the area must be \
                 inside the picture and not empty",
                self.width(),
                self.height()
            )));
        }
        let size = self.pixel_format().size();
        let columns = x as usize * size..(x + width) as usize * size;
        let mut pixels = Vec::with_capacity(columns.len() * height as usize);
        for row in self.pixels().chunks_exact(self.stride()).skip(y as usize).take(height as usize) {
            pixels.extend_from_slice(row.get(columns.clone()).unwrap_or_default());
        }
        Ok(Image::new(self.pixel_format(), width, height, pixels).with_source(self.source_format()))
    }

    /// The picture with a border of these widths, in pixels. A colour with alpha is laid on white where the
    /// pixel format has none.
    ///
    /// Errors: `TooLarge`.
    pub fn pad(
        &self,
        left: u32,
        top: u32,
        right: u32,
        bottom: u32,
        color: Color,
        limits: &Limits,
    ) -> Result<Image, VisionError> {
        // Saturated sizes are far over any limit on pixels.
        let width = self.width().saturating_add(left).saturating_add(right);
        let height = self.height().saturating_add(top).saturating_add(bottom);
        let format = self.pixel_format();
        limits.check("padding to", (width, height), format.size() as u64)?;
        let mut padded = Image::filled(format, width, height, color).with_source(self.source_format());
        let (stride, start) = (padded.stride(), left as usize * format.size());
        let rows = padded.pixels_mut().chunks_exact_mut(stride).skip(top as usize);
        for (to, from) in rows.zip(self.pixels().chunks_exact(self.stride())) {
            if let Some(to) = to.get_mut(start..start + from.len()) {
                to.copy_from_slice(from);
            }
        }
        Ok(padded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { max_pixels: 1 << 20, max_bytes: 4 << 20 };

    fn gray(width: u32, height: u32, data: &[u8]) -> Image {
        Image::from_pixels(PixelFormat::Gray8, width, height, data.to_vec(), &LIMITS).unwrap()
    }

    #[test]
    fn shrinking_averages_and_growing_keeps_flat_areas() {
        let image = gray(4, 2, &[0, 0, 200, 200, 0, 0, 200, 200]);
        let small = image.resize(2, 1, Filter::Bilinear, &LIMITS).unwrap();
        assert!(small.pixels()[0] < 40 && small.pixels()[1] > 160, "{:?}", small.pixels());
        for filter in [Filter::Nearest, Filter::Bilinear, Filter::CatmullRom, Filter::Lanczos3] {
            let flat = Image::create(5, 7, Color::rgb(10, 100, 250), &LIMITS).unwrap();
            let large = flat.resize(64, 33, filter, &LIMITS).unwrap();
            assert_eq!((large.width(), large.height()), (64, 33));
            assert_eq!(large.pixels(), [10, 100, 250].repeat(64 * 33), "{filter:?}");
        }
    }

    #[test]
    fn nearest_repeats_pixels() {
        let large = gray(2, 1, &[1, 2]).resize(4, 2, Filter::Nearest, &LIMITS).unwrap();
        assert_eq!(large.pixels(), [1, 1, 2, 2, 1, 1, 2, 2]);
    }

    #[test]
    fn transparent_pixels_do_not_bleed() {
        // Red that is visible beside green that is not: no green may show up.
        let pixels = [255, 0, 0, 255, 0, 255, 0, 0].repeat(2);
        let image = Image::from_pixels(PixelFormat::Rgba8, 2, 2, pixels, &LIMITS).unwrap();
        let one = image.resize(1, 1, Filter::Bilinear, &LIMITS).unwrap();
        assert_eq!(one.pixels()[..3], [255, 0, 0]);
        assert!(one.pixels()[3].abs_diff(128) <= 1, "{:?}", one.pixels());
    }

    #[test]
    fn the_same_size_shares_the_pixels_and_bad_sizes_are_refused() {
        let image = gray(2, 1, &[1, 2]);
        let same = image.resize(2, 1, Filter::Lanczos3, &LIMITS).unwrap();
        assert_eq!(same.pixels().as_ptr(), image.pixels().as_ptr());
        let kind = |width, height| image.resize(width, height, Filter::Bilinear, &LIMITS).unwrap_err().kind;
        assert_eq!(kind(0, 1), ErrorKind::InvalidArgument);
        assert_eq!(kind(1 << 16, 1 << 16), ErrorKind::TooLarge);
        // Small before and after, but not in between.
        let tall = gray(1, 1 << 12, &[0; 1 << 12]);
        assert_eq!(tall.resize(1 << 12, 1, Filter::Bilinear, &LIMITS).unwrap_err().kind, ErrorKind::TooLarge);
    }

    #[test]
    fn crops_inside_only() {
        let image = gray(3, 2, &[1, 2, 3, 4, 5, 6]);
        let area = |x, y, width, height| Rect { x, y, width, height };
        assert_eq!(image.crop(area(1, 0, 2, 2)).unwrap().pixels(), [2, 3, 5, 6]);
        assert_eq!(image.crop(area(2, 1, 1, 1)).unwrap().pixels(), [6]);
        for bad in [area(0, 0, 0, 1), area(2, 0, 2, 1), area(0, 2, 1, 1), area(u32::MAX, 0, 2, 1)] {
            assert_eq!(image.crop(bad).unwrap_err().kind, ErrorKind::InvalidArgument, "{bad:?}");
        }
        let message = image.crop(area(2, 0, 2, 1)).unwrap_err().message;
        assert!(message.starts_with("cannot crop 2 x 1 pixels at (2, 0) from a picture of 3 x 2"), "{message}");
    }

    #[test]
    fn pads_with_the_colour() {
        let padded = gray(1, 1, &[9]).pad(1, 0, 2, 1, Color::WHITE, &LIMITS).unwrap();
        assert_eq!((padded.width(), padded.height()), (4, 2));
        assert_eq!(padded.pixels(), [255, 9, 255, 255, 255, 255, 255, 255]);
        let image = gray(1, 1, &[9]);
        assert_eq!(image.pad(u32::MAX, 0, 9, 0, Color::WHITE, &LIMITS).unwrap_err().kind, ErrorKind::TooLarge);
        assert_eq!(image.pad(0, 0, 0, 0, Color::WHITE, &LIMITS).unwrap(), image);
    }
}
