//! [`Image`]: a picture in the host's memory; the guest holds a handle.

use crate::bindings::wharf::vision::images;
use crate::picture::Encoded;
use crate::{Normalise, Tensor, VisionError};

pub use crate::bindings::wharf::vision::images::{Color, Filter, Format, PixelFormat, Rect};

type Result<T> = std::result::Result<T, VisionError>;

/// A picture. Its pixels are 8-bit and live in the host: no operation here moves them into the guest, but
/// for [`pixels`](Image::pixels) and [`encode`](Image::encode).
///
/// As an extractor it is the request's body, decoded by the host as it arrives: raw JPEG, PNG or WebP
/// bytes, or the first picture of a form. As a result it is a JPEG.
#[derive(Debug)]
pub struct Image {
    handle: images::Image,
}

impl Image {
    pub(crate) fn from_handle(handle: images::Image) -> Self {
        Image { handle }
    }

    pub(crate) fn handle(&self) -> &images::Image {
        &self.handle
    }

    fn made(handle: std::result::Result<images::Image, images::Error>) -> Result<Self> {
        Ok(Image { handle: handle? })
    }

    /// Decode JPEG, PNG or WebP.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Image::made(images::Image::decode(bytes))
    }

    /// A picture of one colour.
    pub fn new(width: u32, height: u32, color: Color) -> Result<Self> {
        Image::made(images::Image::create(width, height, color))
    }

    /// From raw pixels: rows top down, without padding.
    pub fn from_pixels(format: PixelFormat, width: u32, height: u32, pixels: &[u8]) -> Result<Self> {
        Image::made(images::Image::from_pixels(format, width, height, pixels))
    }

    /// In pixels.
    pub fn width(&self) -> u32 {
        self.handle.width()
    }

    /// In pixels.
    pub fn height(&self) -> u32 {
        self.handle.height()
    }

    /// How a pixel is laid out.
    pub fn pixel_format(&self) -> PixelFormat {
        self.handle.pixel_format()
    }

    /// The file format it was decoded from.
    pub fn source_format(&self) -> Option<Format> {
        self.handle.source_format()
    }

    /// Copy the pixels into the guest: rows top down, without padding.
    pub fn pixels(&self) -> Vec<u8> {
        self.handle.pixels()
    }

    /// Stretch or shrink to a size, with [`Filter::Bilinear`].
    pub fn resize(&self, width: u32, height: u32) -> Result<Self> {
        self.resize_with(width, height, Filter::Bilinear)
    }

    /// Stretch or shrink to a size.
    pub fn resize_with(&self, width: u32, height: u32, filter: Filter) -> Result<Self> {
        Image::made(self.handle.resize(width, height, filter))
    }

    /// Shrink or enlarge to the largest size within `width` × `height` that keeps the proportions.
    pub fn fit(&self, width: u32, height: u32) -> Result<Self> {
        let (width, height) = fitted((self.width(), self.height()), (width, height));
        self.resize(width, height)
    }

    /// [`fit`](Image::fit), centred on a `color` background of exactly `width` × `height`.
    pub fn letterbox(&self, width: u32, height: u32, color: Color) -> Result<Letterbox> {
        let source = (self.width(), self.height());
        let (inner_width, inner_height) = fitted(source, (width, height));
        let (spare_width, spare_height) = (width.saturating_sub(inner_width), height.saturating_sub(inner_height));
        let (left, top) = (spare_width / 2, spare_height / 2);
        let inner = self.resize(inner_width, inner_height)?;
        let image = inner.pad(left, top, spare_width - left, spare_height - top, color)?;
        Ok(Letterbox { image, area: Rect { x: left, y: top, width: inner_width, height: inner_height }, source })
    }

    /// Cut out a part, which must lie within the picture.
    pub fn crop(&self, area: Rect) -> Result<Self> {
        Image::made(self.handle.crop(area))
    }

    /// Add a border of these widths.
    pub fn pad(&self, left: u32, top: u32, right: u32, bottom: u32, color: Color) -> Result<Self> {
        Image::made(self.handle.pad(left, top, right, bottom, color))
    }

    /// Change how a pixel is laid out.
    pub fn convert(&self, to: PixelFormat) -> Result<Self> {
        Image::made(self.handle.convert(to))
    }

    /// Turn pixels into numbers: shape `[1, C, H, W]`, or `[1, H, W, C]` for [`Normalise::nhwc`].
    pub fn to_tensor(&self, normalise: &Normalise) -> Result<Tensor> {
        Ok(Tensor::from_handle(self.handle.to_tensor(normalise.options())?))
    }

    /// Draw the outline of a rectangle, `thickness` pixels inwards. Parts outside are clipped.
    pub fn draw_rect(&mut self, x: i32, y: i32, width: u32, height: u32, color: Color, thickness: u32) {
        self.handle.draw_rect(x, y, width, height, color, thickness);
    }

    /// Draw one line of text, its top left corner at (x, y), letters `8 * scale` pixels high.
    pub fn draw_text(&mut self, x: i32, y: i32, text: &str, color: Color, scale: u32) {
        self.handle.draw_text(x, y, text, color, scale);
    }

    /// Encode into the guest's memory. `quality`, 1 to 100, is for JPEG. To answer a request with a
    /// picture use [`encoded`](Image::encoded): its bytes never enter the guest.
    pub fn encode(&self, format: Format, quality: u8) -> Result<Vec<u8>> {
        Ok(self.handle.encode(format, quality)?)
    }

    /// A response: this picture, encoded by the host as it is sent.
    pub fn encoded(self, format: Format) -> Encoded {
        Encoded::new(self, format)
    }
}

