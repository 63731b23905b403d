//! The manual in `docs/` is true: its commands do what the pages show, its links lead somewhere, every verb has its
//! place, and every quoted error still occurs in the source.
//!
//! A block that opens with ```` ```console run ```` is run, in order with the others of its page, in one shell that
//! stands in a copy of the repository's root. Lines that start with `$ ` are commands, the lines below are all of their
//! output: `…` stands for any text, and alone on a line for any lines. Ids, sizes, times and the widths of columns may
//! differ. A command must succeed, unless the next one is `echo $?`. A block that names a file
//! (```` ```yaml file=NAME ````) is written there first. Ports 5000 to 5999 of the machine stand for free ones,
//! 8000 for the host's own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use regex_lite::Regex;

use support::daemon::{TestDaemon, has_docker};
use support::golden;
use support::guests::{example, library, source};
use support::host::{Scratch, WHARF, run};

/// A fenced block of a page, or the text of a file for its commands.
enum Block {
    Run(Vec<Step>),
    File(String, String),
}

/// A command and what it prints.
struct Step {
    command: String,
    expected: Vec<String>,
}

fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> =
        fs::read_dir(source("docs/src")).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// The blocks that are run or written, in order.
fn blocks(text: &str) -> Vec<Block> {
    let (mut blocks, mut lines) = (Vec::new(), text.lines());
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let body: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        if info == "console run" {
            blocks.push(Block::Run(steps(&body)));
        } else if let Some((_, file)) = info.split_once(" file=") {
            blocks.push(Block::File(file.to_owned(), body.join("\n") + "\n"));
        }
    }
    blocks
}

fn steps(body: &[&str]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in body {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), expected: Vec::new() }),
            (None, Some(step)) if step.command.ends_with('\\') => step.command += &format!("\n{line}"),
            (None, Some(step)) => step.expected.push((*line).to_owned()),
            (None, None) => panic!("a block starts with output: {line}"),
        }
    }
    steps
}

/// Ports as a page names them, and those that stand for them.
struct Ports {
    host: u16,
    free: BTreeMap<String, u16>,
}

impl Ports {
    fn replace(&mut self, text: &str) -> String {
        // A port of the machine: published, or after an address of it.
        let named =
            Regex::new(r#"(-p |- "?|--http |localhost:|\d\.\d:)((?:(?:\d+\.){3}\d+:)?)(5\d\d\d|8000)\b"#).unwrap();
        let replaced = named.replace_all(text, |found: &regex_lite::Captures<'_>| {
            let port = match &found[3] {
                "8000" => self.host,
                port => *self.free.entry(port.to_owned()).or_insert_with(free_port),
            };
            format!("{}{}{port}", &found[1], &found[2])
        });
        replaced.into_owned()
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Run a page; what went otherwise than it says.
fn run_page(text: &str) -> Vec<String> {
    let (daemon, place) = (TestDaemon::start(), Scratch::new());
    let mut ports = Ports { host: daemon.host().http().0.port(), free: BTreeMap::new() };
    fs::create_dir_all(place.0.join("target")).unwrap();
    symlink(example("digits").parent().unwrap(), place.0.join("target/wharf")).unwrap();
    for folder in ["examples", "host", "deploy"] {
        symlink(source(folder), place.0.join(folder)).unwrap();
    }
    let programs = Scratch::new();
    symlink(WHARF, programs.0.join("wharf")).unwrap();

    let (mut script, mut all) = (String::from("trap 'kill $(jobs -p) 2>/dev/null' EXIT\n(exit 0)\n"), Vec::new());
    for block in blocks(text) {
        match block {
            Block::File(file, body) => {
                let path = place.0.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, ports.replace(&body)).unwrap();
            }
            Block::Run(steps) => {
                for step in steps {
                    let (number, command) = (all.len(), ports.replace(&step.command));
                    script += &format!("{{ {command}\n}} >{0}/{number}.out 2>&1\n", programs.0.display());
                    script +=
                        &format!("status=$?; echo $status >{0}/{number}.code; (exit $status)\n", programs.0.display());
                    all.push(step);
                }
            }
        }
    }
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).current_dir(&place.0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let path = std::env::var("PATH").unwrap_or_default();
    shell.env("PATH", format!("{}:{path}", programs.0.display())).env("ORT_DYLIB_PATH", library());
    shell.env("WHARF_DATA", &daemon.data.0).env("DOCKER_HOST", format!("unix://{}", daemon.socket().display()));
    shell.env("DOCKER_CONFIG", daemon.data.0.join("docker-config")).env("DOCKER_BUILDKIT", "0").env("COLUMNS", "200");
    shell.status().unwrap();
    judge(&all, &programs.0, &mut ports)
}

fn judge(steps: &[Step], results: &Path, ports: &mut Ports) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let read = |kind: &str| fs::read_to_string(results.join(format!("{number}.{kind}"))).unwrap_or_default();
        let (seen, code) = (read("out"), read("code"));
        let may_fail = steps.get(number + 1).is_some_and(|next| next.command == "echo $?");
        if code.trim() != "0" && !may_fail {
            wrong.push(format!("$ {}\nended with {:?}:\n{seen}", step.command, code.trim()));
        } else if !alike(&ports.replace(&step.expected.join("\n")), &seen) {
            let expected = step.expected.join("\n");
            wrong.push(format!("$ {}\nprints\n{seen}\nand the page says\n{expected}\n", step.command));
        }
    }
    wrong
}

