//! A picture's digit as the 8x8 tile of the digits model, step by step as the guest in `examples/digits`
//! makes it: ink 1, paper 0, the ink's bounding box in the middle of a square.

use anyhow::{Context as _, Result};
use wharf_vision::{Filter, Image, Limits, PixelFormat};

const SIDE: usize = 8;
/// The model's input.
pub const SHAPE: [usize; 4] = [1, 1, SIDE, SIDE];

pub fn tile(bytes: &[u8]) -> Result<Vec<f32>> {
    let limits = Limits::default();
    let image = Image::decode(bytes, &limits)?.convert(PixelFormat::Gray8, &limits)?;
    let (side, ink) = square(image.pixels(), image.width() as usize).context("the picture shows no digit")?;
    let small = Image::from_pixels(PixelFormat::Gray8, side as u32, side as u32, ink, &limits)?.resize(
        SIDE as u32,
        SIDE as u32,
        Filter::Bilinear,
        &limits,
    )?;
    let strongest = f32::from(small.pixels().iter().copied().max().unwrap_or_default().max(1));
    Ok(small.pixels().iter().map(|&ink| f32::from(ink) / strongest).collect())
}

/// Side and pixels of the square around the ink; `None` if there is no ink.
fn square(gray: &[u8], width: usize) -> Option<(usize, Vec<u8>)> {
    let paper = paper(gray, width)?;
    let ink: Vec<u8> = gray.iter().map(|pixel| pixel.abs_diff(paper)).collect();
    let strongest = ink.iter().copied().max().filter(|ink| *ink > 0)?;
    // Clearly ink: three tenths of the strongest or more.
    let is_ink = |ink: &u8| u32::from(*ink) * 10 >= u32::from(strongest) * 3;

    let (mut left, mut right, mut top, mut bottom) = (width, 0, usize::MAX, 0);
    for (y, row) in ink.chunks_exact(width).enumerate() {
        if let (Some(first), Some(last)) = (row.iter().position(is_ink), row.iter().rposition(is_ink)) {
            (left, right) = (left.min(first), right.max(last + 1));
            (top, bottom) = (top.min(y), y + 1);
        }
    }
    let (digit_width, digit_height) = (right.checked_sub(left)?, bottom.checked_sub(top)?);
    let side = digit_width.max(digit_height);
    let (x, y) = ((side - digit_width) / 2, (side - digit_height) / 2);
    let mut pixels = vec![0; side * side];
    let rows = ink.chunks_exact(width).skip(top).take(digit_height);
    for (to, from) in pixels.chunks_exact_mut(side).skip(y).zip(rows) {
        to.get_mut(x..x + digit_width)?.copy_from_slice(from.get(left..right)?);
    }
    Some((side, pixels))
}

/// The paper's brightness: the median of the outermost pixels.
fn paper(gray: &[u8], width: usize) -> Option<u8> {
    let rows: Vec<&[u8]> = gray.chunks_exact(width.max(1)).collect();
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

    #[test]
    fn the_digit_fills_its_tile() {
        let tile = tile(&crate::picture::digit().unwrap()).unwrap();
        assert_eq!(tile.len(), SIDE * SIDE);
        // The bar on top is ink, the lower right corner is paper.
        assert!(tile[3] > 0.8 && tile[63] < 0.2, "{tile:?}");
    }

    #[test]
    fn an_empty_sheet_has_no_digit() {
        assert_eq!(square(&[200; 30], 6), None);
        assert_eq!(square(&[], 0), None);
    }
}
