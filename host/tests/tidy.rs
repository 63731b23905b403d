//! Reads the tree and enforces what reviews forget: who may import whom, where a library may be named, how long
//! a file may grow, that each one says what it is for, and that the map in ARCHITECTURE.md is true.

#![allow(clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// The import table: a room of `host/src` (or a crate of ours) and what it may use. A whole room is named by one
/// word; `room::Item` opens a door for that item alone.
///
/// A new edge is a decision about the architecture: change ARCHITECTURE.md with it.
const ROOMS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("metrics", &[]),
    ("image", &["error"]),
    ("model", &["wharf_tensor", "error", "metrics"]),
    ("batch", &["model", "wharf_tensor", "error", "metrics"]),
    ("container", &["image", "error", "metrics"]),
    ("service", &["wharf_tensor", "error"]),
    (
        "runtime",
        &[
            "container",
            "image",
            "model",
            "batch",
            "service",
            "wharf_vision",
            "wharf_sandbox",
            "wharf_tensor",
            "error",
            "metrics",
        ],
    ),
    // The sandbox names why a body stopped arriving; only the ladder knows which status that is.
    ("ingress", &["service", "error", "metrics", "wharf_sandbox::service::RequestBodyError"]),
    ("oip", &["service", "wharf_tensor", "error", "metrics"]),
    ("control", &["container", "image", "error", "metrics"]),
    ("compose", &["error"]),
    // All other verbs are a client of the API; `wharf serve` and `wharf componentize` work without a daemon: their flags
    // become these types.
    (
        "cli",
        &[
            "serve",
            "compose",
            "error",
            "image::unpack::compression",
            "ingress::Limits",
            "model::library::Search",
            "runtime::Workload",
            "runtime::log::channel",
            "wharf_sandbox::state::Mount",
            "wharf_sandbox::component::componentise",
        ],
    ),
    (
        "serve",
        &[
            "image",
            "model",
            "batch",
            "container",
            "service",
            "runtime",
            "ingress",
            "oip",
            "control",
            "wharf_vision",
            "wharf_sandbox",
            "wharf_tensor",
            "error",
            "metrics",
        ],
    ),
];

/// The crates beside `host/src`, and which of ours each may use.
const CRATES: &[(&str, &[&str])] = &[
    ("host/tensor/src", &[]),
    ("host/vision/src", &["wharf_tensor"]),
    ("host/sandbox/src", &["wharf_tensor", "wharf_vision"]),
];
const OUR_CRATES: &[&str] = &["wharf_tensor", "wharf_vision", "wharf_sandbox"];

/// A library, and the only places of the host that may name it.
const OWNERS: &[(&str, &[&str])] = &[
    ("ort", &["host/src/model/"]),
    ("wasmtime", &["host/sandbox/src/"]),
    ("wasmtime_wasi", &["host/sandbox/src/"]),
    ("wasmtime_wasi_http", &["host/sandbox/src/"]),
    ("clap", &["host/src/cli/"]),
    ("axum", &["host/src/ingress/", "host/src/oip/", "host/src/control/", "host/src/serve/"]),
];

/// The one file that reads environment variables, so that one list shows them all.
const ENVIRONMENT: &str = "host/src/cli/environment.rs";

/// Where all Rust files follow the rules on headers, length and names.
const SOURCES: &[&str] = &["host", "guest-sdk", "bench", "xtask", "examples"];

const LONGEST_FILE: usize = 600;
const LONGEST_ARCHITECTURE: usize = 150;

/// Names that say nothing of what is inside, so that everything ends up there.
const EMPTY_NAMES: &[&str] =
    &["util", "utils", "helper", "helpers", "common", "misc", "manager", "core", "base", "data", "process", "stuff"];

/// Folders on the machine of whoever wrote the file.
const MACHINE_PATHS: &[&str] = &["/root/", "/work/", "/tmp/", "/home/"];
const TEXT: &[&str] = &["rs", "toml", "wit", "md", "sh", "py", "yml", "yaml", "html", "wat"];

