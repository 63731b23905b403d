//! A job: it runs once and ends with an exit code. Without arguments it shows what surrounds it; else its first
//! argument says what to do.
//!
//! | arguments | what it does |
//! |---|---|
//! | | prints its arguments, its working folder and its variables, sorted |
//! | `echo WORD…`, `warn WORD…` | prints the words, `warn` to standard error |
//! | `env NAME` | prints a variable; 1 if it is not set |
//! | `cat PATH…`, `cat` | prints files, or what comes from standard input |
//! | `write PATH WORD…` | writes the words and a line break, in place of what was there |
//! | `copy FROM TO` | copies a file |
//! | `ls PATH` | prints the names in a folder, sorted; those of folders end in `/` |
//! | `lines COUNT` | prints `line 1` to `line COUNT` |
//! | `sleep MILLISECONDS` | waits, then prints `slept` |
//! | `exit CODE` | ends with that code, 0 to 255 |
//! | `trap`, `spin`, `fill` | traps, never ends, takes memory without end |
//!
//! What fails is said on standard error, `job: …`, and ends with 1; what makes no sense ends with 2.

mod files;
mod streams;

/// Generated: what a command may import, and `run`, which it exports.
#[allow(missing_docs, clippy::all)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../../../guest-sdk/wit",
        inline: "
            package fixture:job;
            world job {
                import wasi:cli/environment@0.2.12;
                import wasi:cli/exit@0.2.12;
                import wasi:cli/stdin@0.2.12;
                import wasi:cli/stdout@0.2.12;
                import wasi:cli/stderr@0.2.12;
                import wasi:clocks/monotonic-clock@0.2.12;
                import wasi:filesystem/preopens@0.2.12;
                import wasi:filesystem/types@0.2.12;
                import wasi:io/streams@0.2.12;
                export wasi:cli/run@0.2.12;
            }
        ",
        world: "fixture:job/job",
        generate_all,
    });
}

use bindings::wasi::cli::{environment, exit, stderr, stdin, stdout};
use bindings::wasi::clocks::monotonic_clock;

struct Job;

bindings::export!(Job with_types_in bindings);

/// What makes no sense, as in other tools.
const USAGE: u8 = 2;
const PAGE: usize = 1 << 16;

impl bindings::exports::wasi::cli::run::Guest for Job {
    fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
        let done = match words.as_slice() {
            [] => show(&arguments),
            ["echo", words @ ..] => print(&(words.join(" ") + "\n")),
            ["warn", words @ ..] => streams::write(&stderr::get_stderr(), (words.join(" ") + "\n").as_bytes()),
            ["env", name] => variable(name).and_then(|value| print(&(value + "\n"))),
            ["cat"] => streams::copy(&stdin::get_stdin(), &stdout::get_stdout()),
            ["cat", paths @ ..] => paths.iter().try_for_each(|path| files::read(path, &stdout::get_stdout())),
            ["write", path, words @ ..] => files::write(path, (words.join(" ") + "\n").as_bytes()),
            ["copy", from, to] => files::copy(from, to),
            ["ls", path] => files::list(path).and_then(|names| print(&names)),
            ["lines", count] => number(count).and_then(lines),
            ["sleep", milliseconds] => number(milliseconds).and_then(sleep),
            ["exit", code] => match code.parse() {
                Ok(code) => return end(code),
                Err(_) => usage(&arguments),
            },
            ["trap"] => core::arch::wasm32::unreachable(),
            ["spin"] => loop {
                std::hint::spin_loop();
            },
            ["fill"] => fill(),
            _ => usage(&arguments),
        };
        done.map_err(|message| {
            // Nobody can be told if that fails too.
            let _ = streams::write(&stderr::get_stderr(), format!("job: {message}\n").as_bytes());
        })
    }
}

fn show(arguments: &[String]) -> Result<(), String> {
    let mut variables = environment::get_environment();
    variables.sort();
    let folder = environment::initial_cwd().unwrap_or_else(|| "none".to_owned());
    let mut text = format!("arguments: {}\nfolder: {folder}\n", arguments.join(" "));
    for (name, value) in variables {
        text += &format!("{name}={value}\n");
    }
    print(&text)
}

fn print(text: &str) -> Result<(), String> {
    streams::write(&stdout::get_stdout(), text.as_bytes())
}

fn variable(name: &str) -> Result<String, String> {
    let found = environment::get_environment().into_iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value).ok_or_else(|| format!("{name} is not set"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|error| format!("`{text}`: {error}"))
}

fn lines(count: u64) -> Result<(), String> {
    let stdout = stdout::get_stdout();
    (1..=count).try_for_each(|line| streams::write(&stdout, format!("line {line}\n").as_bytes()))
}

fn sleep(milliseconds: u64) -> Result<(), String> {
    monotonic_clock::subscribe_duration(milliseconds.saturating_mul(1_000_000)).block();
    print("slept\n")
}

fn fill() -> Result<(), String> {
    while core::arch::wasm32::memory_grow::<0>(1) != usize::MAX {
        let page = (core::arch::wasm32::memory_size::<0>() - 1) * PAGE;
        // SAFETY: the page is new, within the memory, and nobody else's. Written to, so that it is really taken.
        unsafe { std::ptr::write_volatile(std::ptr::without_provenance_mut::<u8>(page), 1) };
    }
    Err("no more memory is given".to_owned())
}

fn usage(arguments: &[String]) -> Result<(), String> {
    let words = format!("job: `{}` makes no sense; see the table in its source\n", arguments.join(" "));
    streams::write(&stderr::get_stderr(), words.as_bytes())?;
    end(USAGE).map_err(|()| "could not end".to_owned())
}

/// Does not come back, unless it is 0: that is what `run` says by returning.
fn end(code: u8) -> Result<(), ()> {
    if code != 0 {
        exit::exit_with_code(code);
    }
    Ok(())
}
