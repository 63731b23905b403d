//! Drawing in place: outlines of rectangles and lines of text. Nothing here can fail: what lies outside
//! the picture is clipped.

use std::ops::Range;

use font8x8::UnicodeFonts;

use crate::{Color, Image, PixelFormat};

/// Side of a letter's grid.
const LETTER: i64 = 8;

impl Image {
    /// Draw the outline of a rectangle in place, `thickness` pixels inwards, so that it never covers more
    /// than the rectangle. The colour's alpha blends.
    ///
    /// A width, height or thickness of 0 draws nothing.
    pub fn draw_rect(&mut self, x: i32, y: i32, width: u32, height: u32, color: Color, thickness: u32) {
        let (left, top) = (i64::from(x), i64::from(y));
        let (right, bottom) = (left + i64::from(width), top + i64::from(height));
        let thickness = i64::from(thickness);
        // The four sides do not overlap, so that blended corners are not painted twice. Of a rectangle
        // thinner than two lines, the first side covers all.
        let upper = (top + thickness).min(bottom);
        let lower = (bottom - thickness).max(upper);
        let inner_left = (left + thickness).min(right);
        let inner_right = (right - thickness).max(inner_left);
        self.fill(left..right, top..upper, color);
        self.fill(left..right, lower..bottom, color);
        self.fill(left..inner_left, upper..lower, color);
        self.fill(inner_right..right, upper..lower, color);
    }

    /// Draw one line of text in place, its top left corner at (x, y). Letters are `8 * scale` pixels wide and
    /// high. Printable ASCII and Latin-1; anything else, line breaks too, shows as `?`. The colour's alpha
    /// blends; a scale of 0 draws nothing.
    pub fn draw_text(&mut self, x: i32, y: i32, text: &str, color: Color, scale: u32) {
        let scale = i64::from(scale);
        let advance = LETTER * scale;
        let top = i64::from(y);
        let (width, height) = (i64::from(self.width()), i64::from(self.height()));
        if scale == 0 || top >= height || top + advance <= 0 {
            return;
        }
        let mut left = i64::from(x);
        for letter in text.chars() {
            if left >= width {
                break;
            }
            if left + advance > 0 {
                self.draw_letter(left, top, glyph(letter), color, scale);
            }
            left += advance;
        }
    }

    fn draw_letter(&mut self, left: i64, top: i64, glyph: [u8; 8], color: Color, scale: i64) {
        for (row, bits) in (0i64..).zip(glyph) {
            let y = top + row * scale;
            for column in (0..LETTER).filter(|column| bits >> column & 1 == 1) {
                let x = left + column * scale;
                self.fill(x..x + scale, y..y + scale, color);
            }
        }
    }

    /// Paint an area, clipped to the picture.
    fn fill(&mut self, columns: Range<i64>, rows: Range<i64>, color: Color) {
        let (columns, rows) = (clip(columns, self.width()), clip(rows, self.height()));
        // Before the pixels are asked for: that may copy them.
        if columns.is_empty() || rows.is_empty() || color.a == 0 {
            return;
        }
        let (format, stride) = (self.pixel_format(), self.stride());
        let bytes = columns.start * format.size()..columns.end * format.size();
        for row in self.pixels_mut().chunks_exact_mut(stride).skip(rows.start).take(rows.len()) {
            if let Some(area) = row.get_mut(bytes.clone()) {
                paint(format, area, color);
            }
        }
    }
}

fn clip(range: Range<i64>, end: u32) -> Range<usize> {
    let within = |at: i64| at.clamp(0, i64::from(end)) as usize;
    within(range.start)..within(range.end)
}

/// The letter's rows from the top; the lowest bit is the leftmost pixel.
fn glyph(letter: char) -> [u8; 8] {
    let printable = matches!(letter, ' '..='~' | '\u{a0}'..='\u{ff}');
    let found = printable.then(|| font8x8::BASIC_FONTS.get(letter).or_else(|| font8x8::LATIN_FONTS.get(letter)));
    found.flatten().or_else(|| font8x8::BASIC_FONTS.get('?')).unwrap_or_default()
}

fn paint(format: PixelFormat, pixels: &mut [u8], color: Color) {
    // The colour without its alpha, which is applied pixel by pixel below.
    let [first, second, third, _] = Color { a: 255, ..color }.pixel(format);
    match format {
        PixelFormat::Gray8 => pixels.iter_mut().for_each(|v| *v = blend(*v, first, color.a)),
        PixelFormat::Rgb8 => {
            for [r, g, b] in pixels.as_chunks_mut().0 {
                (*r, *g, *b) = (blend(*r, first, color.a), blend(*g, second, color.a), blend(*b, third, color.a));
            }
        }
        PixelFormat::Rgba8 => pixels.as_chunks_mut().0.iter_mut().for_each(|pixel| *pixel = over(*pixel, color)),
    }
}

fn blend(below: u8, above: u8, alpha: u8) -> u8 {
    let (below, above, alpha) = (u32::from(below), u32::from(above), u32::from(alpha));
    ((above * alpha + below * (255 - alpha) + 127) / 255) as u8
}

