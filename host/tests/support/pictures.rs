//! Pictures that were never taken.

use wharf_vision::{Color, Filter, Format, Image, Limits};

/// A PNG's head that declares `width` × `height` pixels of RGB, and next to nothing behind it.
pub fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    // 8 bits, RGB, the only compression and filter methods there are, not interlaced.
    header.extend([8, 2, 0, 0, 0]);
    // An empty zlib stream.
    let pixels = [0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01];
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &pixels), chunk(b"IEND", &[])].concat()
}

fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    let checked = [kind.as_slice(), content].concat();
    [length.to_be_bytes().as_slice(), &checked, &crc32(&checked).to_be_bytes()].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

pub fn decode(bytes: &[u8]) -> Image {
    Image::decode(bytes, &Limits::default()).unwrap()
}

pub fn png(image: &Image) -> Vec<u8> {
    image.encode(Format::Png, 90).unwrap()
}

/// `width` × `height` pixels of one grey.
pub fn blank(width: u32, height: u32) -> Image {
    let grey = Color { r: 200, g: 200, b: 200, a: 255 };
    Image::create(width, height, grey, &Limits::default()).unwrap()
}

pub fn enlarged(image: &Image, times: u32) -> Image {
    image.resize(image.width() * times, image.height() * times, Filter::Bilinear, &Limits::default()).unwrap()
}

/// More black on every side.
pub fn with_margin(image: &Image, margin: u32) -> Image {
    let black = Color { r: 0, g: 0, b: 0, a: 255 };
    image.pad(margin, margin, margin, margin, black, &Limits::default()).unwrap()
}

/// Bright where it was dark.
pub fn inverted(image: &Image) -> Image {
    let pixels = image.pixels().iter().map(|value| 255 - value).collect();
    Image::from_pixels(image.pixel_format(), image.width(), image.height(), pixels, &Limits::default()).unwrap()
}