/// A picture fitted into another size without changing its proportions, and the way back.
#[derive(Debug)]
pub struct Letterbox {
    /// The picture with its border.
    pub image: Image,
    /// The part of `image` that shows the source.
    pub area: Rect,
    /// The source's width and height.
    pub source: (u32, u32),
}

impl Letterbox {
    /// A point of `image` as a point of the source, clamped to it.
    pub fn to_source(&self, x: f32, y: f32) -> (f32, f32) {
        to_source(self.area, self.source, (x, y))
    }
}

fn to_source(area: Rect, source: (u32, u32), point: (f32, f32)) -> (f32, f32) {
    let along = |at: f32, start: u32, length: u32, source: u32| {
        ((at - start as f32) * source as f32 / length.max(1) as f32).clamp(0.0, source as f32)
    };
    (along(point.0, area.x, area.width, source.0), along(point.1, area.y, area.height, source.1))
}

/// The largest size within `within` that has the proportions of `size`; no side becomes 0.
fn fitted(size: (u32, u32), within: (u32, u32)) -> (u32, u32) {
    let (width, height) = (u64::from(size.0.max(1)), u64::from(size.1.max(1)));
    let (max_width, max_height) = (u64::from(within.0), u64::from(within.1));
    let scaled = |side: u64, by: u64, of: u64| u32::try_from(((side * by + of / 2) / of).max(1)).unwrap_or(u32::MAX);
    if max_width * height <= max_height * width {
        (within.0, scaled(height, max_width, width).min(within.1.max(1)))
    } else {
        (scaled(width, max_height, height).min(within.0.max(1)), within.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fitting_keeps_proportions_and_bounds() {
        assert_eq!(fitted((640, 480), (320, 320)), (320, 240));
        assert_eq!(fitted((480, 640), (320, 320)), (240, 320));
        assert_eq!(fitted((10, 10), (640, 320)), (320, 320));
        assert_eq!(fitted((10_000, 1), (100, 100)), (100, 1));
        assert_eq!(fitted((3, 2), (100, 100)), (100, 67));
        assert_eq!(fitted((u32::MAX, u32::MAX), (u32::MAX, 1)), (1, 1));
    }

    #[test]
    fn a_letterbox_knows_the_way_back() {
        let area = Rect { x: 0, y: 40, width: 320, height: 240 };
        assert_eq!(to_source(area, (640, 480), (160.0, 160.0)), (320.0, 240.0));
        assert_eq!(to_source(area, (640, 480), (-5.0, 20.0)), (0.0, 0.0));
        assert_eq!(to_source(area, (640, 480), (400.0, 300.0)), (640.0, 480.0));
    }
}