/// Whether a command printed what a page shows.
fn alike(expected: &str, seen: &str) -> bool {
    let lines = |text: &str| {
        let cut_ids = Regex::new(r"\b[0-9a-f]{6,}…").unwrap().replace_all(text, "…").into_owned();
        let spaces = Regex::new(r"[ \t\r]+").unwrap();
        let lines =
            golden::masked(&cut_ids).lines().map(|line| spaces.replace_all(line.trim(), " ").into_owned()).collect();
        let mut lines: Vec<String> = lines;
        lines.retain(|line| !line.is_empty());
        lines
    };
    lines_match(&lines(expected), &lines(seen))
}

fn lines_match(expected: &[String], seen: &[String]) -> bool {
    match (expected.split_first(), seen.split_first()) {
        (None, _) => seen.is_empty(),
        (Some((first, rest)), _) if first == "…" => {
            (0..=seen.len()).any(|skipped| lines_match(rest, &seen[skipped..]))
        }
        (Some((first, rest)), Some((line, others))) => line_matches(first, line) && lines_match(rest, others),
        (Some(_), None) => false,
    }
}

fn line_matches(expected: &str, seen: &str) -> bool {
    let pattern: Vec<String> = expected.split('…').map(regex_lite::escape).collect();
    Regex::new(&format!("^{}$", pattern.join(".*"))).unwrap().is_match(seen)
}

#[test]
fn the_commands_do_what_the_pages_show() {
    if !has_docker() {
        return;
    }
    let texts = pages().into_iter().map(|path| (name(&path), fs::read_to_string(&path).unwrap()));
    let only = std::env::var("WHARF_PAGE").ok();
    let queue: Vec<_> = texts
        .filter(|(name, text)| {
            only.as_ref().is_none_or(|only| only == name)
                && blocks(text).iter().any(|block| matches!(block, Block::Run(_)))
        })
        .collect();
    assert!(only.is_some() || queue.len() >= 15, "only {} pages have commands that are run", queue.len());
    let (queue, wrong) = (Mutex::new(queue), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((name, text)) = queue.lock().unwrap().pop() else { return };
                    let found = run_page(&text).into_iter().map(|what| format!("{name}: {what}"));
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_a_page_shows_is_compared_with_care() {
    for (expected, seen, same) in [
        ("a  b\n", "a b", true),
        ("a\n…\nd", "a\nb\nc\nd", true),
        ("a\n…\nd", "a\nd", true),
        ("a\n…\nd", "a\nb", false),
        ("id 0123456789ab", "id ffffffffffff", true),
        ("3f9c2a…", "ab", true),
        ("\"digit\":7,…", "\"digit\":3,\"x\"", false),
        ("", "something", false),
        ("something", "", false),
        ("Up 3 seconds", "Up Less than a second", true),
        ("a.c", "abc", false),
    ] {
        assert_eq!(alike(expected, seen), same, "{expected:?} {seen:?}");
    }
}

/// Markdown files of the repository, without what was built or fetched.
fn markdown(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let hidden = name(&path).starts_with('.') || ["target", "node_modules"].contains(&name(&path).as_str());
        if path.is_symlink() || hidden {
            continue;
        }
        if path.is_dir() {
            markdown(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// The text without fenced blocks and without code in lines.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            kept += line;
            kept.push('\n');
        }
    }
    kept
}

/// The anchors of a page's headings, as mdBook and code forges make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let slug = |heading: &str| {
        let kept =
            heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
        kept.replace(' ', "-")
    };
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings.map(slug).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut files = Vec::new();
    markdown(&source(""), &mut files);
    assert!(files.len() > 20, "{files:?}");
    let code = Regex::new("`[^`\n]*`").unwrap();
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let (mut dead, mut seen) = (Vec::new(), 0);
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let prose = prose(&text);
        for target in link.captures_iter(&code.replace_all(&prose, "code")).map(|found| found[1].to_owned()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (path, anchor) = target.split_once('#').map_or((target.as_str(), None), |(path, at)| (path, Some(at)));
            let there = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            let found = match anchor {
                None => there.exists(),
                Some(anchor) => fs::read_to_string(&there).is_ok_and(|text| anchors(&text).contains(anchor)),
            };
            if !found {
                dead.push(format!("{}: {target}", file.display()));
            }
        }
    }
    assert!(dead.is_empty() && seen > 50, "{seen} links, of which dead:\n{}", dead.join("\n"));
}

