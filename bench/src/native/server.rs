//! Routes and listener of the native server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use bytes::Bytes;

use super::jobs::{self, Class, Digit};
use super::sessions::{Environment, Sessions, Setting};
use super::tile;
use crate::models::INPUT_SHAPE;

#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 picks a free one and prints it.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    #[arg(long, value_enum)]
    pub sessions: Setting,
    /// Folder with tensor.onnx, mobilenet.onnx and, for POST /predict, digits.onnx.
    #[arg(long)]
    pub models: PathBuf,
    #[arg(long, env = "ORT_DYLIB_PATH")]
    pub onnxruntime: PathBuf,
}

struct Models {
    tensor: Sessions,
    mobilenet: Sessions,
    digits: Option<Sessions>,
}

pub async fn serve(options: Options) -> Result<()> {
    let environment = Environment::load(&options.onnxruntime)?;
    let open = |name: &str| Sessions::open(environment, &options.models.join(name), options.sessions);
    let digits = options.models.join("digits.onnx").exists().then(|| open("digits.onnx")).transpose()?;
    let models = Models { tensor: open("tensor.onnx")?, mobilenet: open("mobilenet.onnx")?, digits };

    let router = Router::new()
        .route("/hello", get(|| async { "Hello from Wharf.\n" }))
        .route("/tensor", post(tensor))
        .route("/classify", post(classify))
        .route("/predict", post(predict))
        .layer(DefaultBodyLimit::max(64 << 20))
        .with_state(Arc::new(models));

    let listener = tokio::net::TcpListener::bind(options.listen).await?;
    // The same line as Wharf writes, so that one reader finds both addresses.
    let line = serde_json::json!({ "fields": { "message": "listening", "name": "native", "address": listener.local_addr()? } });
    eprintln!("{line}");
    let listener = listener.tap_io(|socket| {
        // Nagle's algorithm and delayed acknowledgements together cost up to 40 ms an answer. A socket
        // that refuses is still served.
        let _ = socket.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

/// Any error is a 500 that names it: the load generator counts what isn't 200.
struct Failure(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("{:#}\n", self.0)).into_response()
    }
}

async fn tensor(State(models): State<Arc<Models>>) -> Result<Json<Vec<f32>>, Failure> {
    let values = jobs::gradient();
    Ok(Json(models.tensor.run(&INPUT_SHAPE, &values).await?))
}

async fn classify(State(models): State<Arc<Models>>, picture: Bytes) -> Result<Json<Vec<Class>>, Failure> {
    let input = tokio::task::block_in_place(|| jobs::classifier_input(&picture))?;
    let logits = models.mobilenet.run(&INPUT_SHAPE, &input.values::<f32>()?).await?;
    Ok(Json(Class::best(logits)))
}

async fn predict(State(models): State<Arc<Models>>, picture: Bytes) -> Result<Json<Digit>, Failure> {
    let digits = models.digits.as_ref().ok_or_else(|| anyhow::anyhow!("started without digits.onnx"))?;
    let ink = tokio::task::block_in_place(|| tile::tile(&picture))?;
    let probabilities = digits.run(&tile::SHAPE, &ink).await?;
    Ok(Json(Digit::of(probabilities)))
}
