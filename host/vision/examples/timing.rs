//! Prints how long each step takes for a photograph of 640 × 480 pixels, on one core, as the median of many.
//! Run with `cargo run --release -p wharf-vision --example timing`.

#![expect(clippy::print_stdout, reason = "what it measured is its output")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use wharf_tensor::DType;
use wharf_vision::{Channels, Color, Filter, Format, Image, Layout, Limits, PixelFormat, TensorOptions, VisionError};

fn main() -> Result<(), VisionError> {
    let limits = Limits::default();
    let photograph = photograph(640, 480, &limits)?;
    let jpeg = photograph.encode(Format::Jpeg, 90)?;
    let png = photograph.encode(Format::Png, 90)?;
    let input = photograph.resize(224, 224, Filter::Bilinear, &limits)?;
    let rgba = photograph.convert(PixelFormat::Rgba8, &limits)?;
    let gray = photograph.convert(PixelFormat::Gray8, &limits)?;
    let imagenet =
        TensorOptions { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225], ..TensorOptions::default() };
    let nhwc = TensorOptions { layout: Layout::Nhwc, channels: Channels::Bgr, ..imagenet.clone() };
    let fp16 = TensorOptions { dtype: DType::Fp16, ..imagenet.clone() };
    let raw = TensorOptions { dtype: DType::Uint8, scale: 1.0, ..TensorOptions::default() };

    println!("640 x 480 photograph: JPEG {} KB, PNG {} KB", jpeg.len() / 1024, png.len() / 1024);
    measure("decode JPEG", || Image::decode(&jpeg, &limits));
    measure("decode JPEG, image's wrapper", || image::load_from_memory(&jpeg));
    measure("decode PNG", || Image::decode(&png, &limits));
    for filter in [Filter::Nearest, Filter::Bilinear, Filter::CatmullRom, Filter::Lanczos3] {
        measure(&format!("resize RGB to 224 x 224, {filter:?}"), || photograph.resize(224, 224, filter, &limits));
    }
    measure("resize RGBA to 224 x 224, Bilinear", || rgba.resize(224, 224, Filter::Bilinear, &limits));
    measure("resize grey to 224 x 224, Bilinear", || gray.resize(224, 224, Filter::Bilinear, &limits));
    measure("224 x 224 to FP32 NCHW", || input.to_tensor(&imagenet, &limits));
    measure("224 x 224 to FP32 NHWC BGR", || input.to_tensor(&nhwc, &limits));
    measure("224 x 224 to FP16 NCHW", || input.to_tensor(&fp16, &limits));
    measure("224 x 224 to UINT8 NCHW", || input.to_tensor(&raw, &limits));
    measure("640 x 480 to FP32 NCHW", || photograph.to_tensor(&imagenet, &limits));
    measure("decode + resize + FP32 NCHW", || {
        let image = Image::decode(&jpeg, &limits)?;
        image.resize(224, 224, Filter::Bilinear, &limits)?.to_tensor(&imagenet, &limits)
    });
    let mut canvas = photograph.clone();
    measure("draw a box and a label", || {
        canvas.draw_rect(100, 100, 200, 200, Color::rgb(0, 255, 0), 3);
        canvas.draw_text(100, 80, "face 0.98", Color::WHITE, 2);
    });
    measure("encode JPEG, quality 85", || photograph.encode(Format::Jpeg, 85));
    measure("encode JPEG, quality 85, image's encoder", || {
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 85)
            .encode(photograph.pixels(), 640, 480, image::ExtendedColorType::Rgb8)
            .map(|()| bytes)
    });
    measure("encode PNG", || photograph.encode(Format::Png, 85));
    measure("encode WebP, lossless", || photograph.encode(Format::Webp, 85));
    Ok(())
}

/// The median over about half a second.
fn measure<T>(name: &str, mut step: impl FnMut() -> T) {
    let mut times = Vec::new();
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end || times.len() < 5 {
        let start = Instant::now();
        black_box(step());
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    println!("{name:<44} {:>9.3} ms", median.as_secs_f64() * 1000.0);
}

/// Smooth colours, edges and some noise: about as many bytes in a JPEG as a real photograph.
fn photograph(width: u32, height: u32, limits: &Limits) -> Result<Image, VisionError> {
    let mut noise = 1u32;
    let mut data = Vec::new();
    for y in 0..height {
        for x in 0..width {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
            let edge = if (x / 40 + y / 30) % 2 == 0 { 30.0 } else { 0.0 };
            let grain = (noise >> 24) as f32 / 14.0;
            let wave = ((u * 37.0).sin() * (v * 29.0).cos() + 1.0) * 40.0;
            data.extend([u * 120.0 + wave, v * 120.0 + wave + edge, 200.0 - u * v * 150.0].map(|c| (c + grain) as u8));
        }
    }
    Image::from_pixels(PixelFormat::Rgb8, width, height, data, limits)
}