#[test]
fn rooms_import_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for file in rust_files(&["host/src"]) {
        let Some(room) = room(&file) else { continue };
        let Some((_, allowed)) = ROOMS.iter().find(|(known, _)| *known == room) else {
            wrong.push(format!("{file}: `{room}` is not in ROOMS: add it there and to ARCHITECTURE.md's table"));
            continue;
        };
        for path in imports(&code(&file)) {
            // A macro or type at the crate's root is no room.
            let known = ROOMS.iter().any(|(name, _)| first(&path) == *name) || OUR_CRATES.contains(&first(&path));
            if known && first(&path) != room && !allowed.iter().any(|door| opens(door, &path)) {
                wrong.push(format!(
                    "{file}: `{room}` may not use `{path}`. It may use: {}. Pass what is needed in from outside, or \
                     move the code to the room that may",
                    list(allowed)
                ));
            }
        }
    }
    report(wrong);
}

#[test]
fn crates_import_only_what_the_table_allows() {
    let mut wrong = Vec::new();
    for (folder, allowed) in CRATES {
        for file in rust_files(&[folder]) {
            let paths = imports(&code(&file));
            let ours = paths.iter().filter(|path| OUR_CRATES.contains(&first(path)));
            for path in ours.filter(|path| !allowed.contains(&first(path))) {
                wrong.push(format!(
                    "{file}: {folder} may not use `{path}`. Of our crates it may use: {}",
                    list(allowed)
                ));
            }
        }
    }
    report(wrong);
}

#[test]
fn no_room_is_reached_by_climbing() {
    let climbing = |file: &String| code(file).contains("super::super::");
    let wrong = rust_files(&["host/src"]).into_iter().filter(climbing);
    report(
        wrong
            .map(|file| format!("{file}: write `crate::room::…` for `super::super::…`: the table is checked by it"))
            .collect(),
    );
}

#[test]
fn libraries_are_named_only_by_their_owner() {
    let mut wrong = Vec::new();
    for file in rust_files(&["host/src", "host/tensor/src", "host/vision/src", "host/sandbox/src"]) {
        let code = code(&file);
        for (library, owners) in OWNERS {
            if names(&code, library) && !owners.iter().any(|owner| file.starts_with(owner)) {
                wrong.push(format!(
                    "{file}: `{library}` may be named only in {}: ask that room for what you need",
                    list(owners)
                ));
            }
        }
    }
    report(wrong);
}

#[test]
fn environment_variables_are_read_in_one_place() {
    let mut wrong = Vec::new();
    for file in rust_files(&["host/src", "host/tensor/src", "host/vision/src", "host/sandbox/src"]) {
        let reads = ["env::var(", "env::var_os(", "env::vars(", "env::vars_os("];
        if file != ENVIRONMENT && !is_test(&file) && reads.iter().any(|read| without_tests(&code(&file)).contains(read))
        {
            wrong.push(format!("{file}: read the variable in {ENVIRONMENT} and pass its value here"));
        }
    }
    report(wrong);
}

#[test]
fn files_stay_readable() {
    let mut wrong = Vec::new();
    for file in rust_files(SOURCES) {
        let lines = read(&file).lines().count();
        if lines > LONGEST_FILE {
            wrong.push(format!("{file}: {lines} lines, {LONGEST_FILE} at most: split it by what its parts are for"));
        }
    }
    report(wrong);
}

#[test]
fn every_file_says_what_it_is_for() {
    // Sources of the compile-error tests: what they show is pinned with its line numbers.
    let files = rust_files(SOURCES).into_iter().filter(|file| !file.contains("/tests/ui/"));
    let silent = files.filter(|file| !read(file).starts_with("//! "));
    report(silent.map(|file| format!("{file}: begin it with `//! ` and what it is for")).collect());
}

#[test]
fn names_say_something() {
    let mut wrong = Vec::new();
    for file in rust_files(SOURCES) {
        for part in file.split('/') {
            if EMPTY_NAMES.contains(&part.trim_end_matches(".rs")) {
                wrong.push(format!("{file}: `{part}` says nothing: name it after what it holds"));
            }
        }
        for line in code(&file).lines() {
            let line = line.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            let module = line.strip_prefix("mod ").map(|name| name.trim_end_matches([' ', '{', ';', '}']));
            if let Some(module) = module.filter(|name| EMPTY_NAMES.contains(name)) {
                wrong.push(format!("{file}: `mod {module}` says nothing: name it after what it holds"));
            }
        }
    }
    report(wrong);
}

