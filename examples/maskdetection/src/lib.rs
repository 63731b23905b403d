//! Looks at a face: does it wear a mask? A picture of one face in, yes or no out.

use serde::Serialize;
use wharf_guest::{Error, Html, Image, Json, Model, Normalise, Result, Router, service};

/// Width and height of the model's picture.
const SIDE: u32 = 32;
/// Its classes are: no mask, mask.
const MASK: u32 = 1;

#[service]
fn app() -> Router {
    Router::new().get("/", || Html(include_str!("page.html"))).post("/predict", predict)
}

#[derive(Serialize)]
struct Answer {
    mask: bool,
    /// How sure that is: 0.5 to 1.
    score: f32,
}

fn predict(face: Image) -> Result<Json<Answer>> {
    // Squeezed, whatever the picture's proportions: the model was trained that way.
    let input = face.resize(SIDE, SIDE)?.to_tensor(&Normalise::raw().mean(&[127.0]).std(&[128.0]))?;
    let outputs = Model::open("maskdetection")?.run([("input", &input)])?;
    let likelier = outputs.get("probabilities")?.top_k(1)?;
    let likelier = likelier.first().ok_or_else(|| Error::internal("the model gave no probabilities"))?;
    Ok(Json(Answer { mask: likelier.index == MASK, score: (likelier.score * 1e4).round() / 1e4 }))
}
