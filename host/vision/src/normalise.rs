//! Pixels to a tensor, in one pass: every value a byte can take is worked out beforehand, so that each sample
//! is one look-up, whatever the mean, the deviation and the datatype.

use wharf_tensor::half::f32_to_fp16;
use wharf_tensor::{DType, Tensor, TensorError};

use crate::convert::{to_gray, to_rgb};
use crate::{Image, Limits, PixelFormat, VisionError};

/// Where the channels lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[1, C, H, W]`: plane by plane.
    Nchw,
    /// `[1, H, W, C]`: pixel by pixel.
    Nhwc,
}

/// Which channels the tensor has, and in which order. Pictures of any pixel format give any of them: grey is
/// BT.601 luma, alpha is laid on white.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channels {
    Gray,
    Rgb,
    Bgr,
}

impl Channels {
    /// Their number, C in the tensor's shape.
    pub const fn count(self) -> usize {
        match self {
            Channels::Gray => 1,
            Channels::Rgb | Channels::Bgr => 3,
        }
    }
}

/// How pixels become numbers: `(pixel * scale - mean[c]) / std[c]`, computed in `f32`.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorOptions {
    pub layout: Layout,
    pub channels: Channels,
    /// `FP32`, `FP16` or `UINT8`. `UINT8` takes the pixels as they are: scale 1, mean 0, std 1.
    pub dtype: DType,
    /// 1/255 for values in 0 to 1.
    pub scale: f32,
    /// One value for all channels or one for each, in the order of `channels`. Empty: 0.
    pub mean: Vec<f32>,
    /// Likewise. Empty: 1. Zero is an error.
    pub std: Vec<f32>,
}

impl Default for TensorOptions {
    /// What most models of photographs start from: RGB planes of `FP32` in 0 to 1.
    fn default() -> Self {
        TensorOptions {
            layout: Layout::Nchw,
            channels: Channels::Rgb,
            dtype: DType::Fp32,
            scale: 1.0 / 255.0,
            mean: Vec::new(),
            std: Vec::new(),
        }
    }
}

/// What each byte becomes, for one channel.
type Table<T> = [T; 256];

impl Image {
    /// The picture as a tensor of shape `[1, C, H, W]` or `[1, H, W, C]`.
    ///
    /// Errors: `InvalidArgument` for other datatypes, a `mean` or `std` of the wrong length, a `std` of 0,
    /// values that are not finite, and `UINT8` with anything but scale 1, mean 0 and std 1; `TooLarge`.
    pub fn to_tensor(&self, options: &TensorOptions, limits: &Limits) -> Result<Tensor, VisionError> {
        let tables = tables(options)?;
        let channels = options.channels.count();
        let size = options.dtype.size().unwrap_or_default();
        limits.check("making a tensor of", (self.width(), self.height()), (channels * size) as u64)?;
        let (height, width) = (self.height() as usize, self.width() as usize);
        let shape = match options.layout {
            Layout::Nchw => vec![1, channels, height, width],
            Layout::Nhwc => vec![1, height, width, channels],
        };
        let tensor = match options.dtype {
            DType::Fp32 => Tensor::from_vec(shape, self.samples(options, &tables)),
            DType::Fp16 => {
                let tables: Vec<_> = tables.iter().map(|table| table.map(f32_to_fp16)).collect();
                Tensor::from_half_bits(DType::Fp16, shape, self.samples(options, &tables))
            }
            _ => {
                let identity = tables.iter().map(|table| table.map(|value| value as u8)).collect::<Vec<_>>();
                Tensor::from_vec(shape, self.samples(options, &identity))
            }
        };
        tensor.map_err(|error: TensorError| VisionError::invalid(error.to_string()))
    }

    fn samples<T: Copy + Default>(&self, options: &TensorOptions, tables: &[Table<T>]) -> Vec<T> {
        let pixels = self.width() as usize * self.height() as usize;
        let mut samples = vec![T::default(); pixels * options.channels.count()];
        match tables {
            [gray] => self.each_row(PixelFormat::Gray8, &mut samples, |from, to| {
                to.iter_mut().zip(from).for_each(|(to, v)| *to = gray[usize::from(*v)]);
            }),
            [first, second, third] => {
                // Which sample of a pixel is the first channel; the second one is always green.
                let (a, c) = if options.channels == Channels::Bgr { (2, 0) } else { (0, 2) };
                match options.layout {
                    Layout::Nhwc => self.each_row(PixelFormat::Rgb8, &mut samples, |from, to| {
                        for (to, from) in to.as_chunks_mut().0.iter_mut().zip(from.as_chunks::<3>().0) {
                            let [x, y, z] = if a == 0 { *from } else { [from[2], from[1], from[0]] };
                            *to = [first[usize::from(x)], second[usize::from(y)], third[usize::from(z)]];
                        }
                    }),
                    Layout::Nchw => {
                        let (one, rest) = samples.split_at_mut(pixels);
                        let (two, three) = rest.split_at_mut(pixels);
                        let mut planes = [one, two, three];
                        planes.swap(0, a);
                        let [red, green, blue] = planes;
                        let tables = [[first, third][a / 2], second, [first, third][c / 2]];
                        self.fill_planes(tables, [red, green, blue]);
                    }
                }
            }
            _ => {}
        }
        samples
    }

