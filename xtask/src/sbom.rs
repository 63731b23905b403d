//! `cargo xtask sbom`: what the program is made of, as CycloneDX 1.5 JSON: the crates that are linked into it, from cargo's
//! own answer, and the ONNX Runtime it is shipped with. It must not guess: what cargo or the pins do not say is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::python_guest::hex;
use crate::step;
use crate::tree::{Tree, cargo};

const PROGRAM: &str = "wharf";
const USAGE: &str = "write `cargo xtask sbom --target TRIPLE --onnxruntime PINS.txt|VERSION`";

/// `cargo xtask sbom`: its standard output is the document and nothing else.
pub fn run(tree: &Tree, arguments: &[String]) -> Result<()> {
    let (target, runtime) = match arguments {
        [first, target, second, runtime] if first == "--target" && second == "--onnxruntime" => (target, runtime),
        _ => bail!("{USAGE}"),
    };
    println!("{}", document(tree, target, runtime)?);
    Ok(())
}

/// The document for one platform. `runtime` is a file of pins for pip, or the version of a library compiled from source.
pub fn document(tree: &Tree, target: &str, runtime: &str) -> Result<String> {
    let mut command = Command::new(cargo());
    command.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", target]);
    let metadata = step::capture(command.current_dir(tree.root()))?;
    let metadata: Value =
        serde_json::from_str(&metadata).context("`cargo metadata` printed something that is not JSON")?;
    let lock = fs::read_to_string(tree.root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let runtime = match runtime.ends_with(".txt") {
        true => from_pins(
            &fs::read_to_string(tree.root().join(runtime)).with_context(|| format!("cannot read {runtime}"))?,
        )?,
        false => from_source(runtime),
    };
    let bom = compose(&metadata, &checksums(&lock), runtime)?;
    serde_json::to_string_pretty(&bom).context("cannot write the document")
}

fn compose(metadata: &Value, checksums: &BTreeMap<(String, String), String>, runtime: Value) -> Result<Value> {
    let packages = by_id(&metadata["packages"]);
    let nodes = by_id(&metadata["resolve"]["nodes"]);
    let (root, _) = packages
        .iter()
        .find(|(_, package)| package["name"] == PROGRAM && package["source"].is_null())
        .with_context(|| format!("cargo knows no package {PROGRAM}"))?;
    let linked = linked(root, &nodes);
    let describe = |id: &&str| packages.get(id).map(|package| component(package, checksums));
    let mut components: Vec<Value> = linked.iter().filter(|id| *id != root).filter_map(describe).collect();
    let program = describe(root).with_context(|| format!("cargo does not describe {PROGRAM}"))?;
    let reference = |id: &str| packages.get(id).map(|package| reference(package)).unwrap_or_default();
    let mut edges: Vec<Value> = linked
        .iter()
        .map(|id| {
            let on: Vec<String> =
                nodes.get(id).map(normal).unwrap_or_default().iter().map(|id| reference(id)).collect();
            json!({ "ref": reference(id), "dependsOn": on })
        })
        .collect();
    edges.push(json!({ "ref": runtime["bom-ref"], "dependsOn": [] }));
    components.push(runtime);
    ensure!(components.len() > 1, "cargo lists no dependency of {PROGRAM}: was --target right?");
    // The same parts give the same document: no time, and a number made of the content.
    let digest = hex(&Sha256::digest(serde_json::to_vec(&(&program, &components))?));
    let serial = format!(
        "urn:uuid:{}-{}-5{}-8{}-{}",
        &digest[..8],
        &digest[8..12],
        &digest[13..16],
        &digest[17..20],
        &digest[20..32]
    );
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": serial,
        "version": 1,
        "metadata": { "component": program },
        "components": components,
        "dependencies": edges,
    }))
}

fn by_id(list: &Value) -> BTreeMap<&str, &Value> {
    list.as_array().into_iter().flatten().filter_map(|one| Some((one["id"].as_str()?, one))).collect()
}

/// All that is linked into `root`, itself included: normal dependencies, and theirs.
fn linked<'a>(root: &'a str, nodes: &BTreeMap<&'a str, &'a Value>) -> BTreeSet<&'a str> {
    let (mut found, mut open) = (BTreeSet::from([root]), vec![root]);
    while let Some(id) = open.pop() {
        let on = nodes.get(id).map(|node| normal(node)).unwrap_or_default();
        open.extend(on.into_iter().filter(|id| found.insert(*id)));
    }
    found
}

/// The packages a node needs when it runs; what only builds or tests it is not shipped.
fn normal<'a>(node: &&'a Value) -> Vec<&'a str> {
    let is_normal =
        |dep: &&Value| dep["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()));
    node["deps"].as_array().into_iter().flatten().filter(is_normal).filter_map(|dep| dep["pkg"].as_str()).collect()
}

fn reference(package: &Value) -> String {
    let text = |field: &str| package[field].as_str().unwrap_or_default();
    format!("pkg:cargo/{}@{}", text("name"), text("version"))
}