#[test]
fn no_file_names_somebodys_machine() {
    let mut wrong = Vec::new();
    for file in files(&[""]) {
        let is_text = extension(&file).is_some_and(|extension| TEXT.contains(&extension)) || file == ".ci/run";
        if !is_text || is_test(&file) {
            continue;
        }
        let text = read(&file);
        for (number, line) in without_tests(&text).lines().enumerate() {
            for path in MACHINE_PATHS.iter().filter(|path| line.contains(*path)) {
                let number = number + 1;
                wrong.push(format!(
                    "{file}:{number}: `{path}` exists on one machine only: write it relative, or ask the environment"
                ));
            }
        }
    }
    report(wrong);
}

#[test]
fn the_map_is_true() {
    let Ok(map) = fs::read_to_string(root().join("ARCHITECTURE.md")) else {
        panic!("ARCHITECTURE.md does not exist: it is the map of the rooms");
    };
    let mut wrong = Vec::new();
    let lines = map.lines().count();
    if lines > LONGEST_ARCHITECTURE {
        wrong.push(format!(
            "ARCHITECTURE.md: {lines} lines, {LONGEST_ARCHITECTURE} at most: details belong into file headers"
        ));
    }
    let all = files(&[""]);
    for name in map.split('`').skip(1).step_by(2).filter(|name| is_file_name(name)) {
        let planned = ROOMS.iter().any(|(room, _)| name.trim_end_matches('/').trim_start_matches("host/src/") == *room);
        if !planned && !all.iter().any(|file| is_at(file, name)) {
            wrong.push(format!("ARCHITECTURE.md: there is no `{name}`: it was renamed or removed, so correct the map"));
        }
    }
    report(wrong);
}

// ---- reading the tree ----

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("host/ lies in the repository").to_owned()
}

/// All files below `folders`, as paths from the root with `/`, sorted. Build outputs and the like are left out.
fn files(folders: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for folder in folders {
        walk(&root().join(folder), &mut found);
    }
    let root = root();
    let relative = found.iter().map(|path| path.strip_prefix(&root).expect("below the root"));
    let mut names: Vec<String> = relative.map(|path| path.to_string_lossy().replace('\\', "/")).collect();
    names.sort();
    names
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_file() {
            found.push(path);
        } else if !["target", ".git", "__pycache__", ".wharf", ".venv", "venv"].iter().any(|skipped| name == *skipped) {
            walk(&path, found);
        }
    }
}

fn rust_files(folders: &[&str]) -> Vec<String> {
    let files = files(folders);
    files.into_iter().filter(|file| extension(file) == Some("rs")).collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("cannot read {file}: {error}"))
}

fn extension(file: &str) -> Option<&str> {
    Path::new(file).extension()?.to_str()
}

/// A file that only tests use.
fn is_test(file: &str) -> bool {
    file.contains("/tests/") || ["/tests.rs", "/fixture.rs", "/fixtures.rs"].iter().any(|name| file.ends_with(name))
}

/// The text up to its test module, which stands last.
fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |end| &text[..end])
}

/// The text without its comments. Good enough for finding paths: a `//` inside a string ends the line too.
fn code(file: &str) -> String {
    let mut code = String::new();
    for line in read(file).lines() {
        code += line.find("//").map_or(line, |comment| &line[..comment]);
        code.push('\n');
    }
    code
}

/// `model` for `host/src/model/load.rs` and `host/src/model.rs`; `None` for the crate's roots.
fn room(file: &str) -> Option<&str> {
    let inside = file.strip_prefix("host/src/")?;
    let room = inside.split('/').next()?.trim_end_matches(".rs");
    (!["lib", "main"].contains(&room)).then_some(room)
}

// ---- reading paths ----

/// Every path that starts at our crate's root or at a crate of ours, groups taken apart: `use crate::{a::X, b}` gives
/// `a::X` and `b`; `wharf_tensor::Tensor` stays whole.
fn imports(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (start, _) in code.match_indices("crate::") {
        if is_word_start(code, start) {
            expand("", &code[start + "crate::".len()..], &mut paths);
        }
    }
    for ours in OUR_CRATES {
        for (start, _) in code.match_indices(ours) {
            if is_word_start(code, start) && code[start + ours.len()..].starts_with("::") {
                expand("", &code[start..], &mut paths);
            }
        }
    }
    paths.sort();
    paths.dedup();
    paths
}