    /// Red, green and blue into three planes, each through its table.
    fn fill_planes<T: Copy>(&self, tables: [&Table<T>; 3], planes: [&mut [T]; 3]) {
        let width = self.width() as usize;
        let mut buffer = Vec::new();
        let [red, green, blue] = planes.map(|plane| plane.chunks_exact_mut(width));
        for (((row, red), green), blue) in self.pixels().chunks_exact(self.stride()).zip(red).zip(green).zip(blue) {
            let row = self.row_as(PixelFormat::Rgb8, row, &mut buffer);
            for (((pixel, red), green), blue) in row.as_chunks::<3>().0.iter().zip(red).zip(green).zip(blue) {
                *red = tables[0][usize::from(pixel[0])];
                *green = tables[1][usize::from(pixel[1])];
                *blue = tables[2][usize::from(pixel[2])];
            }
        }
    }

    /// Calls `fill` with each row in the pixel format `to` and its share of `samples`.
    fn each_row<T>(&self, to: PixelFormat, samples: &mut [T], mut fill: impl FnMut(&[u8], &mut [T])) {
        let length = self.width() as usize * to.size();
        let mut buffer = Vec::new();
        for (row, samples) in self.pixels().chunks_exact(self.stride()).zip(samples.chunks_exact_mut(length)) {
            fill(self.row_as(to, row, &mut buffer), samples);
        }
    }

    /// A row of this picture as `Gray8` or `Rgb8`; converted in `buffer` where it is not.
    fn row_as<'a>(&self, to: PixelFormat, row: &'a [u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
        if self.pixel_format() == to {
            return row;
        }
        buffer.resize(self.width() as usize * to.size(), 0);
        match to {
            PixelFormat::Gray8 => to_gray(self.pixel_format(), row, buffer),
            _ => to_rgb(self.pixel_format(), row, buffer),
        }
        buffer
    }
}

/// Check the options and work out what each byte becomes in each channel.
fn tables(options: &TensorOptions) -> Result<Vec<Table<f32>>, VisionError> {
    let TensorOptions { channels, dtype, scale, .. } = *options;
    if !matches!(dtype, DType::Fp32 | DType::Fp16 | DType::Uint8) {
        return Err(VisionError::invalid(format!("datatype is {dtype}, expected FP32, FP16 or UINT8")));
    }
    if !scale.is_finite() {
        return Err(VisionError::invalid(format!("scale is {scale}, expected a finite number")));
    }
    let mean = per_channel("mean", &options.mean, channels, 0.0)?;
    let std = per_channel("std", &options.std, channels, 1.0)?;
    if let Some(channel) = std.iter().position(|std| *std == 0.0) {
        return Err(VisionError::invalid(format!("std of channel {channel} is 0, values cannot be divided by it")));
    }
    if dtype == DType::Uint8 && (scale != 1.0 || mean.iter().any(|m| *m != 0.0) || std.iter().any(|s| *s != 1.0)) {
        return Err(VisionError::invalid(format!(
            "UINT8 takes pixels as they are: expected scale 1, mean 0 and std 1, got {scale}, {mean:?} and {std:?}"
        )));
    }
    let table = |(mean, std): (&f32, &f32)| std::array::from_fn(|pixel| (pixel as f32 * scale - mean) / std);
    Ok(mean.iter().zip(&std).map(table).collect())
}