#[test]
fn every_page_is_in_the_summary() {
    let summary = fs::read_to_string(source("docs/src/SUMMARY.md")).unwrap();
    for page in pages() {
        let name = name(&page);
        assert!(name == "SUMMARY.md" || summary.contains(&format!("({name})")), "{name} is not in SUMMARY.md");
    }
}

/// The verbs that `wharf … --help` lists.
fn verbs(group: &[&str]) -> Vec<String> {
    let help = run(Command::new(WHARF).args(group).arg("--help")).stdout;
    let verb = Regex::new(r"^  ([a-z][a-z-]*)( |$)").unwrap();
    let (mut verbs, mut listing) = (Vec::new(), false);
    for line in help.lines() {
        if !line.starts_with(' ') && !line.is_empty() {
            listing = line.ends_with("ommands:");
        }
        if let (true, Some(found)) = (listing, verb.captures(line)) {
            verbs.push(found[1].to_owned());
        }
    }
    verbs.retain(|verb| verb != "help");
    verbs
}

#[test]
fn every_verb_has_a_place() {
    let text: String = pages().iter().map(|page| fs::read_to_string(page).unwrap()).collect();
    let top = verbs(&[]);
    assert!(top.len() > 40, "{top:?}");
    let mut all = top.clone();
    for group in ["container", "builder", "image", "network", "volume", "system", "engine", "compose"] {
        let inner = verbs(&[group]);
        assert!(!inner.is_empty(), "{group} has no verbs");
        all.extend(inner.iter().map(|verb| format!("{group} {verb}")));
    }
    let words = |verb: &str| Regex::new(&format!(r"(wharf|docker) {verb}\b")).unwrap().is_match(&text);
    let missing: Vec<_> = all.iter().filter(|verb| !words(verb)).collect();
    assert!(missing.is_empty(), "no page has an example of: {missing:?}");
}

/// The text of every Rust and Python file of ours, by path, with broken strings joined.
fn sources(folder: &Path, found: &mut Vec<String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() && name(&path) != "target" && name(&path) != "tests" {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let joined =
                Regex::new(r"\\\n\s*").unwrap().replace_all(&fs::read_to_string(&path).unwrap(), "").into_owned();
            found.push(joined.replace("\\\"", "\""));
        }
    }
}

/// In `troubleshooting.md` each heading of the third rank quotes an error, with `…` for what varies.
#[test]
fn quoted_errors_occur_in_the_source() {
    let mut files = Vec::new();
    for folder in ["host", "guest-sdk", "xtask"] {
        sources(&source(folder), &mut files);
    }
    let page = fs::read_to_string(source("docs/src/troubleshooting.md")).unwrap();
    let headings = page.lines().filter_map(|line| line.strip_prefix("### "));
    let quoted: Vec<&str> = headings.map(|text| text.trim_matches(['`', ' '])).collect();
    assert!(quoted.len() >= 20, "{}", quoted.len());
    for text in quoted {
        let parts: Vec<&str> = text.split('…').map(str::trim).filter(|part| part.len() > 2).collect();
        assert!(parts.iter().any(|part| part.len() >= 10), "too little of it is fixed: {text}");
        let occurs = files.iter().any(|file| parts.iter().all(|part| file.contains(part)));
        assert!(occurs, "no source says: {text}");
    }
}

#[test]
fn the_limits_are_the_flags_defaults() {
    let page = fs::read_to_string(source("docs/src/limits.md")).unwrap();
    let help = run(Command::new(WHARF).args(["serve", "--help"])).stdout;
    let (flag, unit) = (Regex::new(r"`(--[a-z-]+)`").unwrap(), Regex::new(r"[^0-9A-Za-z]").unwrap());
    let mut compared = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && line.contains("`--")) {
        let (cells, flag) = (row.split('|').map(str::trim).collect::<Vec<_>>(), &flag.captures(row).unwrap()[1]);
        let (_, about) = help.split_once(&format!("{flag} <")).unwrap_or_else(|| panic!("no flag {flag}"));
        let default = about.split_once("[default: ").unwrap().1.split_once(']').unwrap().0;
        // `64 MiB` is written `64m`, `10 s` is `10s`.
        let shown = unit.replace_all(cells[2], "").replace("MiB", "m").replace("GiB", "g");
        // `1, or what the image says`
        assert_eq!(Some(shown.as_str()), default.split(',').next(), "{flag}");
        compared += 1;
    }
    assert!(compared >= 9, "{compared}");
}
