//! Bytes to pixels: which format they are, and PNG and WebP. What a PNG or WebP declares is checked
//! before memory is taken for its pixels.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, GrayImage, ImageDecoder, ImageError, RgbImage, RgbaImage};

use crate::{ErrorKind, Image, Limits, PixelFormat, VisionError, jpeg};

/// Encoded formats that are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    Jpeg,
    Png,
    Webp,
}

impl Format {
    /// The name people use, e.g. `JPEG`.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::Webp => "WebP",
        }
    }

    /// The content type of a response's body, e.g. `image/jpeg`.
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::Jpeg => "image/jpeg",
            Format::Png => "image/png",
            Format::Webp => "image/webp",
        }
    }

    /// The format that these bytes claim to be, by their first bytes.
    pub fn of(bytes: &[u8]) -> Option<Format> {
        match bytes {
            [0xff, 0xd8, 0xff, ..] => Some(Format::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Format::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::Webp),
            _ => None,
        }
    }
}

/// Pixels as they lie in the file, still to be turned.
pub(crate) struct Decoded {
    pub format: PixelFormat,
    pub width: u32,
    pub height: u32,
    pub pixels: Vec<u8>,
    pub orientation: Orientation,
}

impl Image {
    /// Decode JPEG (baseline or progressive; grey, colour, CMYK), PNG (every colour type, 16 bits reduced
    /// to 8) or WebP. EXIF orientation is applied. Of an animation the first frame is taken.
    ///
    /// Grey becomes [`PixelFormat::Gray8`], anything with alpha [`PixelFormat::Rgba8`], the rest
    /// [`PixelFormat::Rgb8`]. Colour profiles are not applied.
    ///
    /// Errors: `Empty`; `UnsupportedFormat`, whose message says what the bytes look like; `Malformed` for
    /// truncated or damaged data (a JPEG may lack its end marker); `TooLarge` from the declared size.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Image, VisionError> {
        if bytes.is_empty() {
            return Err(VisionError::new(
                ErrorKind::Empty,
                "there are no bytes to decode: expected a JPEG, PNG or WebP picture",
            ));
        }
        let Some(format) = Format::of(bytes) else {
            return Err(VisionError::new(
                ErrorKind::UnsupportedFormat,
                format!("expected a JPEG, PNG or WebP picture, {}", appearance(bytes)),
            ));
        };
        // The decoders are the largest body of foreign code that sees untrusted bytes. A bug in one of them
        // is to cost one picture, not a thread of the host.
        let decoded = catch_unwind(AssertUnwindSafe(|| match format {
            Format::Jpeg => jpeg::decode(bytes, limits),
            Format::Png => decode_png(bytes, limits),
            Format::Webp => decode_webp(bytes, limits),
        }));
        let decoded = decoded.unwrap_or_else(|_| {
            Err(VisionError::malformed(format!("the {} is damaged: its decoder gave up", format.name())))
        })?;
        if decoded.orientation != Orientation::NoTransforms {
            // Turning takes a second copy of the pixels.
            limits.check("turning", (decoded.width, decoded.height), 2 * decoded.format.size() as u64)?;
        }
        Ok(turn(decoded).with_source(Some(format)))
    }
}

fn decode_png(bytes: &[u8], limits: &Limits) -> Result<Decoded, VisionError> {
    // Signature, chunk length and `IHDR`, then the size.
    let [w0, w1, w2, w3, h0, h1, h2, h3, depth, color, ..] = *bytes.get(16..).unwrap_or_default() else {
        return Err(VisionError::malformed("the PNG is truncated: it ends in its header"));
    };
    let size = (u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]));
    // 16-bit samples are there in both forms for a moment, and so is grey with alpha (colour type 4).
    let bytes_per_pixel = match (depth, color) {
        (16, _) => 12,
        (_, 4) => 6,
        _ => 4,
    };
    limits.check("decoding", size, bytes_per_pixel)?;
    let mut bounds = image::Limits::no_limits();
    bounds.max_alloc = Some(limits.max_bytes);
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), bounds).map_err(|e| refusal(Format::Png, &e))?;
    decode_with(decoder, Format::Png)
}

