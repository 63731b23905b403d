//! Finds faces: a picture in, boxes and scores out, or the picture with the boxes drawn.

mod boxes;

use boxes::{Face, Thresholds};
use serde::{Deserialize, Serialize};
use wharf_guest::{
    Color, Error, Format, Html, Image, IntoResponse, Json, Metadata, Model, Normalise, Query, Response, Result, Router,
    service,
};

const GREEN: Color = Color { r: 0, g: 220, b: 90, a: 255 };

#[service]
fn app() -> Router {
    Router::new().get("/", || Html(include_str!("page.html"))).post("/detect", detect)
}

#[derive(Deserialize)]
struct Options {
    /// Weaker faces are left out.
    #[serde(default = "Options::score")]
    score: f32,
    /// Of two boxes that overlap more than this, the weaker one goes.
    #[serde(default = "Options::iou")]
    iou: f32,
    #[serde(default)]
    draw: Draw,
}

impl Options {
    fn score() -> f32 {
        0.5
    }

    fn iou() -> f32 {
        0.4
    }

    fn thresholds(&self) -> Result<Thresholds> {
        for (name, value) in [("score", self.score), ("iou", self.iou)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::bad_request(format!("query: `{name}`: expected 0 to 1, got {value}")));
            }
        }
        Ok(Thresholds { score: self.score, iou: self.iou })
    }
}

#[derive(Default, Deserialize)]
enum Draw {
    #[default]
    #[serde(rename = "0")]
    No,
    #[serde(rename = "1", alias = "jpeg")]
    Jpeg,
    #[serde(rename = "png")]
    Png,
}

#[derive(Serialize)]
struct Answer {
    width: u32,
    height: u32,
    faces: Vec<Face>,
}

fn detect(image: Image, Query(options): Query<Options>) -> Result<Response> {
    let thresholds = options.thresholds()?;
    let (width, height) = (image.width(), image.height());
    let faces = faces(&image, &thresholds)?;
    Ok(match options.draw {
        Draw::No => Json(Answer { width, height, faces }).into_response(),
        Draw::Jpeg => drawn(image, &faces).encoded(Format::Jpeg).into_response(),
        Draw::Png => drawn(image, &faces).encoded(Format::Png).into_response(),
    })
}

fn faces(image: &Image, thresholds: &Thresholds) -> Result<Vec<Face>> {
    let model = Model::open("facedetection")?;
    let (width, height) = input_size(&model.metadata())?;
    // The usual preparation of such models: squeezed to their size, whatever the picture's proportions.
    let input = image.resize(width, height)?.to_tensor(&Normalise::raw().mean(&[127.0]).std(&[128.0]))?;
    let outputs = model.run([("input", &input)])?;
    let (scores, boxes) = (outputs.get("scores")?.to_vec()?, outputs.get("boxes")?.to_vec()?);
    Ok(boxes::faces(&scores, &boxes, thresholds, (image.width(), image.height())))
}

/// Width and height the model takes: other weights bring their own.
fn input_size(metadata: &Metadata) -> Result<(u32, u32)> {
    let shape = metadata.inputs.first().map(|input| input.shape.as_slice()).unwrap_or_default();
    match *shape {
        [_, 3, height, width] => match (u32::try_from(width), u32::try_from(height)) {
            (Ok(width), Ok(height)) => Ok((width, height)),
            // Open dimensions (-1): a size such models do well with.
            _ => Ok((320, 240)),
        },
        _ => Err(Error::internal(format!("the model's first input must be [1, 3, height, width], it is {shape:?}"))),
    }
}

fn drawn(mut image: Image, faces: &[Face]) -> Image {
    let thickness = (image.width().max(image.height()) / 250).max(2);
    for face in faces {
        let [x1, y1, x2, y2] = face.corners;
        // Within the picture, so neither a cast nor a difference can go below 0.
        let (x, y, width, height) = (x1 as i32, y1 as i32, (x2 - x1) as u32, (y2 - y1) as u32);
        image.draw_rect(x, y, width, height, GREEN, thickness);
        let scale = thickness.div_ceil(2);
        let above = y - 10 * scale as i32;
        image.draw_text(
            x,
            if above < 0 { y + 2 * thickness as i32 } else { above },
            &format!("{:.2}", face.score),
            GREEN,
            scale,
        );
    }
    image
}
