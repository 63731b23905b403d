//! Reads a handwritten digit: a picture of any size in, the digit and ten probabilities out.

mod tile;

use serde::Serialize;
use wharf_guest::{Error, Html, Image, Json, Model, Result, Router, TensorView, service};

#[service]
fn app() -> Router {
    Router::new().get("/", || Html(include_str!("page.html"))).post("/predict", predict)
}

#[derive(Serialize)]
struct Answer {
    digit: u32,
    /// Of 0 to 9.
    probabilities: Vec<f32>,
}

fn predict(image: Image) -> Result<Json<Answer>> {
    let tile = tile::tile(&image)?;
    let shape = [1, 1, tile::SIDE, tile::SIDE];
    let outputs = Model::open("digits")?.run_slices(&[("image", TensorView::new(&shape, &tile))])?;
    let probabilities = outputs.get("probabilities")?;
    let best = probabilities.top_k(1)?;
    let digit = best.first().ok_or_else(|| Error::internal("the model gave no probabilities"))?.index;
    Ok(Json(Answer { digit, probabilities: probabilities.to_vec()? }))
}
