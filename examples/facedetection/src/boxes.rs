//! From a detector's numbers to faces: threshold, non-maximum suppression, pixels.

use serde::Serialize;
use wharf_guest::Rect;

/// More candidates than any picture has faces; keeps the worst case short.
const MOST_CANDIDATES: usize = 1000;

/// What counts as a face, and as the same face.
pub struct Thresholds {
    pub score: f32,
    pub iou: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Face {
    /// Left, top, right, bottom in pixels, within the picture.
    #[serde(rename = "box")]
    pub corners: [f32; 4],
    pub score: f32,
}

impl Face {
    /// The pixels the box touches, of a picture of that size: one at least, none outside.
    pub fn pixels(&self, (width, height): (u32, u32)) -> Rect {
        let [x1, y1, x2, y2] = self.corners;
        // Within the picture, so neither a cast nor a difference can go below 0.
        let (x, y) = ((x1 as u32).min(width.saturating_sub(1)), (y1 as u32).min(height.saturating_sub(1)));
        let (right, bottom) = ((x2.ceil() as u32).min(width), (y2.ceil() as u32).min(height));
        Rect { x, y, width: right.max(x + 1) - x, height: bottom.max(y + 1) - y }
    }
}

/// `scores` are pairs (background, face), `boxes` left, top, right, bottom as parts of the picture. Best first.
pub fn faces(scores: &[f32], boxes: &[f32], thresholds: &Thresholds, size: (u32, u32)) -> Vec<Face> {
    let (scores, boxes) = (scores.as_chunks::<2>().0, boxes.as_chunks::<4>().0);
    let mut candidates: Vec<Face> = scores
        .iter()
        .zip(boxes)
        .filter(|([_, score], _)| *score >= thresholds.score)
        .map(|([_, score], corners)| Face { corners: *corners, score: *score })
        .collect();
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    candidates.truncate(MOST_CANDIDATES);
    let mut kept: Vec<Face> = Vec::new();
    for face in candidates {
        if kept.iter().all(|better| iou(&better.corners, &face.corners) <= thresholds.iou) {
            kept.push(face);
        }
    }
    kept.into_iter().map(|face| in_pixels(face, size)).filter(|face| area(&face.corners) > 0.0).collect()
}

/// Rounded to what means something: a tenth of a pixel, a ten thousandth of certainty.
fn in_pixels(face: Face, (width, height): (u32, u32)) -> Face {
    let [x1, y1, x2, y2] = face.corners;
    let pixel = |part: f32, length: u32| ((part * length as f32).clamp(0.0, length as f32) * 10.0).round() / 10.0;
    Face {
        corners: [pixel(x1, width), pixel(y1, height), pixel(x2, width), pixel(y2, height)],
        score: (face.score * 1e4).round() / 1e4,
    }
}

fn area([x1, y1, x2, y2]: &[f32; 4]) -> f32 {
    (x2 - x1).max(0.0) * (y2 - y1).max(0.0)
}

/// Intersection over union; 0 where there is nothing.
fn iou(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let both = area(&[a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    let either = area(a) + area(b) - both;
    if either > 0.0 { both / either } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds { score: 0.5, iou: 0.4 };

    fn found(scored: &[(f32, [f32; 4])]) -> Vec<Face> {
        let scores: Vec<f32> = scored.iter().flat_map(|(score, _)| [1.0 - score, *score]).collect();
        let boxes: Vec<f32> = scored.iter().flat_map(|(_, corners)| *corners).collect();
        faces(&scores, &boxes, &THRESHOLDS, (200, 100))
    }

    #[test]
    fn the_best_of_overlapping_boxes_stays() {
        let faces = found(&[
            (0.6, [0.1, 0.1, 0.5, 0.5]),
            (0.9, [0.12, 0.1, 0.52, 0.5]),
            (0.7, [0.6, 0.6, 0.9, 0.9]),
            (0.4, [0.0, 0.0, 0.1, 0.1]),
        ]);
        assert_eq!(
            faces,
            [
                Face { corners: [24.0, 10.0, 104.0, 50.0], score: 0.9 },
                Face { corners: [120.0, 60.0, 180.0, 90.0], score: 0.7 },
            ]
        );
    }

    #[test]
    fn boxes_end_at_the_picture() {
        let faces = found(&[(0.9, [-0.5, -0.5, 0.5, 1.5]), (0.8, [1.2, 0.0, 1.4, 0.5])]);
        assert_eq!(faces, [Face { corners: [0.0, 0.0, 100.0, 100.0], score: 0.9 }]);
    }

    #[test]
    fn a_face_covers_one_pixel_at_least() {
        let pixels = |corners| {
            let Rect { x, y, width, height } = Face { corners, score: 0.9 }.pixels((200, 100));
            (x, y, width, height)
        };
        assert_eq!(pixels([24.3, 10.0, 104.1, 50.0]), (24, 10, 81, 40));
        assert_eq!(pixels([199.9, 99.9, 200.0, 100.0]), (199, 99, 1, 1));
        assert_eq!(pixels([200.0, 100.0, 200.0, 100.0]), (199, 99, 1, 1));
        assert_eq!(pixels([0.0, 0.0, 200.0, 100.0]), (0, 0, 200, 100));
    }

    #[test]
    fn odd_numbers_are_no_faces() {
        assert_eq!(found(&[(f32::NAN, [0.0, 0.0, 1.0, 1.0]), (0.9, [f32::NAN; 4]), (0.9, [0.5, 0.5, 0.4, 0.4])]), []);
        assert_eq!(faces(&[0.0], &[], &THRESHOLDS, (1, 1)), []);
    }
}