fn per_channel(name: &str, values: &[f32], channels: Channels, default: f32) -> Result<Vec<f32>, VisionError> {
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(VisionError::invalid(format!("{name} holds {value}, expected finite numbers")));
    }
    match (values, channels.count()) {
        ([], count) => Ok(vec![default; count]),
        ([one], count) => Ok(vec![*one; count]),
        (values, count) if values.len() == count => Ok(values.to_vec()),
        (values, count) => Err(VisionError::invalid(format!(
            "{name} has {} values, expected none, 1, or {count} for {channels:?}",
            values.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use wharf_tensor::half::fp16_to_f32;

    use super::*;
    use crate::pictures::photograph;
    use crate::{Color, ErrorKind};

    const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
    const STD: [f32; 3] = [0.229, 0.224, 0.225];

    fn tensor(image: &Image, options: TensorOptions) -> Tensor {
        image.to_tensor(&options, &Limits::default()).unwrap()
    }

    fn raw(layout: Layout, channels: Channels) -> TensorOptions {
        TensorOptions { layout, channels, dtype: DType::Uint8, scale: 1.0, ..TensorOptions::default() }
    }

    #[test]
    fn planes_and_pixels_in_either_order() {
        let data = vec![1, 2, 3, 4, 5, 6];
        let image = Image::from_pixels(PixelFormat::Rgb8, 1, 2, data, &Limits::default()).unwrap();
        let bytes = |layout, channels| tensor(&image, raw(layout, channels)).data().to_vec();
        assert_eq!(bytes(Layout::Nchw, Channels::Rgb), [1, 4, 2, 5, 3, 6]);
        assert_eq!(bytes(Layout::Nchw, Channels::Bgr), [3, 6, 2, 5, 1, 4]);
        assert_eq!(bytes(Layout::Nhwc, Channels::Rgb), [1, 2, 3, 4, 5, 6]);
        assert_eq!(bytes(Layout::Nhwc, Channels::Bgr), [3, 2, 1, 6, 5, 4]);
        assert_eq!(bytes(Layout::Nchw, Channels::Gray), [2, 5]);
        assert_eq!(tensor(&image, raw(Layout::Nchw, Channels::Rgb)).shape(), [1, 3, 2, 1]);
        assert_eq!(tensor(&image, raw(Layout::Nhwc, Channels::Gray)).shape(), [1, 2, 1, 1]);
    }

    #[test]
    fn values_follow_the_formula_exactly() {
        let image = photograph(19, 11);
        for (channels, source) in [(Channels::Rgb, [0, 1, 2]), (Channels::Bgr, [2, 1, 0])] {
            for layout in [Layout::Nchw, Layout::Nhwc] {
                let options =
                    TensorOptions { layout, channels, mean: MEAN.to_vec(), std: STD.to_vec(), ..Default::default() };
                let tensor = tensor(&image, options);
                let values = tensor.values::<f32>().unwrap();
                for (i, pixel) in image.pixels().chunks(3).enumerate() {
                    for c in 0..3 {
                        let at = if layout == Layout::Nchw { c * 19 * 11 + i } else { i * 3 + c };
                        let expected = (f32::from(pixel[source[c]]) * (1.0 / 255.0) - MEAN[c]) / STD[c];
                        assert_eq!(values[at], expected, "{channels:?} {layout:?} pixel {i} channel {c}");
                    }
                }
            }
        }
    }

    #[test]
    fn halves_are_the_same_values_rounded() {
        let image = photograph(9, 5);
        let single = tensor(&image, TensorOptions::default());
        let half = tensor(&image, TensorOptions { dtype: DType::Fp16, ..Default::default() });
        assert_eq!((half.dtype(), half.shape()), (DType::Fp16, single.shape()));
        let halves = half.data().chunks(2).map(|b| fp16_to_f32(u16::from_le_bytes([b[0], b[1]])));
        for (value, half) in single.values::<f32>().unwrap().iter().zip(halves) {
            assert!((value - half).abs() < 1e-3);
        }
    }

    #[test]
    fn any_pixel_format_gives_any_channels() {
        let limits = Limits::default();
        let gray = Image::from_pixels(PixelFormat::Gray8, 2, 1, vec![7, 9], &limits).unwrap();
        assert_eq!(tensor(&gray, raw(Layout::Nchw, Channels::Bgr)).data().as_ref(), [7, 9, 7, 9, 7, 9]);
        assert_eq!(tensor(&gray, raw(Layout::Nhwc, Channels::Gray)).data().as_ref(), [7, 9]);
        let clear = Image::create(1, 2, Color { a: 0, ..Color::BLACK }, &limits).unwrap();
        assert_eq!(tensor(&clear, raw(Layout::Nchw, Channels::Gray)).data().as_ref(), [255, 255]);
        assert_eq!(tensor(&clear, raw(Layout::Nchw, Channels::Rgb)).data().as_ref(), [255; 6]);
    }

    #[test]
    fn one_mean_serves_all_channels() {
        let image = Image::create(1, 1, Color::rgb(0, 127, 255), &Limits::default()).unwrap();
        let options = TensorOptions { scale: 1.0, mean: vec![127.0], std: vec![128.0], ..Default::default() };
        assert_eq!(tensor(&image, options).values::<f32>().unwrap().as_ref(), [-127.0 / 128.0, 0.0, 1.0]);
    }

    #[test]
    fn options_that_make_no_sense_are_refused_by_name() {
        let image = Image::create(2, 2, Color::WHITE, &Limits::default()).unwrap();
        let refused = |options: TensorOptions| {
            let error = image.to_tensor(&options, &Limits::default()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidArgument);
            error.message
        };
        let plain = TensorOptions::default;
        assert_eq!(
            refused(TensorOptions { mean: vec![0.0; 2], ..plain() }),
            "mean has 2 values, expected none, 1, or 3 for Rgb"
        );
        assert!(refused(TensorOptions { std: vec![1.0, 0.0, 1.0], ..plain() }).starts_with("std of channel 1 is 0"));
        assert!(refused(TensorOptions { dtype: DType::Int64, ..plain() }).contains("INT64"));
        assert!(refused(TensorOptions { dtype: DType::Uint8, ..plain() }).contains("scale 1"));
        assert!(refused(TensorOptions { scale: f32::NAN, ..plain() }).contains("scale"));
        assert!(refused(TensorOptions { mean: vec![f32::INFINITY], ..plain() }).contains("finite"));
        let tight = Limits { max_bytes: 47, ..Limits::default() };
        assert_eq!(image.to_tensor(&plain(), &tight).unwrap_err().kind, ErrorKind::TooLarge);
    }
}
