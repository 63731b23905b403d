//! A service that opens files as any Rust program does, with std on `wasm32-wasip1`: what it may touch are the folders
//! mounted into it.
//!
//! `?path=` is what to touch, `?text=` what to write. A refusal is a 200 with `{"outcome":"error",…}`.

use std::fs;
use std::io;
use std::path::Path;

use fixture::{IncomingRequest, Object, Reply, Request, ResponseOutparam, case_name};

struct Files;

impl fixture::Guest for Files {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let request = Request::new(request);
        answer(&request).send(out);
    }
}

fixture::export!(Files);

fn answer(request: &Request) -> Reply {
    let path = request.query("path").unwrap_or_default();
    let text = request.query("text").unwrap_or_default();
    match request.path() {
        "/read" => outcome(fs::read_to_string(path), |ok, text| ok.text("text", &text)),
        "/list" => outcome(names(Path::new(&path)), |ok, names| ok.texts("names", names.iter().map(String::as_str))),
        "/write" => outcome(fs::write(path, text), |ok, ()| ok),
        "/remove" => outcome(fs::remove_file(path), |ok, ()| ok),
        "/make-folder" => outcome(fs::create_dir(path), |ok, ()| ok),
        other => Reply::text(404, format!("files has no route {other}")),
    }
}

fn outcome<T>(result: io::Result<T>, describe: impl FnOnce(Object, T) -> Object) -> Reply {
    let refused = |error: io::Error| Object::error(&case_name(&error.kind()), &error.to_string());
    Reply::outcome(result.map_err(refused), describe)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
