//! The command line as people and scripts see it: help, mistakes, exit codes, completions.
//!
//! Help is pinned in `golden/`. After a change on purpose, write it anew with `WHARF_BLESS=1 cargo test --test
//! command_line` and read the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::golden;
use support::guests::{example, library};
use support::host::{Ended, Scratch, WHARF, run};

/// The program with nothing of the caller's environment that it reads.
fn wharf(arguments: &[&str]) -> Command {
    let mut command = Command::new(WHARF);
    command.args(arguments).env_remove("ORT_DYLIB_PATH").env_remove("WHARF_LOG").env_remove("WHARF_LOG_TO");
    // Help is as wide as the terminal; there is none here.
    command.env_remove("COLUMNS");
    command
}

#[track_caller]
fn ends(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is not in:\n{}", ended.stderr);
    }
}

#[test]
fn help_is_as_it_was() {
    for verb in ["", "serve", "health", "doctor", "engine", "componentize", "new", "completion"] {
        let arguments: Vec<&str> = [verb, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        let ended = run(&mut wharf(&arguments));
        ends(&ended, 0, &[]);
        golden::matches(&format!("help{}{verb}.txt", if verb.is_empty() { "" } else { "-" }), &ended.stdout);
    }
}

#[test]
fn of_a_flag_given_twice_the_last_counts() {
    let scratch = Scratch::new();
    let file = scratch.file("compose.yml", b"services: {a: {image: x}}\n");
    let file = file.to_str().unwrap();
    let typed =
        ["compose", "-p", "first", "-p", "second", "-f", file, "config", "--format", "yaml", "--format", "json"];
    let ended = run(&mut wharf(&typed));
    ends(&ended, 0, &[]);
    assert!(ended.stdout.contains(r#""name": "second""#), "{ended:?}");
    // What may be repeated still adds up: the later file lies over the earlier.
    let over = scratch.file("over.yml", b"services: {b: {image: y}}\n");
    let ended = run(&mut wharf(&["compose", "-f", file, "-f", over.to_str().unwrap(), "config", "--services"]));
    assert_eq!(ended.stdout, "a\nb\n", "{ended:?}");
    let ended = run(&mut wharf(&["-H", "unix:///nowhere", "ps", "-H", "unix:///elsewhere", "-q", "-q"]));
    ends(&ended, 1, &["/elsewhere"]);
}

#[test]
fn the_version_is_the_packages() {
    let ended = run(&mut wharf(&["--version"]));
    assert_eq!((ended.code, ended.stdout), (Some(0), format!("wharf {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn no_verb_and_no_target_ask_for_one() {
    ends(&run(&mut wharf(&[])), 2, &["Usage: wharf", "serve", "doctor"]);
    ends(&run(&mut wharf(&["run"])), 1, &["<IMAGE>"]);
    ends(&run(&mut wharf(&["dock"])), 1, &["unrecognized subcommand 'dock'"]);
}

#[test]
fn mistakes_name_the_flag_and_the_way_out() {
    let hello = example("hello");
    let hello = hello.to_str().unwrap();
    let cases: [(&[&str], &[&str]); 12] = [
        (&["--memory", "5x"], &["--memory", "\"x\" is no unit of size; use b, k, m or g, e.g. 256m"]),
        (&["--memory", "m"], &["--memory", "\"\" is no number; e.g. 256m"]),
        (&["--timeout", "5 parsecs"], &["--timeout", "is no unit of time; use ms, s, m or h, e.g. 30s"]),
        (&["--timeout", "0"], &["--timeout", "a limit of no time at all answers nothing"]),
        (&["-p", "70000"], &["--publish", "\"70000\" is no port (0 to 65535)", "e.g. 127.0.0.1:5000:5000"]),
        (&["-p", "1.2.3:5000:5000"], &["--publish", "\"1.2.3\" is no IP address"]),
        (&["-v", "data"], &["--volume", "write HOST:GUEST or HOST:GUEST:ro"]),
        (&["-v", "here:there"], &["--volume", "the guest's path \"there\" must start with /"]),
        (&["-m", "digits"], &["--model", "write NAME=FILE, e.g. digits=models/digits.onnx"]),
        (&["--instance-max-requests", "0"], &["--instance-max-requests", "0 is not in 1.."]),
        (&["--http", "8000"], &["--http", "invalid socket address"]),
        (&["--services", "srv"], &["--services <DIR>", "cannot be used with", "[TARGET]..."]),
    ];
    for (flags, words) in cases {
        ends(&run(wharf(&["serve", hello]).args(flags)), 2, words);
    }
    let names = ["--name", "a", "--name", "b"];
    let words = ["2 --name for 1 targets: the n-th --name belongs to the n-th target"];
    ends(&run(wharf(&["serve", hello]).args(names)), 2, &words);
    ends(&run(&mut wharf(&["serve", hello, "--log-level", "=="])), 2, &["log level \"==\" is no filter; e.g. info"]);
}

#[test]
fn componentize_says_what_it_cannot_take() {
    let scratch = Scratch::new();
    let output = scratch.0.join("out.wasm");
    let output = output.to_str().unwrap();
    let text = scratch.file("text.wasm", b"hello");
    let words = ["text.wasm cannot become a component: not WebAssembly: it starts with \"hell\""];
    ends(&run(&mut wharf(&["componentize", text.to_str().unwrap(), "-o", output])), 2, &words);
    ends(&run(&mut wharf(&["componentize", "nowhere.wasm", "-o", output])), 1, &["cannot read nowhere.wasm"]);
    assert!(!Path::new(output).exists());
}

// ---- ONNX Runtime, found or not ----

#[test]
fn doctor_is_content_where_the_main_job_can_run() {
    let scratch = Scratch::new();
    let mut command = wharf(&["doctor", "--data"]);
    let ended = run(command.arg(&scratch.0).env("ORT_DYLIB_PATH", library()));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.ends_with("This machine can serve.\n"), "{}", ended.stdout);
    for line in ["ok  host ", "ok  sandbox ", "ok  onnxruntime ", "ok  device cpu ", "ok  cache ", "cores "] {
        assert!(ended.stdout.contains(line), "{line:?} is not in:\n{}", ended.stdout);
    }
    assert!(ended.stdout.contains(library().file_name().unwrap().to_str().unwrap()), "{}", ended.stdout);
}

#[test]
fn engines_are_listed_and_what_is_none_is_refused() {
    let scratch = Scratch::new();
    let ask = |words: &[&str]| run(wharf(words).arg("--data").arg(&scratch.0));
    let ended = ask(&["engine", "ls"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "MODEL     GPU       VERSIONS   OPTIONS   SIZE\n"),
        "{ended:?}"
    );
    ends(&ask(&["engine", "export", "0a"]), 1, &["no engine of \"0a\" in ", "--device tensorrt"]);
    let file = scratch.0.join("digits.engine");
    fs::write(&file, "no archive").unwrap();
    ends(&ask(&["engine", "import", file.to_str().unwrap()]), 2, &["engine"]);
}

#[test]
fn doctor_speaks_json() {
    let scratch = Scratch::new();
    let mut command = wharf(&["doctor", "--format", "json", "--data"]);
    let ended = run(command.arg(&scratch.0).env("ORT_DYLIB_PATH", library()));
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let of = |name: &str| findings.iter().find(|finding| finding["name"] == name).unwrap();
    assert_eq!((&of("onnxruntime")["usable"], &of("onnxruntime")["required"]), (&true.into(), &true.into()));
    assert_eq!(of("device cuda")["required"], false);
}

/// Where the host looks when nobody names a library. `LD_LIBRARY_PATH` is empty, yet the system may have one.
#[test]
fn without_a_library_doctor_says_where_it_looked() {
    let scratch = Scratch::new();
    let ended = run(wharf(&["doctor", "--data"]).arg(&scratch.0).env("LD_LIBRARY_PATH", ""));
    if ended.code == Some(0) {
        return support::guests::skip("this machine has no ONNX Runtime of its own to be missing: it has one");
    }
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("--  onnxruntime "), "{}", ended.stdout);
    let data = scratch.0.join("lib").display().to_string();
    for place in [Path::new(WHARF).parent().unwrap().to_str().unwrap(), &data, "the system's library path"] {
        assert!(ended.stdout.contains(place), "{place} is not in:\n{}", ended.stdout);
    }
    assert!(ended.stdout.contains("fetch it with `cargo xtask onnxruntime`"), "{}", ended.stdout);
    assert!(ended.stdout.ends_with("This machine cannot serve yet: see the lines with --.\n"), "{}", ended.stdout);
}

#[test]
fn a_library_that_is_none_is_named() {
    let hello = example("hello");
    let hello = hello.to_str().unwrap();
    let scratch = Scratch::new();
    let text = scratch.file("libonnxruntime.so", b"no library at all");
    let text = text.to_str().unwrap();
    let flag = run(&mut wharf(&["serve", hello, "--http", "127.0.0.1:0", "--onnxruntime", text]));
    ends(&flag, 125, &["ONNX Runtime's library", "the given path", text, "cargo xtask onnxruntime"]);
    let variable = run(wharf(&["serve", hello, "--http", "127.0.0.1:0"]).env("ORT_DYLIB_PATH", "/nowhere/lib.so"));
    ends(&variable, 125, &["ORT_DYLIB_PATH (/nowhere/lib.so)"]);
    let doctor = run(&mut wharf(&["doctor", "--onnxruntime", text]));
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.stdout.contains(text), "{}", doctor.stdout);
}

#[test]
fn a_library_in_the_data_folder_is_found() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.0.join("lib")).unwrap();
    std::os::unix::fs::symlink(library(), scratch.0.join("lib/libonnxruntime.so.1.31.1")).unwrap();
    let ended = run(wharf(&["doctor"]).env("WHARF_DATA", &scratch.0));
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// A real shared library that answers as ONNX Runtime 1.10 does: its name, and no API as new as ours.
fn too_old(scratch: &Scratch, name: &str) -> PathBuf {
    let source = scratch.file("too_old.c", TOO_OLD.as_bytes());
    let library = scratch.file(name, b"");
    let compiled = run(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source));
    assert_eq!(compiled.code, Some(0), "{}", compiled.stderr);
    library
}

const TOO_OLD: &str = r#"
struct base { const void *(*get_api)(unsigned version); const char *(*get_version)(void); };
static const void *get_api(unsigned version) { return version > 10 ? 0 : "its functions"; }
static const char *get_version(void) { return "1.10.0"; }
static const struct base base = { get_api, get_version };
const struct base *OrtGetApiBase(void) { return &base; }
"#;

#[test]
fn a_library_that_is_too_old_is_named_with_its_version() {
    let scratch = Scratch::new();
    let library = too_old(&scratch, "libonnxruntime.so.1.10.0");
    let library = library.to_str().unwrap();
    let reason = format!("{library} is too old: it is version 1.10.0, 1.");
    let words = [&reason, " or newer is needed", "fetch it with `cargo xtask onnxruntime`", "the given path"];
    let hello = example("hello");
    let serve = ["serve", hello.to_str().unwrap(), "--http", "127.0.0.1:0", "--onnxruntime", library];
    ends(&run(&mut wharf(&serve)), 125, &words);

    let doctor = run(&mut wharf(&["doctor", "--onnxruntime", library]));
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    for word in words {
        assert!(doctor.stdout.contains(word), "{word:?} is not in:\n{}", doctor.stdout);
    }
}

#[test]
fn a_library_that_is_too_old_does_not_hide_a_good_one() {
    let scratch = Scratch::new();
    // Its name promises the highest version, so that it is tried first.
    too_old(&scratch, "lib/libonnxruntime.so.1.99.0");
    std::os::unix::fs::symlink(library(), scratch.0.join("lib/libonnxruntime.so.1.31.1")).unwrap();
    let ended = run(wharf(&["doctor"]).env("WHARF_DATA", &scratch.0));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains(library().file_name().unwrap().to_str().unwrap()), "{}", ended.stdout);
}