fn component(package: &Value, checksums: &BTreeMap<(String, String), String>) -> Value {
    let text = |field: &str| package[field].as_str().unwrap_or_default().to_owned();
    let (name, version) = (text("name"), text("version"));
    let kind = if name == PROGRAM { "application" } else { "library" };
    let mut component = json!({ "type": kind, "bom-ref": reference(package), "name": name, "version": version });
    // What is ours is on no registry: a package URL would name somebody else's.
    if package["source"].is_string() {
        component["purl"] = reference(package).into();
    }
    if let Some(license) = package["license"].as_str() {
        // Older crates write a slash for OR.
        component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
    }
    if let Some(sum) = checksums.get(&(name, version)) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
    }
    component
}

/// (name, version) → sha256 of the crate's archive.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |package: &str, field: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(" = \""))?;
        Some(line.trim_end_matches('"').to_owned())
    };
    let packages = lock.split("[[package]]").skip(1);
    packages.filter_map(|one| Some(((value(one, "name")?, value(one, "version")?), value(one, "checksum")?))).collect()
}

/// ONNX Runtime as pip's pins name it: `NAME==VERSION --hash=sha256:…`.
fn from_pins(pins: &str) -> Result<Value> {
    let words: Vec<&str> = pins.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
    let pinned = words.iter().find_map(|word| word.split_once("=="));
    let (name, version) = pinned.context("the pins name no package: NAME==VERSION is expected")?;
    let hashes: Vec<Value> = words
        .iter()
        .filter_map(|word| word.strip_prefix("--hash=sha256:"))
        .map(|sum| json!({ "alg": "SHA-256", "content": sum }))
        .collect();
    ensure!(!hashes.is_empty(), "the pins of {name} have no --hash=sha256:…");
    Ok(onnxruntime(name, version, &format!("pkg:pypi/{name}@{version}"), hashes))
}

fn from_source(version: &str) -> Value {
    onnxruntime("onnxruntime", version, &format!("pkg:github/microsoft/onnxruntime@v{version}"), Vec::new())
}

fn onnxruntime(name: &str, version: &str, purl: &str, hashes: Vec<Value>) -> Value {
    json!({
        "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
        "licenses": [{ "expression": "MIT" }], "hashes": hashes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Value {
        let dep = |id: &str, kind: Value| json!({ "pkg": id, "dep_kinds": [{ "kind": kind }] });
        let package = |id: &str, source: Value| json!({ "id": id, "name": id, "version": "1.0.0", "source": source, "license": "MIT/Apache-2.0" });
        json!({
            "packages": [
                package("wharf", Value::Null), package("tokio", "registry".into()), package("mio", "registry".into()),
                package("cc", "registry".into()), package("tempfile", "registry".into()),
            ],
            "resolve": { "nodes": [
                { "id": "wharf", "deps": [dep("tokio", Value::Null), dep("tempfile", "dev".into())] },
                { "id": "tokio", "deps": [dep("mio", Value::Null), dep("cc", "build".into())] },
                { "id": "mio", "deps": [] }, { "id": "cc", "deps": [] }, { "id": "tempfile", "deps": [] },
            ] },
        })
    }

    #[test]
    fn it_lists_what_is_linked_and_not_what_builds_or_tests() {
        let lock = "[[package]]\nname = \"mio\"\nversion = \"1.0.0\"\nchecksum = \"abc\"\n";
        let bom = compose(&metadata(), &checksums(lock), from_source("1.31.1")).unwrap();
        let names: Vec<&str> =
            bom["components"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
        assert_eq!(names, ["mio", "tokio", "onnxruntime"]);
        let mio = &bom["components"][0];
        assert_eq!((&mio["purl"], &mio["hashes"][0]["content"]), (&"pkg:cargo/mio@1.0.0".into(), &"abc".into()));
        assert_eq!(mio["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert!(bom["metadata"]["component"]["purl"].is_null());
        assert_eq!(
            bom["dependencies"][1],
            json!({ "ref": "pkg:cargo/tokio@1.0.0", "dependsOn": ["pkg:cargo/mio@1.0.0"] })
        );
        let again = compose(&metadata(), &checksums(lock), from_source("1.31.2")).unwrap();
        assert_ne!(bom["serialNumber"], again["serialNumber"]);
    }

    #[test]
    fn pins_without_a_hash_are_refused() {
        let runtime = from_pins("# why\nonnxruntime-gpu==1.31.1 \\\n    --hash=sha256:05d5\n").unwrap();
        assert_eq!(runtime["purl"], "pkg:pypi/onnxruntime-gpu@1.31.1");
        assert_eq!(runtime["hashes"], json!([{ "alg": "SHA-256", "content": "05d5" }]));
        assert!(from_pins("onnxruntime==1.31.1").unwrap_err().to_string().contains("have no --hash"));
        assert!(from_pins("--hash=sha256:05d5").unwrap_err().to_string().contains("name no package"));
    }
}
