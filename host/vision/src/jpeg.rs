//! JPEG to pixels. Drives `zune-jpeg` directly, strict about missing data: its default shows grey where the
//! data ends, which a model would take for a picture.

use std::borrow::Cow;

use image::metadata::Orientation;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use crate::decode::Decoded;
use crate::{ErrorKind, Limits, PixelFormat, VisionError};

const UNSUPPORTED: &str = "this kind of JPEG (lossless, arithmetic coding or 12 bits) is not supported, expected baseline or \
     progressive with 8 bits";

const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];

/// Put behind data that lacks its end marker. Only-ones is the one code that no Huffman table of a JPEG may
/// have, so a decoder that needs bits from here reports damage, while one that merely reads ahead, as it does
/// where nothing but the marker is missing, does not mind. (`ff 00` is how a byte of ones is written.)
const ONES_AND_END: [u8; 18] = {
    let mut bytes = [0; 18];
    let mut i = 0;
    while i < 16 {
        bytes[i] = 0xff;
        i += 2;
    }
    bytes[16] = END_OF_IMAGE[0];
    bytes[17] = END_OF_IMAGE[1];
    bytes
};

pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, VisionError> {
    let frame = Frame::find(bytes).ok_or_else(|| {
        VisionError::malformed("the JPEG is truncated or damaged: it has no complete frame and scan header")
    })?;
    if !frame.supported {
        return Err(VisionError::new(ErrorKind::UnsupportedFormat, UNSUPPORTED));
    }
    let format = if frame.components == 1 { PixelFormat::Gray8 } else { PixelFormat::Rgb8 };
    let size = (u32::from(frame.width), u32::from(frame.height));
    limits.check("decoding", size, frame.peak(format))?;

    let complete = bytes.ends_with(&END_OF_IMAGE);
    let input = if complete { Cow::Borrowed(bytes) } else { Cow::Owned([bytes, &ONES_AND_END].concat()) };
    let broken = |error| refusal(error, complete);
    let color = if frame.components == 1 { ColorSpace::Luma } else { ColorSpace::RGB };
    // Headers may be sloppy (cameras leave bytes between them), data may not. The size is checked above.
    let lenient = DecoderOptions::default()
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(color)
        .set_strict_mode(false);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(input.as_ref()), lenient);
    decoder.decode_headers().map_err(broken)?;
    if decoder.dimensions() != Some((usize::from(frame.width), usize::from(frame.height))) {
        return Err(VisionError::malformed("the JPEG is damaged: it has more than one frame header"));
    }
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    let orientation = orientation.unwrap_or(Orientation::NoTransforms);
    decoder.set_options(lenient.set_strict_mode(true));
    let mut pixels = vec![0; size.0 as usize * size.1 as usize * format.size()];
    decoder.decode_into(&mut pixels).map_err(broken)?;
    Ok(Decoded { format, width: size.0, height: size.1, pixels, orientation })
}

fn refusal(error: DecodeErrors, complete: bool) -> VisionError {
    match error {
        DecodeErrors::Unsupported(_) => VisionError::new(ErrorKind::UnsupportedFormat, UNSUPPORTED),
        error if complete => VisionError::malformed(format!("the JPEG is damaged: {error:?}")),
        error => VisionError::malformed(format!(
            "the JPEG is truncated: it has no end marker, and its data ends too early ({error:?})"
        )),
    }
}

/// What the headers up to the first scan say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    width: u16,
    height: u16,
    components: u8,
    /// The decoder keeps all coefficients before it can make the first pixel: the picture is progressive, or
    /// comes one component after the other.
    buffered: bool,
    /// Baseline, extended or progressive, with Huffman codes and 8 bits.
    supported: bool,
}

