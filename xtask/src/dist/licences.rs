//! The licences of every crate that is compiled into the program: the texts as their archives carry them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::step;
use crate::tree::{Tree, cargo};

/// How a file that holds a licence starts, in capitals.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
/// C sources carry theirs in a folder of their own.
const DEPTH: usize = 3;

struct Package {
    /// Name and version.
    title: String,
    /// What its manifest says, e.g. `MIT OR Apache-2.0`.
    terms: String,
    texts: Vec<PathBuf>,
}

/// One text for all: each licence once, under the names of the crates that carry it.
pub fn third_parties(tree: &Tree, triple: &str) -> Result<String> {
    let packages = linked(&metadata(tree, triple)?)?;
    ensure!(!packages.is_empty(), "`cargo metadata` names no dependency of wharf");
    let mut carriers: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for package in &packages {
        for file in &package.texts {
            let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            carriers.entry(normal(&String::from_utf8_lossy(&text))).or_default().insert(&package.title);
        }
    }
    step::note(format_args!("{} crates, {} different texts", packages.len(), carriers.len()));
    Ok(render(&packages, &carriers))
}

fn render(packages: &[Package], carriers: &BTreeMap<String, BTreeSet<&str>>) -> String {
    let mut page = String::from(
        "wharf contains the crates below, and Rust's standard library (MIT OR Apache-2.0). The texts that their\n\
         archives carry follow the list.\n\n",
    );
    for package in packages {
        let silent = if package.texts.is_empty() { "; its archive carries no text" } else { "" };
        let _ = writeln!(page, "{}: {}{silent}", package.title, package.terms);
    }
    for (text, titles) in carriers {
        let titles: Vec<&str> = titles.iter().copied().collect();
        let _ = write!(page, "\n{}\n{}\n\n{text}\n", "=".repeat(80), titles.join(", "));
    }
    page
}

/// The same text, however its lines end.
fn normal(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

fn metadata(tree: &Tree, triple: &str) -> Result<Value> {
    let mut command = Command::new(cargo());
    command.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", triple]);
    let text = step::capture(command.current_dir(tree.root()))?;
    serde_json::from_str(&text).context("`cargo metadata` printed something that is not JSON")
}

/// The packages below `wharf` along what is linked (dependencies for tests and build scripts are not), without ours.
fn linked(metadata: &Value) -> Result<Vec<Package>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (packages, nodes) = (list(&metadata["packages"]), list(&metadata["resolve"]["nodes"]));
    let start = packages.iter().find(|package| package["name"] == "wharf").context("there is no package `wharf`")?;
    let mut wanted = vec![text(&start["id"])];
    let mut seen = BTreeSet::new();
    while let Some(id) = wanted.pop() {
        if let Some(node) = nodes.iter().find(|node| node["id"] == id.as_str()).filter(|_| seen.insert(id.clone())) {
            let links =
                |edge: &&Value| edge["dep_kinds"].as_array().is_some_and(|all| all.iter().any(|k| k["kind"].is_null()));
            wanted.extend(list(&node["deps"]).iter().filter(links).map(|edge| text(&edge["pkg"])));
        }
    }
    // A package without a source is a folder of this tree.
    let others = packages.iter().filter(|one| seen.contains(&text(&one["id"])) && !one["source"].is_null());
    let mut linked = others.map(read).collect::<Result<Vec<Package>>>()?;
    linked.sort_by(|a, b| a.title.cmp(&b.title));
    Ok(linked)
}

fn read(package: &Value) -> Result<Package> {
    let manifest = PathBuf::from(text(&package["manifest_path"]));
    let folder = manifest.parent().context("a manifest lies in a folder")?;
    let mut texts = Vec::new();
    collect(folder, DEPTH, &mut texts)?;
    texts.extend(package["license_file"].as_str().map(|file| folder.join(file)));
    texts.sort();
    texts.dedup();
    let terms = package["license"].as_str().unwrap_or("see its text").to_owned();
    Ok(Package { title: format!("{} {}", text(&package["name"]), text(&package["version"])), terms, texts })
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}: run `cargo fetch`", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        // A licence is prose: `license.rs` is not one.
        let prose =
            path.extension().is_none_or(|ending| !["rs", "toml", "py", "sh"].iter().any(|code| ending == *code));
        if path.is_file() && prose && NAMES.iter().any(|known| name.starts_with(known)) {
            found.push(path);
        } else if path.is_dir() && depth > 0 && !["TESTS", "TARGET", "BENCHES", ".GIT"].contains(&name.as_str()) {
            collect(&path, depth - 1, found)?;
        }
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_named_and_what_only_tests_or_builds_use_is_not() {
        let tree = Tree::locate().unwrap();
        let found = linked(&metadata(&tree, "x86_64-unknown-linux-gnu").unwrap()).unwrap();
        let has = |name: &str| found.iter().any(|package| package.title.starts_with(&format!("{name} ")));
        assert!(has("wasmtime") && has("ort") && has("zstd-sys") && has("libmimalloc-sys"));
        assert!(!has("tempfile-nothing") && !has("wat") && !has("wharf-tensor") && !has("cc"));
        // C sources inside a crate bring their own.
        let zstd = found.iter().find(|package| package.title.starts_with("zstd-sys ")).unwrap();
        assert!(zstd.texts.iter().any(|path| path.ends_with("zstd/LICENSE")), "{:?}", zstd.texts);
    }

    #[test]
    fn a_text_that_many_carry_is_there_once() {
        let packages = ["a 1", "b 2", "c 3"].map(|title| Package {
            title: title.into(),
            terms: "MIT".into(),
            texts: if title == "c 3" { vec![] } else { vec!["x".into()] },
        });
        let carriers = BTreeMap::from([(normal("Permission \r\nis granted\n\n"), BTreeSet::from(["a 1", "b 2"]))]);
        let page = render(&packages, &carriers);
        assert_eq!(page.matches("Permission\nis granted\n").count(), 1, "{page}");
        assert!(page.contains("\na 1, b 2\n") && page.contains("c 3: MIT; its archive carries no text\n"), "{page}");
    }
}
