//! The pictures of the benchmark, drawn by code and encoded by the crate that Wharf itself uses.

use anyhow::Result;
use wharf_vision::{Format, Image, Limits, PixelFormat};

use crate::models::Random;

/// 640x480, textured like a photograph so that the decoder has as much to do: about 110 KB.
pub fn photo() -> Result<Vec<u8>> {
    const WIDTH: u32 = 640;
    const HEIGHT: u32 = 480;
    let mut random = Random(7);
    let mut pixels = Vec::with_capacity((WIDTH * HEIGHT * 3) as usize);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let (x, y) = (x as f32, y as f32);
            let waves =
                (x * 0.021).sin() * 45.0 + (y * 0.034 + x * 0.011).cos() * 40.0 + ((x * y) * 0.0007).sin() * 20.0;
            let grain = random.symmetric() * 17.0;
            for tint in [0.0, 20.0, -25.0] {
                pixels.push((128.0 + waves + tint + grain).clamp(0.0, 255.0) as u8);
            }
        }
    }
    encode_jpeg(WIDTH, HEIGHT, pixels)
}

/// A seven in two thick strokes, 160x200.
pub fn digit() -> Result<Vec<u8>> {
    const WIDTH: u32 = 160;
    const HEIGHT: u32 = 200;
    let ink = |x: f32, y: f32| {
        let bar = (30.0..130.0).contains(&x) && (30.0..52.0).contains(&y);
        // From the bar's right end down to the left: 60 pixels aside over 140 down.
        let stem = (30.0..170.0).contains(&y) && (x - (120.0 - (y - 30.0) * 60.0 / 140.0)).abs() < 12.0;
        bar || stem
    };
    let at = |i: u32| ((i % WIDTH) as f32, (i / WIDTH) as f32);
    let gray = (0..WIDTH * HEIGHT).map(at).map(|(x, y)| if ink(x, y) { 35 } else { 225 });
    encode_jpeg(WIDTH, HEIGHT, gray.flat_map(|value| [value; 3]).collect())
}

fn encode_jpeg(width: u32, height: u32, pixels: Vec<u8>) -> Result<Vec<u8>> {
    let image = Image::from_pixels(PixelFormat::Rgb8, width, height, pixels, &Limits::default())?;
    Ok(image.encode(Format::Jpeg, 85)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_photo_weighs_what_photos_weigh() {
        let bytes = photo().unwrap();
        assert!((90_000..130_000).contains(&bytes.len()), "{} bytes", bytes.len());
    }
}