impl Frame {
    /// Walks the segments up to the first scan; takes microseconds and no memory. `None` where there is no
    /// such scan.
    fn find(bytes: &[u8]) -> Option<Frame> {
        let mut rest = bytes.get(2..)?;
        let mut frame = None;
        loop {
            // Anything may lie between segments, and any number of 0xff may precede a marker.
            let start = rest.iter().position(|byte| *byte == 0xff)?;
            rest = rest.get(start..)?;
            let fill = rest.iter().position(|byte| *byte != 0xff)?;
            let (marker, tail) = rest.get(fill..)?.split_first()?;
            rest = tail;
            if matches!(marker, 0x00 | 0x01 | 0xd0..=0xd8) {
                continue;
            }
            let (length, _) = rest.split_first_chunk::<2>()?;
            let body = rest.get(2..usize::from(u16::from_be_bytes(*length)))?;
            match (marker, body) {
                // Start of frame, any but the three that only look like it (tables, extension, conditioning).
                (0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf, [bits, h0, h1, w0, w1, components, ..]) => {
                    frame = Some(Frame {
                        width: u16::from_be_bytes([*w0, *w1]),
                        height: u16::from_be_bytes([*h0, *h1]),
                        components: *components,
                        buffered: *marker & 0x3 == 2,
                        supported: matches!(marker, 0xc0..=0xc2) && *bits == 8,
                    });
                }
                // Start of scan.
                (0xda, [components, ..]) => {
                    return frame.map(|f| Frame { buffered: f.buffered || *components < f.components, ..f });
                }
                _ => {}
            }
            rest = rest.get(body.len() + 2..)?;
        }
    }

