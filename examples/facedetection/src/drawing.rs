//! Draws what was found: a box for each face, with its score and, where that is known, its mask.

use wharf_guest::{Color, Image};

use crate::{Mask, Seen};

const GREEN: Color = Color { r: 0, g: 220, b: 90, a: 255 };
const RED: Color = Color { r: 235, g: 50, b: 50, a: 255 };
const AMBER: Color = Color { r: 250, g: 180, b: 0, a: 255 };

pub fn drawn(mut image: Image, faces: &[Seen]) -> Image {
    let thickness = (image.width().max(image.height()) / 250).max(2);
    for Seen { face, mask } in faces {
        let [x1, y1, x2, y2] = face.corners;
        // Within the picture, so neither a cast nor a difference can go below 0.
        let (x, y, width, height) = (x1 as i32, y1 as i32, (x2 - x1) as u32, (y2 - y1) as u32);
        let (color, words) = style(*mask);
        image.draw_rect(x, y, width, height, color, thickness);
        let scale = thickness.div_ceil(2);
        let above = y - 10 * scale as i32;
        image.draw_text(
            x,
            if above < 0 { y + 2 * thickness as i32 } else { above },
            &format!("{:.2}{words}", face.score),
            color,
            scale,
        );
    }
    image
}

fn style(mask: Mask) -> (Color, &'static str) {
    match mask {
        Mask::NotAsked => (GREEN, ""),
        Mask::Worn => (GREEN, " mask"),
        Mask::Missing => (RED, " no mask"),
        Mask::Unknown => (AMBER, " mask?"),
    }
}