// ---- completions ----

#[test]
fn completions_for_every_shell() {
    for (shell, word) in [("bash", "_wharf()"), ("zsh", "#compdef wharf"), ("fish", "complete -c wharf")] {
        let ended = run(&mut wharf(&["completion", shell]));
        ends(&ended, 0, &[]);
        assert!(ended.stdout.contains(word), "{shell}:\n{}", ended.stdout);
    }
}

#[test]
fn bash_completes_a_verb() {
    let script = format!(
        "source <({WHARF} completion bash) && COMP_WORDS=(wharf se) && COMP_CWORD=1 && _wharf wharf se wharf && \
         echo \"${{COMPREPLY[@]}}\""
    );
    let ended = run(Command::new("bash").args(["--norc", "-c", &script]));
    assert_eq!((ended.code, ended.stdout.trim()), (Some(0), "serve"), "{ended:?}");
}

#[test]
fn every_verb_has_a_manual_page() {
    let scratch = Scratch::new();
    let folder = scratch.0.join("man1");
    ends(&run(&mut wharf(&["manual", folder.to_str().unwrap()])), 0, &[]);
    for (page, words) in [("wharf.1", ".SH"), ("wharf-serve.1", "TARGET"), ("wharf-container-ls.1", "quiet")] {
        let text = std::fs::read_to_string(folder.join(page)).unwrap();
        assert!(text.contains(words), "{page}:\n{text}");
    }
    let help = run(&mut wharf(&["--help"]));
    assert!(!help.stdout.contains("manual"), "packages use it, people do not: {}", help.stdout);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let ended =
        run(Command::new("sh").args(["-c", &format!("{WHARF} doctor | head -c 1; {WHARF} --help | head -c 1")]));
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let mistake = run(&mut wharf(&["ps", "-H", "/nowhere.sock"]));
    assert!(mistake.stderr.starts_with("wharf: cannot connect"), "no terminal: {mistake:?}");
    let on_terminal = |name: &str, value: &str| {
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{WHARF} ps -H /nowhere.sock"), "/dev/null"]);
        run(command.env("TERM", "xterm").env_remove("NO_COLOR").env(name, value)).stdout
    };
    if !Command::new("script").arg("--version").output().is_ok_and(|shown| shown.status.success()) {
        support::guests::skip("no `script` of util-linux to make a terminal with");
        return;
    }
    assert!(on_terminal("TERM", "xterm").starts_with("\x1b[1;31mwharf:\x1b[0m cannot connect"));
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let plain = on_terminal(name, value);
        assert!(plain.starts_with("wharf: cannot connect"), "{name}: {plain:?}");
    }
}
