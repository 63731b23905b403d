//! The guests of `guests/`, and what all of them need.

use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use wharf_sandbox::component::Component;
use wharf_sandbox::engine::Engine;
use wharf_sandbox::job::Job;
use wharf_sandbox::log::{LogSink, LogStream};
use wharf_sandbox::service::Body;
use wharf_sandbox::state::Guest;
use wharf_sandbox::stdio::Output;
use wit_parser::Resolve;

pub static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new().unwrap());

/// Enough for a guest of text and its adapter.
pub const MEMORY: usize = 1 << 20;

macro_rules! text {
    ($name:literal) => {
        include_str!(concat!("guests/", $name, ".wat"))
    };
}
pub(crate) use text;

pub fn job(text: &str) -> Job {
    Job::load(&ENGINE, None, &wat::parse_str(text).unwrap()).unwrap()
}

/// A core module with the world it is of, as wit-bindgen makes them.
pub fn service(text: &str) -> Component {
    let mut wit = Resolve::default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-sdk/wit");
    let (package, _) = wit.push_dir(folder).unwrap();
    let world = wit.select_world(&[package], Some("service")).unwrap();
    let mut module = wat::parse_str(text).unwrap();
    wit_component::embed_component_metadata(&mut module, &wit, world, wit_component::StringEncoding::UTF8).unwrap();
    Component::load(&ENGINE, None, &module).unwrap()
}

pub fn guest() -> Guest {
    Guest::new(Output::Lines(Arc::new(Lines::default())), MEMORY)
}

pub fn request() -> http::Request<Body> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    http::Request::get("http://guest/").body(body).unwrap()
}

/// A log in memory.
#[derive(Default)]
pub struct Lines(pub Mutex<Vec<(LogStream, Bytes)>>);

impl LogSink for Lines {
    fn try_write(&self, stream: LogStream, line: Bytes) -> bool {
        self.0.lock().unwrap().push((stream, line));
        true
    }

    fn ready(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }
}
