//! `cargo xtask serve`: from a fresh clone to a host that answers real pictures.

use std::process::Command;

use anyhow::Result;

use crate::step::{self, Steps};
use crate::tree::{Tree, cargo};
use crate::{guests, onnxruntime, prerequisites};

/// An example that is served.
struct Service {
    name: &'static str,
    /// Published on loopback.
    port: u16,
    /// Takes a picture with POST.
    route: &'static str,
    /// One to try, from the repository's root.
    picture: &'static str,
}

const SERVICES: [Service; 2] = [
    Service { name: "digits", port: 5000, route: "/predict", picture: "examples/digits/testdata/seven.png" },
    Service {
        name: "facedetection",
        port: 5001,
        route: "/detect",
        picture: "examples/facedetection/testdata/people.jpg",
    },
];
/// The port a service listens on inside its container.
const GUEST_PORT: u16 = 5000;
/// `digits` is the service's name already.
const BARE_MODEL: &str = "digits-model";
/// The Open Inference Protocol, metrics and health.
const HOST_PORT: u16 = 8000;

/// `cargo xtask serve [-- ARGS]`.
pub fn run(tree: &Tree, arguments: &[String]) -> Result<()> {
    prerequisites::to_build()?;
    let mut steps = Steps::new(4);
    let library = steps.run("ONNX Runtime", || onnxruntime::library(tree))?;
    steps.run("guests", || guests::build(tree))?;
    steps.run("host (the first build takes minutes)", || {
        step::run(Command::new(cargo()).args(["build", "--release", "-p", "wharf"]).current_dir(tree.root()))
    })?;
    let mut command = Command::new(tree.program("wharf"));
    command.current_dir(tree.root()).arg("serve");
    for Service { name, port, .. } in SERVICES {
        command.arg(guests::folder(tree, name)?);
        command.args(["-p", &format!("127.0.0.1:{port}:{GUEST_PORT}")]);
    }
    // The same weights as a model of its own, without a service: the host keeps one session for both.
    command.arg(guests::model(tree, "digits", "digits.onnx")?);
    for name in SERVICES.map(|service| service.name).iter().chain(&[BARE_MODEL]) {
        command.args(["--name", name]);
    }
    command.args(["--http", &format!("127.0.0.1:{HOST_PORT}")]).arg("--onnxruntime").arg(library);
    command.args(without_separator(arguments));
    if std::env::var_os("WHARF_DATA").is_none() {
        command.env("WHARF_DATA", tree.target().join("wharf-data"));
    }
    // The last step never ends by itself: the host takes this program's place.
    steps.run("wharf serve", || {
        eprint!("{}", announcement());
        Err(step::become_program(&mut command))
    })
}

/// Arguments after an optional `--`, which cargo leaves in place.
pub fn without_separator(arguments: &[String]) -> &[String] {
    match arguments.split_first() {
        Some((first, rest)) if first == "--" => rest,
        _ => arguments,
    }
}

fn announcement() -> String {
    let mut text = String::from("\n    When the host says it is ready (Ctrl-C stops it):\n\n");
    for Service { name, port, .. } in SERVICES {
        text += &format!("    {name:<14} http://127.0.0.1:{port}/   drop a picture in the browser\n");
    }
    text += &format!(
        "    {:<14} http://127.0.0.1:{HOST_PORT}/v2/models/digits   Open Inference Protocol\n\n",
        "digits.onnx"
    );
    text += "    From the repository's root, in another terminal:\n\n";
    for Service { port, route, picture, .. } in SERVICES {
        let kind = if picture.ends_with(".png") { "image/png" } else { "image/jpeg" };
        text +=
            &format!("    curl -s --data-binary @{picture} -H 'Content-Type: {kind}' http://127.0.0.1:{port}{route}\n");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn the_curl_lines_name_routes_of_the_examples() {
        for Service { name, port, route, .. } in SERVICES {
            let source = root().join("examples").join(name).join("src/lib.rs");
            let text = std::fs::read_to_string(&source).unwrap();
            let registered = format!(".post(\"{route}\",");
            assert!(
                text.contains(&registered),
                "examples/{name}/src/lib.rs has no `{registered}`: name its route here"
            );
            let line = format!("http://127.0.0.1:{port}{route}\n");
            assert!(announcement().contains(&line), "{}", announcement());
        }
    }

    #[test]
    fn the_curl_lines_name_pictures_that_exist() {
        for Service { name, picture, .. } in SERVICES {
            assert!(
                root().join(picture).exists(),
                "{name}: {picture} does not exist: name a picture of the example here"
            );
        }
    }

    #[test]
    fn one_separator_is_cargos() {
        let words = ["--", "-v", "--"].map(str::to_owned);
        assert_eq!(without_separator(&words), &words[1..]);
        assert_eq!(without_separator(&words[1..]), &words[1..]);
    }
}