/// Takes one path, or a group of them, from the start of `text`; gives back what follows it.
fn expand<'a>(prefix: &str, text: &'a str, paths: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut group) = text.strip_prefix('{') {
        loop {
            group = group.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
            if group.is_empty() || group.starts_with('}') {
                return group.strip_prefix('}').unwrap_or(group);
            }
            let rest = expand(prefix, group, paths);
            // Not an import after all, e.g. a block in a macro: leave it.
            if rest.len() == group.len() {
                return rest;
            }
            group = rest;
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if word.is_empty() {
        return rest;
    }
    let path = if prefix.is_empty() { word.to_owned() } else { format!("{prefix}::{word}") };
    match rest.strip_prefix("::") {
        Some(more) if more.starts_with(|c: char| c == '{' || c == '_' || c.is_alphanumeric()) => {
            expand(&path, more, paths)
        }
        _ => {
            paths.push(path);
            // `as Name` belongs to the path.
            rest.trim_start().strip_prefix("as ").map_or(rest, |alias| {
                let alias = alias.trim_start();
                &alias[alias.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(alias.len())..]
            })
        }
    }
}

fn is_word_start(code: &str, start: usize) -> bool {
    !code[..start].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | ':'))
}

/// Whether `library::` or `use library` stands in the code.
fn names(code: &str, library: &str) -> bool {
    code.match_indices(library).any(|(start, _)| {
        let rest = &code[start + library.len()..];
        is_word_start(code, start)
            && (rest.starts_with("::") || (code[..start].ends_with("use ") && rest.starts_with(';')))
    })
}

fn first(path: &str) -> &str {
    path.split("::").next().unwrap_or(path)
}

/// Whether an entry of the table allows a path: the same, or the start of it.
fn opens(door: &str, path: &str) -> bool {
    path.strip_prefix(door).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Whether words in backquotes claim to be a file or a folder of the tree.
fn is_file_name(name: &str) -> bool {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'));
    let ending =
        name.ends_with('/') || extension(name).is_some_and(|ending| ["rs", "md", "toml", "wit"].contains(&ending));
    plain && ending && !name.starts_with('/') && !name.starts_with('.')
}

/// Whether `file` is, or lies in, what `name` means: a path from the root, or the end of one.
fn is_at(file: &str, name: &str) -> bool {
    let (file, name) = (format!("/{file}"), format!("/{name}"));
    if name.ends_with('/') { file.contains(&name) } else { file.ends_with(&name) }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nothing of ours".to_owned() } else { names.join(", ") }
}

fn report(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n\n{}\n", wrong.join("\n"));
}

// ---- the reader itself ----

#[test]
fn paths_are_taken_apart() {
    let code =
        "use crate::{error::{Error, Result as R}, model};\nuse wharf_tensor::Tensor;\nlet a = crate::batch::run(x);\n";
    let code = format!(
        "{code}macro_rules! m {{ () => {{ $crate::oip::x() }} }}\nuse crate::serve::{{\n    config::Config,\n}};"
    );
    assert_eq!(
        imports(&code),
        ["batch::run", "error::Error", "error::Result", "model", "serve::config::Config", "wharf_tensor::Tensor"]
    );
}

#[test]
fn a_door_opens_for_its_item_only() {
    assert!(opens("ingress", "ingress::Limits") && opens("ingress::Limits", "ingress::Limits::default"));
    assert!(!opens("ingress::Limits", "ingress::port") && !opens("ingress::Limits", "ingress::LimitsOfOthers"));
}

#[test]
fn a_library_is_not_found_inside_other_words() {
    assert!(names("use ort::Session;", "ort") && names("use axum;", "axum"));
    assert!(!names("support::x(); wasmtime_wasi::y()", "ort") && !names("wasmtime_wasi::y()", "wasmtime"));
}

#[test]
fn file_names_are_told_from_other_words() {
    assert!(is_file_name("host/sandbox/src/linker.rs") && is_file_name("model/") && is_file_name("README.md"));
    assert!(!is_file_name("/metrics") && !is_file_name("wasi:http") && !is_file_name("models/<name>/"));
    assert!(is_at("host/src/model/mod.rs", "model/") && !is_at("host/src/remodel/mod.rs", "model/"));
}
