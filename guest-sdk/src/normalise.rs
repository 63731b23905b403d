//! [`Normalise`]: how pixels become numbers.

use crate::Datatype;
use crate::bindings::wharf::vision::images::{Channels, Layout, TensorOptions};

/// How pixels become a model's numbers: `(pixel * scale - mean[c]) / std[c]`, then a layout, an order of
/// channels and a datatype. Starts as RGB, NCHW, FP32.
///
/// ```
/// use wharf_guest::Normalise;
///
/// let mobilenet = Normalise::imagenet();
/// let ultraface = Normalise::raw().mean(&[127.0]).std(&[128.0]);
/// let digits = Normalise::unit().gray();
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Normalise {
    layout: Layout,
    channels: Channels,
    datatype: Datatype,
    scale: f32,
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Normalise {
    /// Values from 0 to 255.
    pub fn raw() -> Self {
        Normalise {
            layout: Layout::Nchw,
            channels: Channels::Rgb,
            datatype: Datatype::Fp32,
            scale: 1.0,
            mean: Vec::new(),
            std: Vec::new(),
        }
    }

    /// Values from 0 to 1.
    pub fn unit() -> Self {
        Normalise::raw().scale(1.0 / 255.0)
    }

    /// What models trained on ImageNet take: 0 to 1, then its mean and standard deviation.
    pub fn imagenet() -> Self {
        Normalise::unit().mean(&[0.485, 0.456, 0.406]).std(&[0.229, 0.224, 0.225])
    }

    /// Multiply each pixel first.
    pub fn scale(mut self, scale: f32) -> Self {
        self.scale = scale;
        self
    }

    /// Subtract after scaling: one value, or one for each channel.
    pub fn mean(mut self, mean: &[f32]) -> Self {
        self.mean = mean.to_vec();
        self
    }

    /// Divide by it at last: one value, or one for each channel.
    pub fn std(mut self, std: &[f32]) -> Self {
        self.std = std.to_vec();
        self
    }

    /// Channels last: `[1, H, W, C]`.
    pub fn nhwc(mut self) -> Self {
        self.layout = Layout::Nhwc;
        self
    }

    /// One channel: luma.
    pub fn gray(mut self) -> Self {
        self.channels = Channels::Gray;
        self
    }

    /// Blue first, as OpenCV reads pictures.
    pub fn bgr(mut self) -> Self {
        self.channels = Channels::Bgr;
        self
    }

    /// Half precision.
    pub fn fp16(mut self) -> Self {
        self.datatype = Datatype::Fp16;
        self
    }

    /// The pixels as they are; only without scale, mean and std.
    pub fn uint8(mut self) -> Self {
        self.datatype = Datatype::Uint8;
        self
    }

    pub(crate) fn options(&self) -> TensorOptions<'_> {
        TensorOptions {
            layout: self.layout,
            channels: self.channels,
            datatype: self.datatype,
            scale: self.scale,
            mean: &self.mean,
            std: &self.std,
        }
    }
}