fn decode_webp(bytes: &[u8], limits: &Limits) -> Result<Decoded, VisionError> {
    let decode = || {
        // Reads the headers only.
        let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|e| refusal(Format::Webp, &e))?;
        // The decoder works on a canvas of its own, with alpha.
        limits.check("decoding", decoder.dimensions(), 8)?;
        decode_with(decoder, Format::Webp)
    };
    decode().map_err(|error: VisionError| match bytes.get(4..8).and_then(|size| size.try_into().ok()) {
        // The decoder calls it damaged when a lossless picture's bits end too early.
        Some(size) if error.kind == ErrorKind::Malformed && bytes.len() < u32::from_le_bytes(size) as usize => {
            VisionError::malformed(format!(
                "the WebP is truncated: it declares {} bytes and has {}",
                u64::from(u32::from_le_bytes(size)) + 8,
                bytes.len()
            ))
        }
        _ => error,
    })
}

fn decode_with(mut decoder: impl ImageDecoder, format: Format) -> Result<Decoded, VisionError> {
    let (width, height) = decoder.dimensions();
    let color = decoder.color_type();
    // A damaged EXIF block does not make the picture unreadable.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let bytes = usize::try_from(decoder.total_bytes())
        .map_err(|_| VisionError::new(ErrorKind::TooLarge, "the picture is larger than this machine can address"))?;
    let mut pixels = vec![0; bytes];
    decoder.read_image(&mut pixels).map_err(|e| refusal(format, &e))?;
    if color.bytes_per_pixel() > color.channel_count() {
        pixels = reduce(&pixels);
    }
    let (format, pixels) = match color {
        ColorType::L8 | ColorType::L16 => (PixelFormat::Gray8, pixels),
        ColorType::La8 | ColorType::La16 => {
            (PixelFormat::Rgba8, pixels.as_chunks().0.iter().flat_map(|[v, a]| [*v, *v, *v, *a]).collect())
        }
        ColorType::Rgb8 | ColorType::Rgb16 => (PixelFormat::Rgb8, pixels),
        ColorType::Rgba8 | ColorType::Rgba16 => (PixelFormat::Rgba8, pixels),
        other => {
            return Err(VisionError::new(
                ErrorKind::UnsupportedFormat,
                format!("{} with pixels of {other:?} is not supported", format.name()),
            ));
        }
    };
    Ok(Decoded { format, width, height, pixels, orientation })
}

/// 16-bit samples in the machine's byte order to 8 bits, rounded to nearest.
fn reduce(samples: &[u8]) -> Vec<u8> {
    let (samples, _) = samples.as_chunks();
    samples.iter().map(|sample| ((u32::from(u16::from_ne_bytes(*sample)) + 128) / 257) as u8).collect()
}

fn turn(decoded: Decoded) -> Image {
    let Decoded { format, width, height, pixels, orientation } = decoded;
    if orientation == Orientation::NoTransforms {
        return Image::new(format, width, height, pixels);
    }
    let picture = match format {
        PixelFormat::Gray8 => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
        PixelFormat::Rgb8 => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
        PixelFormat::Rgba8 => RgbaImage::from_raw(width, height, pixels).map(DynamicImage::from),
    };
    // The sizes fit, or the decoder has a bug; then one white pixel is as good as anything.
    let mut picture = picture.unwrap_or_else(|| DynamicImage::new_rgb8(1, 1));
    picture.apply_orientation(orientation);
    Image::new(format, picture.width(), picture.height(), picture.into_bytes())
}

