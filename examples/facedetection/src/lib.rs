//! Finds faces: a picture in, boxes and scores out, or the picture with the boxes drawn. With a second service to
//! ask, `MASK_URL`, it also says who wears a mask.

mod boxes;
mod drawing;
mod masks;

use boxes::{Face, Thresholds};
use masks::Masks;
use serde::{Deserialize, Serialize};
use wharf_guest::{
    Error, Format, Html, Image, IntoResponse, Json, Metadata, Model, Normalise, Query, Response, Result, Router,
    service, warn,
};

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
    faces: Vec<Seen>,
}

#[derive(Serialize)]
struct Seen {
    #[serde(flatten)]
    face: Face,
    /// Left out where nobody is asked.
    #[serde(skip_serializing_if = "Mask::is_not_asked")]
    mask: Mask,
}

/// In JSON: `true`, `false` or `null`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "Option<bool>")]
enum Mask {
    Worn,
    Missing,
    /// The other service did not answer.
    Unknown,
    NotAsked,
}

impl Mask {
    fn is_not_asked(&self) -> bool {
        *self == Mask::NotAsked
    }
}

impl From<Mask> for Option<bool> {
    fn from(mask: Mask) -> Self {
        match mask {
            Mask::Worn => Some(true),
            Mask::Missing => Some(false),
            Mask::Unknown | Mask::NotAsked => None,
        }
    }
}

fn detect(image: Image, Query(options): Query<Options>) -> Result<Response> {
    let thresholds = options.thresholds()?;
    let (width, height) = (image.width(), image.height());
    let faces = faces(&image, &thresholds)?;
    let faces = with_masks(&image, faces, Masks::from_environment());
    Ok(match options.draw {
        Draw::No => Json(Answer { width, height, faces }).into_response(),
        Draw::Jpeg => drawing::drawn(image, &faces).encoded(Format::Jpeg).into_response(),
        Draw::Png => drawing::drawn(image, &faces).encoded(Format::Png).into_response(),
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

/// The faces are what was asked for: where masks cannot be told, they go out without. One that is not answered is the
/// last that is asked for, so that the caller does not wait for each face anew.
fn with_masks(image: &Image, faces: Vec<Face>, mut masks: Option<Masks>) -> Vec<Seen> {
    let otherwise = if masks.is_some() { Mask::Unknown } else { Mask::NotAsked };
    let size = (image.width(), image.height());
    let mut seen = Vec::with_capacity(faces.len());
    for face in faces {
        let mask = match masks.as_ref().map(|masks| masks.worn(image, face.pixels(size))) {
            None => otherwise,
            Some(Ok(true)) => Mask::Worn,
            Some(Ok(false)) => Mask::Missing,
            Some(Err(error)) => {
                warn!("masks are left unknown: {error}");
                masks = None;
                Mask::Unknown
            }
        };
        seen.push(Seen { face, mask });
    }
    seen
}
