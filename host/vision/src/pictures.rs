//! Pictures for tests, made by arithmetic.

use crate::{Image, Limits, PixelFormat};

/// Smooth colours with some texture, different in every corner.
pub(crate) fn photograph(width: u32, height: u32) -> Image {
    let mut data = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let texture = ((x * 7919 + y * 104_729) % 13) as f32;
            let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
            let wave = ((u * 9.0).sin() * (v * 7.0).cos() + 1.0) * 40.0;
            data.extend(
                [u * 150.0 + wave + texture, v * 150.0 + wave + texture, 200.0 - u * v * 180.0 + texture]
                    .map(|c| c as u8),
            );
        }
    }
    Image::from_pixels(PixelFormat::Rgb8, width, height, data, &Limits::default()).unwrap()
}

/// Mean absolute difference of the samples, 0 to 255.
pub(crate) fn distance(a: &Image, b: &Image) -> f64 {
    assert_eq!((a.pixel_format(), a.width(), a.height()), (b.pixel_format(), b.width(), b.height()));
    let sum: u64 = a.pixels().iter().zip(b.pixels()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.pixels().len() as f64
}

/// A TIFF header with one entry: orientation, 1 to 8.
pub(crate) fn exif(orientation: u8) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    bytes.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}