fn refusal(format: Format, error: &ImageError) -> VisionError {
    let name = format.name();
    match error {
        ImageError::Limits(_) => VisionError::new(
            ErrorKind::TooLarge,
            format!("the {name} needs more memory than the limit allows: {error}"),
        ),
        ImageError::Unsupported(_) => {
            VisionError::new(ErrorKind::UnsupportedFormat, format!("this kind of {name} is not supported: {error}"))
        }
        _ if ends_early(error) => VisionError::malformed(format!("the {name} is truncated: {error}")),
        _ => VisionError::malformed(format!("the {name} is damaged: {error}")),
    }
}

fn ends_early(error: &ImageError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = match error {
        // Its `source` skips this one.
        ImageError::IoError(error) => Some(error),
        error => Some(error),
    };
    while let Some(error) = cause {
        if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What bytes that are no picture of ours look like, so that the message helps whoever sent them.
fn appearance(bytes: &[u8]) -> String {
    let text = bytes.trim_ascii_start();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let starts =
        |prefix: &str| text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()));
    let known = match bytes {
        [b'G', b'I', b'F', b'8', ..] => Some("a GIF"),
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Some("a BMP"),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Some("a TIFF"),
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', ..] => Some("an AVIF"),
        [_, _, _, _, b'f', b't', b'y', b'p', b'h' | b'm', ..] => Some("a HEIC picture or a video"),
        [b'%', b'P', b'D', b'F', ..] => Some("a PDF"),
        [b'P', b'K', 3, 4, ..] => Some("a ZIP archive"),
        [0x1f, 0x8b, ..] => Some("gzip-compressed"),
        _ if starts("{") || starts("[") => Some("JSON"),
        _ if starts("<svg") => Some("an SVG"),
        _ if starts("<!doctype html") || starts("<html") => Some("HTML"),
        _ if starts("<") => Some("XML or HTML"),
        _ if starts("data:") => Some("a data URL, send the picture's bytes instead"),
        _ if starts("/9j/") || starts("iVBORw0KGgo") || starts("UklGR") => {
            Some("a picture in base64, send its bytes as they are instead")
        }
        _ if starts("--") => Some("a multipart form, read the picture's part of it"),
        _ => None,
    };
    match known {
        Some(known) => format!("the bytes look like {known}"),
        None if bytes.iter().take(512).all(|b| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e)) => {
            "the bytes look like text".into()
        }
        None => {
            let first: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            format!("the bytes begin with {}", first.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use image::codecs::png::PngEncoder;
    use image::{ExtendedColorType, ImageEncoder};

    use super::*;
    use crate::pictures::{exif, photograph};

    fn png(width: u32, height: u32, color: ExtendedColorType, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes).write_image(data, width, height, color).unwrap();
        bytes
    }

    fn image(bytes: &[u8]) -> Image {
        Image::decode(bytes, &Limits::default()).unwrap()
    }

    fn error(bytes: &[u8]) -> VisionError {
        Image::decode(bytes, &Limits::default()).unwrap_err()
    }

    #[test]
    fn png_of_every_kind_the_encoder_makes() {
        use ExtendedColorType::*;
        let decoded = |color, data: &[u8]| {
            let image = image(&png(2, 1, color, data));
            assert_eq!(image.source_format(), Some(Format::Png));
            (image.pixel_format(), image.pixels().to_vec())
        };
        assert_eq!(decoded(L8, &[1, 2]), (PixelFormat::Gray8, vec![1, 2]));
        assert_eq!(decoded(La8, &[1, 2, 3, 4]), (PixelFormat::Rgba8, vec![1, 1, 1, 2, 3, 3, 3, 4]));
        assert_eq!(decoded(Rgb8, &[1, 2, 3, 4, 5, 6]), (PixelFormat::Rgb8, vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(decoded(Rgba8, &[9, 2, 3, 4, 5, 6, 7, 8]).0, PixelFormat::Rgba8);
        let deep: Vec<u8> = [0u16, 65535].iter().flat_map(|v| v.to_ne_bytes()).collect();
        assert_eq!(decoded(L16, &deep), (PixelFormat::Gray8, vec![0, 255]));
        let deep: Vec<u8> =
            [257u16 * 7, 257 * 8 + 127, 257 * 9 + 129, 0, 1, 2].iter().flat_map(|v| v.to_ne_bytes()).collect();
        assert_eq!(decoded(Rgb16, &deep), (PixelFormat::Rgb8, vec![7, 8, 10, 0, 0, 0]));
    }

    /// Chunks by hand, for what the encoder cannot write: palettes, few bits, interlacing.
    fn raw_png(header: [u8; 13], extra: &[(&[u8; 4], &[u8])], scanlines: &[u8]) -> Vec<u8> {
        let crc = |bytes: &[u8]| {
            !bytes.iter().fold(!0u32, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 })
            })
        };
        let adler = scanlines.iter().fold((1u32, 0u32), |(a, b), v| {
            let a = (a + u32::from(*v)) % 65521;
            (a, (b + a) % 65521)
        });
        let length = scanlines.len() as u16;
        // One stored block of deflate.
        let mut stream = vec![0x78, 0x01, 0x01];
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(scanlines);
        stream.extend((adler.1 << 16 | adler.0).to_be_bytes());
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        let chunks = [(b"IHDR", &header[..])].into_iter().chain(extra.iter().copied());
        for (name, body) in chunks.chain([(b"IDAT", &stream[..]), (b"IEND", &[])]) {
            let named = [name, body].concat();
            bytes.extend((body.len() as u32).to_be_bytes());
            bytes.extend(&named);
            bytes.extend(crc(&named).to_be_bytes());
        }
        bytes
    }

    #[test]
    fn png_with_palette_few_bits_and_interlacing() {
        let header = |size: u8, depth, color, interlace| [0, 0, 0, size, 0, 0, 0, size, depth, color, 0, 0, interlace];
        let palette = [10, 20, 30, 40, 50, 60];
        let indexed = image(&raw_png(header(2, 1, 3, 0), &[(b"PLTE", &palette)], &[0, 0x40, 0, 0x80]));
        assert_eq!(indexed.pixel_format(), PixelFormat::Rgb8);
        assert_eq!(indexed.pixels(), [10, 20, 30, 40, 50, 60, 40, 50, 60, 10, 20, 30]);
        let chunks: [(&[u8; 4], &[u8]); 2] = [(b"PLTE", &palette), (b"tRNS", &[0])];
        let transparent = image(&raw_png(header(2, 8, 3, 0), &chunks, &[0, 0, 1, 0, 1, 0]));
        assert_eq!(transparent.pixels(), [10, 20, 30, 0, 40, 50, 60, 255, 40, 50, 60, 255, 10, 20, 30, 0]);
        let bits = image(&raw_png(header(2, 1, 0, 0), &[], &[0, 0x40, 0, 0x80]));
        assert_eq!((bits.pixel_format(), bits.pixels()), (PixelFormat::Gray8, &[0, 255, 255, 0][..]));
        // Adam7 of 2 × 2: pass 1 has (0,0), pass 6 has (1,0), pass 7 has the second row.
        let interlaced = image(&raw_png(header(2, 8, 0, 1), &[], &[0, 1, 0, 2, 0, 3, 4]));
        assert_eq!(interlaced.pixels(), [1, 2, 3, 4]);
        let turned = image(&raw_png(header(2, 8, 0, 0), &[(b"eXIf", &exif(6))], &[0, 1, 2, 0, 3, 4]));
        assert_eq!(turned.pixels(), [3, 1, 4, 2]);
    }

    #[test]
    fn webp_round_trips() {
        let original = photograph(37, 21);
        let decoded = image(&original.encode(Format::Webp, 100).unwrap());
        assert_eq!((decoded.pixels(), decoded.source_format()), (original.pixels(), Some(Format::Webp)));
    }

    #[test]
    fn a_picture_bomb_is_refused_at_once() {
        let header = [0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50, 8, 2, 0, 0, 0];
        let bytes = raw_png(header, &[], &[0; 16]);
        let start = Instant::now();
        let error = error(&bytes);
        // Microseconds; a machine may stall, but not for as long as taking 7.5 GB would.
        assert!(start.elapsed() < Duration::from_millis(50));
        assert_eq!(error.kind, ErrorKind::TooLarge);
        assert!(error.message.contains("50000 x 50000") && error.message.contains("67108864"), "{error}");
    }

    #[test]
    fn truncated_png_and_webp_are_malformed() {
        let original = photograph(64, 48);
        for format in [Format::Png, Format::Webp] {
            let bytes = original.encode(format, 90).unwrap();
            for length in [13, 20, 30, bytes.len() / 2, bytes.len() * 9 / 10] {
                let error = error(&bytes[..length]);
                assert_eq!(error.kind, ErrorKind::Malformed, "{format:?} {length}: {error}");
            }
            let message = error(&bytes[..bytes.len() / 2]).message;
            assert!(message.contains("truncated"), "{format:?}: {message}");
        }
    }

    #[test]
    fn what_is_not_a_picture_is_named() {
        assert_eq!(error(b"").kind, ErrorKind::Empty);
        for (bytes, expected) in [
            (&b" {\"a\": 1}"[..], "look like JSON"),
            (b"<!DOCTYPE html><p>", "look like HTML"),
            (b"hello, world", "look like text"),
            (b"GIF89a....", "look like a GIF"),
            (b"data:image/png;base64,iVBORw0KGgo", "a data URL"),
            (b"/9j/4AAQSkZJRg", "base64"),
            (b"--X\r\nContent-Disposition: form-data", "multipart"),
            (b"\x00\x01\xff\x02", "begin with 00 01 ff 02"),
            (b"\xff", "begin with ff"),
        ] {
            let error = error(bytes);
            assert_eq!(error.kind, ErrorKind::UnsupportedFormat);
            assert!(error.message.contains(expected), "{error}");
            assert!(error.message.starts_with("expected a JPEG, PNG or WebP picture, "), "{error}");
        }
    }

    /// Thousands of damaged files of each format: any answer will do, but there must be one.
    #[test]
    fn damaged_files_never_panic() {
        let limits = Limits { max_pixels: 1 << 18, max_bytes: 8 << 20 };
        let original = photograph(24, 17);
        let gray = original.convert(PixelFormat::Gray8, &limits).unwrap();
        let mut progressive = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut progressive, 80);
        encoder.set_progressive(true);
        encoder.encode(original.pixels(), 24, 17, jpeg_encoder::ColorType::Rgb).unwrap();
        let mut cmyk = Vec::new();
        let encoder = jpeg_encoder::Encoder::new(&mut cmyk, 80);
        encoder.encode(&[90; 16 * 16 * 4], 16, 16, jpeg_encoder::ColorType::CmykAsYcck).unwrap();
        let seeds = [
            original.encode(Format::Jpeg, 80).unwrap(),
            gray.encode(Format::Jpeg, 80).unwrap(),
            original.encode(Format::Png, 80).unwrap(),
            original.encode(Format::Webp, 80).unwrap(),
            raw_png([0, 0, 0, 2, 0, 0, 0, 2, 8, 3, 0, 0, 1], &[(b"PLTE", &[1, 2, 3, 4, 5, 6])], &[0, 0, 0, 1, 0, 1, 0]),
            progressive,
            cmyk,
        ];
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        let mut caught = 0;
        for seed in &seeds {
            for _ in 0..1500 {
                let mut bytes = seed.clone();
                for _ in 0..random() % 6 {
                    let at = random() % bytes.len();
                    bytes[at] = random() as u8;
                }
                if random() % 3 == 0 {
                    bytes.truncate(random() % bytes.len() + 1);
                }
                // Decoders' own panics are caught; they are counted to know whether that is ever needed.
                if let Err(error) = Image::decode(&bytes, &limits) {
                    caught += usize::from(error.message.contains("gave up"));
                }
            }
        }
        assert_eq!(caught, 0, "a decoder panicked; harmless here, but worth a report to its authors");
    }
}
