//! From a picture to the model's 8×8 tile. The model was trained through `train/preprocess.py`, which
//! does the same: change both or neither.

use wharf_guest::{Error, Image, PixelFormat, Result};

/// Width and height of the model's picture.
pub const SIDE: u32 = 8;
/// The least distance between paper and darkest ink, of 255, that counts as a digit at all.
const FAINTEST: u8 = 16;

/// Ink 1, paper 0. A picture where nothing stands out from the paper is a 422.
pub fn tile(image: &Image) -> Result<Vec<f32>> {
    let gray = image.convert(PixelFormat::Gray8)?.pixels();
    let width = usize::try_from(image.width()).map_err(Error::internal)?;
    let square = square(gray, width)
        .ok_or_else(|| Error::unprocessable("nothing stands out from the paper: the picture shows no digit"))?;
    let side = u32::try_from(square.side).map_err(Error::internal)?;
    let small = Image::from_pixels(PixelFormat::Gray8, side, side, &square.ink)?.resize(SIDE, SIDE)?.pixels();
    let strongest = f32::from(small.iter().copied().max().unwrap_or_default().max(1));
    Ok(small.into_iter().map(|ink| f32::from(ink) / strongest).collect())
}

/// The digit alone, in the middle of a square. Ink is bright, paper 0.
#[derive(Debug, PartialEq, Eq)]
struct Square {
    side: usize,
    ink: Vec<u8>,
}

/// `None` if there is no ink.
fn square(mut pixels: Vec<u8>, width: usize) -> Option<Square> {
    let paper = paper(&pixels, width)?;
    pixels.iter_mut().for_each(|pixel| *pixel = pixel.abs_diff(paper));
    let strongest = pixels.iter().copied().max().filter(|ink| *ink >= FAINTEST)?;
    // Clearly ink: three tenths of the strongest or more.
    let is_ink = |ink: &u8| u32::from(*ink) * 10 >= u32::from(strongest) * 3;

    let (mut left, mut right) = (width, 0);
    let (mut top, mut bottom) = (usize::MAX, 0);
    for (y, row) in pixels.chunks_exact(width).enumerate() {
        if let (Some(first), Some(last)) = (row.iter().position(is_ink), row.iter().rposition(is_ink)) {
            (left, right) = (left.min(first), right.max(last + 1));
            (top, bottom) = (top.min(y), y + 1);
        }
    }
    let (digit_width, digit_height) = (right.checked_sub(left)?, bottom.checked_sub(top)?);
    let side = digit_width.max(digit_height);
    let (x, y) = ((side - digit_width) / 2, (side - digit_height) / 2);
    let mut ink = vec![0; side * side];
    let rows = pixels.chunks_exact(width).skip(top).take(digit_height);
    for (to, from) in ink.chunks_exact_mut(side).skip(y).zip(rows) {
        to.get_mut(x..x + digit_width)?.copy_from_slice(from.get(left..right)?);
    }
    Some(Square { side, ink })
}

/// The paper's brightness: the median of the outermost pixels.
fn paper(pixels: &[u8], width: usize) -> Option<u8> {
    let rows: Vec<&[u8]> = pixels.chunks_exact(width.max(1)).collect();
    let (first, last) = (rows.first()?, rows.last()?);
    let inner = rows.get(1..rows.len().saturating_sub(1)).unwrap_or_default();
    let sides = inner.iter().flat_map(|row| [row.first(), row.last()].into_iter().flatten());
    let mut border: Vec<u8> = first.iter().chain(last.iter()).chain(sides).copied().collect();
    border.sort_unstable();
    border.get(border.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `#` is ink, `.` is paper.
    fn drawing(rows: &[&str], paper: u8, ink: u8) -> (Vec<u8>, usize) {
        (rows.concat().bytes().map(|c| if c == b'#' { ink } else { paper }).collect(), rows[0].len())
    }

    const BAR: [&str; 5] = ["......", "...#..", "...#..", "...#..", "......"];

    #[test]
    fn the_digit_is_cut_out_and_centred() {
        let (pixels, width) = drawing(&BAR, 250, 10);
        let square = square(pixels, width).unwrap();
        assert_eq!(square, Square { side: 3, ink: vec![0, 240, 0, 0, 240, 0, 0, 240, 0] });
    }

    #[test]
    fn bright_ink_on_dark_paper_reads_the_same() {
        let (dark, width) = drawing(&BAR, 250, 10);
        let (bright, _) = drawing(&BAR, 10, 250);
        assert_eq!(square(dark, width), square(bright, width));
    }

    #[test]
    fn an_empty_sheet_has_no_digit() {
        assert_eq!(square(vec![200; 30], 6), None);
        assert_eq!(square(drawing(&BAR, 200, 190).0, 6), None);
        assert_eq!(square(Vec::new(), 0), None);
        assert_eq!(square(vec![7], 1), None);
    }

    #[test]
    fn faint_marks_do_not_widen_the_box() {
        let (mut pixels, width) = drawing(&BAR, 250, 10);
        pixels[6] = 250 - 71;
        assert_eq!(square(pixels.clone(), width).unwrap().side, 3);
        pixels[6] = 250 - 72;
        assert_eq!(square(pixels, width).unwrap().side, 4);
    }
}
