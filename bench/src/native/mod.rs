//! The native server: axum and ONNX Runtime, no sandbox, doing the same jobs as the guests. It is the
//! limit Wharf is compared with, so it is written as a good server would be, and must never know Wharf.

mod jobs;
mod server;
mod sessions;
mod tile;

pub use server::{Options, serve};
#[cfg(test)]
pub use sessions::Sessions;
pub use sessions::{Environment, Setting, load_time};
