//! `wharf new`, as a newcomer meets it: each template is made, built by its own `build.sh`, served and called.

#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use support::host::{Scratch, TestHost, WHARF};

/// 6 × 4 pixels of #c86428.
const ORANGE_PNG: [u8; 74] = [
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00, 0x00,
    0x06, 0x00, 0x00, 0x00, 0x04, 0x08, 0x02, 0x00, 0x00, 0x00, 0x22, 0x66, 0xd9, 0x14, 0x00, 0x00, 0x00, 0x11, 0x49,
    0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0x38, 0x91, 0xa2, 0x81, 0x86, 0x18, 0xc8, 0x15, 0x02, 0x00, 0xca, 0xc8, 0x1f,
    0xe1, 0x02, 0xe7, 0xed, 0x2f, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
];

#[test]
fn a_json_service_builds_and_answers() {
    let scratch = Scratch::new();
    let host = TestHost::serve(&[&build(&scratch, "scaffold-json", "json")], &[]);
    let greet = |body: &str| host.service("scaffold_json").post_as("/greet", "application/json", body.as_bytes());
    assert_eq!(greet(r#"{"name": "Ada"}"#).expect(200).text(), r#"{"message":"Hello Ada"}"#);
    assert_eq!(greet(r#"{"name": " "}"#).expect(422).error(), "`name` is empty");
    greet("{").expect(400);
}

#[test]
fn an_image_service_builds_and_answers() {
    let scratch = Scratch::new();
    let host = TestHost::serve(&[&build(&scratch, "scaffold-image", "image")], &[]);
    let service = host.service("scaffold_image");
    let described = service.post_as("/describe", "image/png", &ORANGE_PNG).expect(200).text();
    assert_eq!(described, r##"{"width":6,"height":4,"format":"png","mean_color":"#c86428"}"##);
    service.post_as("/describe", "image/png", b"no picture").expect(415);
    let page = service.get("/").expect(200).text();
    assert!(page.contains("<title>scaffold-image</title>"), "{page}");
}

#[test]
fn what_was_made_and_what_comes_next_is_said() {
    let scratch = Scratch::new();
    let output = new_service(&scratch, &["mask-detection"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.starts_with("mask-detection/\n  Cargo.toml\n"), "{text}");
    assert!(text.contains("guest-sdk (the checkout this wharf was built from)\n"), "{text}");
    assert!(
        text.ends_with(
            "Next:\n  cd mask-detection\n  ./build.sh\n  \
             wharf serve target/wasm32-unknown-unknown/release/mask_detection.wasm -p 5000:5000\n"
        ),
        "{text}"
    );
    let left: Vec<_> = fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["mask-detection"], "nothing else stays behind");
}

#[test]
fn a_folder_that_exists_is_left_alone() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.0.join("taken")).unwrap();
    fs::write(scratch.0.join("taken/notes"), "mine").unwrap();
    let output = new_service(&scratch, &["greeter", "--path", "taken"]);
    refused(&output, 1, "wharf: taken exists already: remove it, or name another folder with --path\n");
    assert_eq!(fs::read_dir(scratch.0.join("taken")).unwrap().count(), 1);
}

#[test]
fn a_bad_name_is_refused_before_anything_is_made() {
    let scratch = Scratch::new();
    refused(&new_service(&scratch, &["Mask"]), 2, "\"Mask\" cannot name a service: it does not start with a lowercase");
    refused(&new_service(&scratch, &["a/b"]), 2, "it contains '/'");
    refused(&new_service(&scratch, &["match"]), 2, "has that name already");
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
}

#[test]
fn an_sdk_that_is_none_is_named() {
    let scratch = Scratch::new();
    refused(
        &new_service(&scratch, &["greeter", "--sdk", "nowhere"]),
        1,
        "--sdk nowhere: there is no crate called wharf-guest",
    );
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-sdk");
    let output = new_service(&scratch, &["greeter", "--path", "deep/down/greeter", "--sdk", sdk.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let manifest = fs::read_to_string(scratch.0.join("deep/down/greeter/Cargo.toml")).unwrap();
    assert!(manifest.contains("wharf-guest = { path = \"/"), "{manifest}");
}

fn refused(output: &Output, code: i32, message: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(message), "{text}");
}

fn new_service(scratch: &Scratch, arguments: &[&str]) -> Output {
    Command::new(WHARF).arg("new").args(arguments).current_dir(&scratch.0).output().unwrap()
}

/// Make a service and build it: the file to serve.
fn build(scratch: &Scratch, name: &str, template: &str) -> PathBuf {
    let made = new_service(scratch, &[name, "--template", template]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let folder = scratch.0.join(name);
    // The versions that the examples were built with: what both need is compiled already.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/Cargo.lock");
    fs::copy(lock, folder.join("Cargo.lock")).unwrap();
    let target = guests_target();
    let built = Command::new("./build.sh").current_dir(&folder).env("CARGO_TARGET_DIR", &target).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    target.join("wasm32-unknown-unknown/release").join(name.replace('-', "_")).with_extension("wasm")
}

/// Where `cargo xtask guests` builds; `WHARF_NEW_TARGET` names another folder.
fn guests_target() -> PathBuf {
    match env::var_os("WHARF_NEW_TARGET") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(WHARF).ancestors().nth(2).unwrap().join("guests"),
    }
}