/// Porter and Duff's "over" for alpha that is not premultiplied. `color.a` is not 0.
fn over([r, g, b, a]: [u8; 4], color: Color) -> [u8; 4] {
    let above = u32::from(color.a) * 255;
    let below = u32::from(a) * (255 - u32::from(color.a));
    // In units of 1/255², at least 255.
    let total = above + below;
    let mix = |below_value: u8, above_value: u8| {
        ((u32::from(above_value) * above + u32::from(below_value) * below + total / 2) / total) as u8
    };
    [mix(r, color.r), mix(g, color.g), mix(b, color.b), ((total + 127) / 255) as u8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    fn blank(format: PixelFormat, width: u32, height: u32) -> Image {
        let bytes = vec![0; (width * height) as usize * format.size()];
        Image::from_pixels(format, width, height, bytes, &Limits::default()).unwrap()
    }

    /// Grey pixels as rows of text, `#` where painted.
    fn shape(image: &Image) -> Vec<String> {
        let row = |row: &[u8]| row.iter().map(|v| if *v > 0 { '#' } else { '.' }).collect();
        image.pixels().chunks(image.width() as usize).map(row).collect()
    }

    #[test]
    fn outlines_grow_inwards() {
        let mut image = blank(PixelFormat::Gray8, 6, 5);
        image.draw_rect(1, 1, 4, 3, Color::WHITE, 1);
        assert_eq!(shape(&image), ["......", ".####.", ".#..#.", ".####.", "......"]);
        let mut thick = blank(PixelFormat::Gray8, 4, 4);
        thick.draw_rect(0, 0, 4, 4, Color::WHITE, u32::MAX);
        assert_eq!(thick.pixels(), [255; 16]);
    }

    #[test]
    fn outlines_are_clipped_and_empty_ones_are_not_drawn() {
        let mut image = blank(PixelFormat::Gray8, 3, 3);
        image.draw_rect(-1, -1, 3, 3, Color::WHITE, 1);
        assert_eq!(shape(&image), [".#.", "##.", "..."]);
        let mut untouched = blank(PixelFormat::Gray8, 3, 3);
        untouched.draw_rect(0, 0, 0, 3, Color::WHITE, 1);
        untouched.draw_rect(0, 0, 3, 3, Color::WHITE, 0);
        untouched.draw_rect(i32::MAX, i32::MIN, u32::MAX, u32::MAX, Color::WHITE, 5);
        untouched.draw_rect(i32::MIN, i32::MIN, 7, 7, Color::WHITE, u32::MAX);
        assert_eq!(untouched.pixels(), [0; 9]);
        untouched.draw_rect(i32::MIN, -1, u32::MAX, 2, Color::WHITE, 1);
        assert_eq!(shape(&untouched), ["###", "...", "..."]);
    }

    #[test]
    fn alpha_blends_every_pixel_once() {
        let half = Color { a: 128, ..Color::rgb(255, 0, 100) };
        let mut image = blank(PixelFormat::Rgb8, 3, 3);
        image.draw_rect(0, 0, 3, 3, half, 2);
        assert_eq!(image.pixels(), [128, 0, 50].repeat(9));
        // Over a transparent pixel the colour comes out as it is, with its own alpha.
        let mut glass = blank(PixelFormat::Rgba8, 1, 1);
        glass.draw_rect(0, 0, 1, 1, half, 1);
        assert_eq!(glass.pixels(), [255, 0, 100, 128]);
        glass.draw_rect(0, 0, 1, 1, Color::BLACK, 1);
        assert_eq!(glass.pixels(), [0, 0, 0, 255]);
        glass.draw_rect(0, 0, 1, 1, half, 1);
        assert_eq!(glass.pixels(), [128, 0, 50, 255]);
    }

    #[test]
    fn drawing_nothing_visible_copies_nothing() {
        let original = blank(PixelFormat::Gray8, 2, 2);
        let mut image = original.clone();
        image.draw_rect(5, 5, 2, 2, Color::WHITE, 1);
        image.draw_text(0, 9, "hidden", Color::WHITE, 1);
        image.draw_rect(0, 0, 2, 2, Color { a: 0, ..Color::WHITE }, 1);
        assert_eq!(image.pixels().as_ptr(), original.pixels().as_ptr());
    }

    #[test]
    fn letters_are_readable() {
        let mut image = blank(PixelFormat::Gray8, 8, 8);
        image.draw_text(0, 0, "L", Color::WHITE, 1);
        let expected = ["####....", ".##.....", ".##.....", ".##.....", ".##...#.", ".##..##.", "#######.", "........"];
        assert_eq!(shape(&image), expected);
        let mut doubled = blank(PixelFormat::Gray8, 16, 16);
        doubled.draw_text(0, 0, "L", Color::WHITE, 2);
        let nearest = image.resize(16, 16, crate::Filter::Nearest, &Limits::default()).unwrap();
        assert_eq!(doubled, nearest);
    }

    #[test]
    fn text_advances_and_is_clipped() {
        let drawn = |x, text: &str| {
            let mut image = blank(PixelFormat::Gray8, 16, 8);
            image.draw_text(x, 0, text, Color::WHITE, 1);
            image
        };
        assert_eq!(drawn(0, " L"), drawn(8, "L"));
        assert_eq!(drawn(-8, "LM"), drawn(0, "M"));
        assert_eq!(drawn(0, "LM, and much that is outside"), drawn(0, "LM"));
        assert_eq!(drawn(0, "日\n"), drawn(0, "??"));
        assert_ne!(drawn(0, "é"), drawn(0, "?"));
        let mut image = blank(PixelFormat::Gray8, 16, 8);
        image.draw_text(i32::MIN, i32::MIN, "x", Color::WHITE, u32::MAX);
        image.draw_text(0, 0, "x", Color::WHITE, 0);
        image.draw_text(i32::MAX, i32::MAX, "x", Color::WHITE, u32::MAX);
    }
}
