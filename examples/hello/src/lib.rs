//! The smallest service: text, JSON, an echo, and two ways to run a model.

use serde::Serialize;
use wharf_guest::{Html, Image, Json, Model, Normalise, Path, Result, Router, TensorView, service};

#[service]
fn app() -> Router {
    Router::new()
        .get("/", || "Hello from Wharf.\n")
        .get("/hello/{name}", |Path(name): Path<String>| Html(format!("<h1>Hello {}</h1>", name.replace('<', "&lt;"))))
        .get("/json", || Json(Greeting { message: "Hello, World!" }))
        .post("/echo", |body: Vec<u8>| body)
        .post("/tensor", tensor)
        .post("/classify", classify)
}

#[derive(Serialize)]
struct Greeting {
    message: &'static str,
}

/// A picture's worth of numbers, made here: the model reads them where they lie.
fn tensor() -> Result<Json<Vec<f32>>> {
    let pixels: Vec<f32> = (0..3 * 224 * 224).map(|i| (i % 256) as f32 / 255.0).collect();
    let outputs = Model::open("tensor")?.run_slices(&[("input", TensorView::new(&[1, 3, 224, 224], &pixels))])?;
    let numbers = outputs.first()?.to_vec::<f32>()?;
    Ok(Json(numbers.into_iter().take(5).collect()))
}

#[derive(Serialize)]
struct Class {
    index: u32,
    probability: f32,
}

/// A picture's five likeliest classes: the picture, the tensors and the model all stay in the host.
fn classify(image: Image) -> Result<Json<Vec<Class>>> {
    let input = image.resize(224, 224)?.to_tensor(&Normalise::imagenet())?;
    let outputs = Model::open("mobilenet")?.run([("input", &input)])?;
    let best = outputs.first()?.softmax(-1)?.top_k(5)?;
    Ok(Json(best.into_iter().map(|best| Class { index: best.index, probability: best.score }).collect()))
}