    /// Bytes per pixel at the peak: the pixels, and two bytes for each coefficient.
    fn peak(self, format: PixelFormat) -> u64 {
        format.size() as u64 + if self.buffered { 2 * u64::from(self.components) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

    use super::*;
    use crate::pictures::{distance, exif, photograph};
    use crate::{Filter, Image};

    fn encoded(image: &Image, setup: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 92);
        setup(&mut encoder);
        let color = if image.pixel_format() == PixelFormat::Gray8 { ColorType::Luma } else { ColorType::Rgb };
        encoder.encode(image.pixels(), image.width() as u16, image.height() as u16, color).unwrap();
        bytes
    }

    fn image(bytes: &[u8]) -> Image {
        Image::decode(bytes, &Limits::default()).unwrap()
    }

    fn error(bytes: &[u8]) -> VisionError {
        Image::decode(bytes, &Limits::default()).unwrap_err()
    }

    #[test]
    fn baseline_progressive_subsampled_and_restarted() {
        // Odd sizes, so that blocks are cut at the edges.
        let original = photograph(97, 61);
        for sampling in [SamplingFactor::F_1_1, SamplingFactor::F_2_1, SamplingFactor::F_1_2, SamplingFactor::F_2_2] {
            for progressive in [false, true] {
                for restart in [0, 5] {
                    let bytes = encoded(&original, |encoder| {
                        encoder.set_sampling_factor(sampling);
                        encoder.set_progressive(progressive);
                        encoder.set_restart_interval(restart);
                    });
                    let decoded = image(&bytes);
                    assert_eq!((decoded.width(), decoded.height()), (97, 61));
                    let distance = distance(&original, &decoded);
                    assert!(distance < 5.0, "{sampling:?} progressive {progressive} restart {restart}: {distance}");
                }
            }
        }
    }

    #[test]
    fn grey_stays_grey() {
        let original = photograph(40, 30).convert(PixelFormat::Gray8, &Limits::default()).unwrap();
        for progressive in [false, true] {
            let decoded = image(&encoded(&original, |encoder| encoder.set_progressive(progressive)));
            assert_eq!(decoded.pixel_format(), PixelFormat::Gray8);
            assert!(distance(&original, &decoded) < 3.0);
        }
    }

    #[test]
    fn cmyk_and_ycck_become_rgb() {
        // 255 is full ink; the file holds it the other way round, as Adobe's do.
        let pixels: Vec<u8> = [[255u8, 0, 0, 0], [0, 255, 0, 0], [0, 0, 0, 255], [0; 4]]
            .into_iter()
            .flat_map(|ink| ink.repeat(16 * 16))
            .collect();
        for color in [ColorType::Cmyk, ColorType::CmykAsYcck] {
            let mut bytes = Vec::new();
            let encoder = Encoder::new(&mut bytes, 95);
            encoder.encode(&pixels, 16, 64, color).unwrap();
            let decoded = image(&bytes);
            assert_eq!(decoded.pixel_format(), PixelFormat::Rgb8);
            let at = |y: usize| decoded.pixels()[(y * 16 + 8) * 3..][..3].to_vec();
            for (y, expected) in [(8, [0, 255, 255]), (24, [255, 0, 255]), (40, [0, 0, 0]), (56, [255, 255, 255])] {
                assert!(at(y).iter().zip(expected).all(|(a, b)| a.abs_diff(b) < 12), "{color:?} {y}: {:?}", at(y));
            }
        }
    }

    #[test]
    fn a_missing_end_marker_alone_is_forgiven() {
        for original in [
            photograph(97, 61),
            photograph(8, 8),
            photograph(64, 48).resize(16, 300, Filter::Bilinear, &Limits::default()).unwrap(),
            Image::create(33, 65, crate::Color::WHITE, &Limits::default()).unwrap(),
        ] {
            for progressive in [false, true] {
                let bytes = encoded(&original, |encoder| encoder.set_progressive(progressive));
                let whole = image(&bytes);
                assert_eq!(image(&bytes[..bytes.len() - 2]), whole, "progressive {progressive}");
                assert_eq!(image(&bytes[..bytes.len() - 1]), whole, "progressive {progressive}");
                // Trailing bytes are none of the picture's business.
                assert_eq!(image(&[&bytes[..], &[0; 100]].concat()), whole);
            }
        }
    }

    #[test]
    fn truncated_anywhere_is_refused() {
        let original = photograph(160, 120);
        let bytes = encoded(&original, |_| {});
        for length in [bytes.len() / 2, bytes.len() / 4, bytes.len() * 9 / 10, bytes.len() - 40] {
            let error = error(&bytes[..length]);
            assert_eq!(error.kind, ErrorKind::Malformed);
            assert!(error.message.contains("truncated"), "{error}");
        }
        // Cut in its headers.
        assert!(error(&bytes[..200]).message.contains("truncated"));
        assert_eq!(error(&bytes[..3]).kind, ErrorKind::Malformed);
        let progressive = encoded(&original, |encoder| encoder.set_progressive(true));
        assert!(error(&progressive[..progressive.len() / 2]).message.contains("truncated"));
    }

    #[test]
    fn exif_orientation_is_applied() {
        let original = photograph(48, 32);
        let turned = |orientation| image(&encoded(&original, |e| e.add_exif_metadata(&exif(orientation)).unwrap()));
        let (upright, left) = (turned(1), turned(6));
        assert_eq!((upright.width(), upright.height()), (48, 32));
        assert_eq!((left.width(), left.height()), (32, 48));
        // 6: the camera's left column is the top row; so its bottom left corner is our top left one.
        let corner = (31 * 48) * 3;
        assert_eq!(left.pixels()[..3], upright.pixels()[corner..corner + 3]);
        let over = turned(3);
        assert_eq!(over.pixels()[..3], upright.pixels()[upright.pixels().len() - 3..]);
    }

    #[test]
    fn sizes_are_refused_before_memory_is_taken() {
        let mut bytes = encoded(&photograph(16, 16), |_| {});
        let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
        bytes[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
        let error = error(&bytes);
        assert_eq!(error.kind, ErrorKind::TooLarge);
        assert!(error.message.contains("65535 x 65535"), "{error}");
        // What a progressive picture needs on the way counts.
        let limits = Limits { max_pixels: 1 << 20, max_bytes: 64 * 64 * 3 };
        let flat = photograph(64, 64);
        assert!(Image::decode(&encoded(&flat, |_| {}), &limits).is_ok());
        let error = Image::decode(&encoded(&flat, |e| e.set_progressive(true)), &limits).unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge);
    }

    #[test]
    fn kinds_of_jpeg_that_nobody_decodes_are_named() {
        let mut bytes = encoded(&photograph(16, 16), |_| {});
        let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
        for (at, value) in [(1, 0xc9), (1, 0xc3), (4, 12)] {
            let before = std::mem::replace(&mut bytes[frame + at], value);
            assert_eq!(error(&bytes).kind, ErrorKind::UnsupportedFormat);
            bytes[frame + at] = before;
        }
    }
}
