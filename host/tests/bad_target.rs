//! What bad targets get: files that are no models and no components, or ones this host cannot run. The host does not
//! start; its exit code and one sentence say which file it is, what is wrong with it, and what to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::path::Path;

use support::guests::{fixture, fixture_model, model, source};
use support::host::{Scratch, refused};

// ---- models ----

/// The host does not start with this model, and says all of `words`.
#[track_caller]
fn model_refused(name: &str, content: &[u8], words: &[&str]) {
    let scratch = Scratch::new();
    let file = scratch.file(&format!("{name}.onnx"), content);
    let ended = refused(&[&file], &[]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    for word in [&[file.to_str().unwrap(), &format!("model {name:?}")], words].concat() {
        assert!(ended.stderr.contains(word), "{word:?} is not in:\n{}", ended.stderr);
    }
}

#[test]
fn a_model_that_is_cut_short() {
    let whole = fs::read(model("digits", "digits")).unwrap();
    let half = &whole[..whole.len() / 2];
    model_refused("half", half, &[&format!("{} bytes that are cut short or no ONNX file", half.len())]);
    model_refused("empty", b"", &["which is empty"]);
}

#[test]
fn a_model_that_is_no_onnx() {
    model_refused("letter", b"Dear sir or madam, this is a letter.", &["36 bytes that are cut short or no ONNX file"]);
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    model_refused("pointer", pointer, &["Git LFS pointer", "run `git lfs pull`"]);
}

#[test]
fn a_model_of_a_newer_opset() {
    let newer = fs::read(fixture_model("newer-opset")).unwrap();
    model_refused("newer", &newer, &["made for a newer ONNX", "export it with a lower opset_version"]);
}

#[test]
fn a_model_that_cannot_be_served() {
    let sequence = fs::read(fixture_model("sequence")).unwrap();
    model_refused("sequence", &sequence, &["cannot serve model \"sequence\""]);
}

#[test]
fn a_model_that_is_missing() {
    let ended = refused(&[Path::new("no-such-model.onnx")], &[]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("no such file or folder: no-such-model.onnx"), "{}", ended.stderr);

    let ended = refused(&[&fixture("misbehave")], &["-m", "digits=no-such-model.onnx"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("model \"digits\": cannot read no-such-model.onnx"), "{}", ended.stderr);
}

#[test]
fn a_bad_model_beside_a_good_component_stops_the_start() {
    let ended = refused(&[&fixture("misbehave")], &["-m", &format!("digits={}", source("LICENSE").display())]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("cannot load model \"digits\"") && ended.stderr.contains("LICENSE"),
        "{}",
        ended.stderr
    );
}

// ---- components ----

/// The host does not start with this component, and says so.
#[track_caller]
fn component_refused(file: &Path, message: &str) {
    let ended = refused(&[file], &[]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let sentence = format!("{} is not a service: {message}", file.display());
    assert!(ended.stderr.contains(&sentence), "{sentence:?} is not in:\n{}", ended.stderr);
}

#[test]
fn a_component_that_is_none() {
    let scratch = Scratch::new();
    component_refused(
        &scratch.file("text.wasm", b"GIF89a"),
        "not WebAssembly: it starts with \"GIF8\", not with \\0asm",
    );
    component_refused(&scratch.file("empty.wasm", b""), "not WebAssembly: it starts with nothing (the file is empty)");
    let whole = fs::read(fixture("misbehave")).unwrap();
    let half = scratch.file("half.wasm", &whole[..whole.len() / 2]);
    component_refused(&half, "");
}

#[test]
fn a_module_that_no_toolchain_of_ours_made() {
    let scratch = Scratch::new();
    let foreign = wat::parse_str(r#"(module (import "env" "print" (func)) (func (export "run")))"#).unwrap();
    let words = "a core module that wit-bindgen did not make";
    component_refused(&scratch.file("foreign.wasm", &foreign), words);
    let silent = wat::parse_str(r#"(module (func (export "run")))"#).unwrap();
    component_refused(&scratch.file("silent.wasm", &silent), "it does not export wasi:http/incoming-handler@0.2");
}

#[test]
fn a_component_without_the_export() {
    component_refused(&fixture("no-handler"), "it does not export wasi:http/incoming-handler@0.2");
    let job = wat::parse_str(r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#).unwrap();
    let scratch = Scratch::new();
    let file = scratch.file("job.wasm", &job);
    let ended = refused(&[&file], &[]);
    assert!(ended.stderr.contains("(wasi:cli/run is a job: it runs once and ends)"), "{}", ended.stderr);
}

#[test]
fn a_component_that_imports_what_we_do_not_offer() {
    component_refused(
        &fixture("unknown-import"),
        "it imports what this host does not offer: acme:gadget/spin@1.0.0; offered are wasi:cli",
    );
}

#[test]
fn a_component_of_wasi_0_3() {
    let component = wat::parse_file(source("host/tests/guests/wasi03.wat")).unwrap();
    let scratch = Scratch::new();
    component_refused(
        &scratch.file("newer.wasm", &component),
        "it is written for WASI 0.3 (wasi:http/handler@0.3.0), which this host does not run yet; build it against",
    );
}

#[test]
fn a_component_whose_handler_is_of_another_type() {
    let wrong = r#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#;
    let scratch = Scratch::new();
    component_refused(&scratch.file("shell.wasm", &wat::parse_str(wrong).unwrap()), "it does not fit this host: ");
}

#[test]
fn a_memory_limit_that_cannot_be() {
    let ended = refused(&[&fixture("misbehave")], &["--memory", "1m"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("memory limit of 1048576 bytes: this host accepts 4194304 to"), "{}", ended.stderr);
}
