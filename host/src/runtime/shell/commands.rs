//! The shell's commands: what each prints. One function each, over one session.

use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use wharf_tensor::infer::{InferRequest, TensorSpec};
use wharf_tensor::{DType, Tensor};

use super::files::{Entry, Files, normal};
use super::{Out, Outcome, View};
use crate::container::runtime::{Exec, Stream};
use crate::error::{Error, ErrorKind, Result};

/// Name, arguments, what it does; in the order `help` lists them.
const COMMANDS: [(&str, &str, &str); 16] = [
    ("ls", "[-l] [-a] [PATH…]", "list files"),
    ("cat", "FILE…", "print files"),
    ("head", "[-n LINES] FILE", "print a file's first lines"),
    ("tail", "[-n LINES] FILE", "print a file's last lines"),
    ("pwd", "", "print the folder"),
    ("cd", "[FOLDER]", "go to another folder"),
    ("env", "", "print the environment"),
    ("echo", "[WORD…]", "print words"),
    ("ps", "", "what runs here"),
    ("models", "", "the models with their inputs and outputs"),
    ("infer", "MODEL", "run a model on zeros and print what it gives"),
    ("stats", "", "processor, memory and traffic since the start"),
    ("true", "", "succeed"),
    ("false", "", "fail"),
    ("help", "", "this list"),
    ("exit", "[CODE]", "leave"),
];

/// Values of a tensor that are printed.
const SHOWN: usize = 10;

/// A file is printed in pieces of this size, so that a large one needs no memory. Bytes.
const PIECE: usize = 32 << 10;

pub fn is_one(name: &str) -> bool {
    COMMANDS.iter().any(|(known, _, _)| *known == name)
}

/// What lasts from one command to the next.
pub struct Session {
    view: View,
    files: Files,
    environment: Vec<(String, String)>,
    folder: String,
    code: i32,
    over: bool,
}

impl Session {
    pub fn new(view: View, environment: Vec<(String, String)>, working_dir: &str) -> Result<Session> {
        let files = Files::open(&view.root, &view.mounts)
            .map_err(|error| Error::new(ErrorKind::Io, format!("cannot look into {}", view.name)).because(error))?;
        let folder = normal("/", working_dir);
        let folder = if files.is_folder(&folder).unwrap_or(false) { folder } else { "/".to_owned() };
        Ok(Session { view, files, environment, folder, code: 0, over: false })
    }

    pub fn prompt(&self) -> String {
        format!("{}:{} # ", self.view.name, self.folder)
    }

    pub fn is_over(&self) -> bool {
        self.over
    }

    pub fn last_code(&self) -> i32 {
        self.code
    }

    pub fn variable(&self, name: &str) -> Option<String> {
        match name {
            "?" => Some(self.code.to_string()),
            "PWD" => Some(self.folder.clone()),
            name => self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()),
        }
    }

    /// Run one command; its exit code.
    pub async fn run(&mut self, argv: &[String], out: &Out) -> i32 {
        let Some((name, arguments)) = argv.split_first() else { return self.code };
        self.code = match self.dispatch(name, arguments, argv, out).await {
            Ok(code) => code,
            Err(error) => {
                out.error(&format!("{name}: {}\n", error.chain())).await;
                if error.kind() == ErrorKind::NotFound && !is_one(name) { 127 } else { 1 }
            }
        };
        self.code
    }

    async fn dispatch(&mut self, name: &str, arguments: &[String], argv: &[String], out: &Out) -> Outcome {
        match name {
            "ls" => self.ls(arguments, out).await,
            "cat" => self.cat(arguments, out).await,
            "head" => self.part(arguments, out, Part::Head).await,
            "tail" => self.part(arguments, out, Part::Tail).await,
            "pwd" => say(out, &format!("{}\n", self.folder)).await,
            "cd" => self.cd(arguments),
            "env" => say(out, &lines(self.environment.iter().map(|(name, value)| format!("{name}={value}")))).await,
            "echo" => say(out, &format!("{}\n", arguments.join(" "))).await,
            "ps" => self.ps(out).await,
            "models" => self.models(out).await,
            "infer" => self.infer(arguments, out).await,
            "stats" => self.stats(out).await,
            "true" => Ok(0),
            "false" => Ok(1),
            "help" => say(out, &help()).await,
            "exit" => {
                self.over = true;
                arguments.first().map_or(Ok(self.code), |code| {
                    code.parse().map_err(|_| Error::invalid(format!("{code:?} is no exit code")))
                })
            }
            _ => self.tool(argv, out).await,
        }
    }

    /// A component of the image.
    async fn tool(&self, argv: &[String], out: &Out) -> Outcome {
        let name = argv.first().map_or("", String::as_str);
        if !self.view.tools.find(name, &self.folder) {
            return Err(Error::new(
                ErrorKind::NotFound,
                "not found; this is Wharf's inspection shell, there is no Linux in the container: `help` lists its commands",
            ));
        }
        let exec = Exec {
            argv: argv.to_vec(),
            environment: self.environment.clone(),
            working_dir: self.folder.clone(),
            tty: out.tty,
            stdin: None,
            output: out.output.clone(),
        };
        let exit = self.view.tools.run(exec).await;
        Ok(exit.code)
    }

    async fn ls(&self, arguments: &[String], out: &Out) -> Outcome {
        let (flags, paths): (Vec<&String>, Vec<&String>) =
            arguments.iter().partition(|argument| argument.starts_with('-') && argument.len() > 1);
        if let Some(flag) = flags.iter().find(|flag| flag.chars().skip(1).any(|letter| !"lah1".contains(letter))) {
            return Err(Error::invalid(format!("{flag} is not known; -l and -a are")));
        }
        let has = |letter| flags.iter().any(|flag| flag.contains(letter));
        let (long, all) = (has('l'), has('a'));
        let paths = if paths.is_empty() { vec!["."] } else { paths.into_iter().map(String::as_str).collect() };
        for path in &paths {
            if paths.len() > 1 {
                out.print(&format!("{path}:\n")).await;
            }
            let entries = self.files.list(&normal(&self.folder, path)).map_err(|error| seen(path, &error))?;
            let shown = entries.iter().filter(|entry| all || !entry.name.starts_with('.'));
            out.print(&lines(shown.map(|entry| if long { long_line(entry) } else { short_line(entry) }))).await;
        }
        Ok(0)
    }

    async fn cat(&self, paths: &[String], out: &Out) -> Outcome {
        if paths.is_empty() {
            return Err(Error::invalid("name a file"));
        }
        for path in paths {
            let mut file = self.files.file(&normal(&self.folder, path)).map_err(|error| seen(path, &error))?;
            let mut piece = vec![0; PIECE];
            loop {
                let read = file.read(&mut piece).map_err(|error| seen(path, &error))?;
                if read == 0 || out.is_closed() {
                    break;
                }
                out.bytes(Stream::Stdout, piece.get(..read).unwrap_or_default()).await;
            }
        }
        Ok(0)
    }

    async fn part(&self, arguments: &[String], out: &Out, part: Part) -> Outcome {
        let (count, path) = match arguments {
            [path] if !path.starts_with('-') => (10, path),
            [flag, path] if flag.starts_with('-') => {
                (count(flag.trim_start_matches('-').trim_start_matches('n'))?, path)
            }
            [flag, value, path] if flag == "-n" => (count(value)?, path),
            _ => return Err(Error::invalid("write [-n LINES] FILE")),
        };
        let mut file = self.files.file(&normal(&self.folder, path)).map_err(|error| seen(path, &error))?;
        let lines = part.read(&mut file, count).map_err(|error| seen(path, &error))?;
        out.bytes(Stream::Stdout, &lines).await;
        Ok(0)
    }

    fn cd(&mut self, arguments: &[String]) -> Outcome {
        let path = arguments.first().map_or("/", String::as_str);
        let folder = normal(&self.folder, path);
        if !self.files.is_folder(&folder).map_err(|error| seen(path, &error))? {
            return Err(Error::invalid(format!("{path}: Not a directory")));
        }
        self.folder = folder;
        Ok(0)
    }

    async fn ps(&self, out: &Out) -> Outcome {
        let usage = (self.view.usage)();
        let what = if self.view.argv.is_empty() { "(models)".to_owned() } else { self.view.argv.join(" ") };
        say(out, &format!("PID   REQUESTS  COMMAND\n{:<5} {:<9} {what}\n", 1, usage.in_flight)).await
    }

    async fn models(&self, out: &Out) -> Outcome {
        if self.view.models.is_empty() {
            return say(out, "This container has no models.\n").await;
        }
        for (name, model) in &self.view.models {
            let signature = model.signature();
            out.print(&format!("{name}  {}\n", signature.platform)).await;
            for (kind, specs) in [("input", &signature.inputs), ("output", &signature.outputs)] {
                out.print(&lines(specs.iter().map(|spec| format!("  {kind:<6} {}", described(spec))))).await;
            }
        }
        Ok(0)
    }

    async fn infer(&self, arguments: &[String], out: &Out) -> Outcome {
        let names = || self.view.models.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let [name] = arguments else {
            return Err(Error::invalid(format!("name one model; there are: {}", names())));
        };
        let found = self.view.models.iter().find(|(known, _)| known == name);
        let (_, model) = found
            .ok_or_else(|| Error::invalid(format!("no model {name:?} in this container; there are: {}", names())))?;
        let failed = |error| Error::new(ErrorKind::Failed, format!("model {name:?}")).because(error);
        let inputs = model.signature().inputs.iter().map(zeros).collect::<Result<Vec<_>>>()?;
        let started = std::time::Instant::now();
        let request = InferRequest { inputs, deadline: Some(started + Duration::from_secs(30)) };
        let outputs = model.infer(request).await.map_err(failed)?;
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        for (output, tensor) in &outputs {
            out.print(&format!("{output} {} {:?}: {}\n", tensor.dtype().name(), tensor.shape(), values(tensor))).await;
        }
        say(out, &format!("{milliseconds:.2} ms, all inputs zero\n")).await
    }

    async fn stats(&self, out: &Out) -> Outcome {
        let usage = (self.view.usage)();
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let text = format!(
            "cpu        {:.3} s\nmemory     {:.1} MiB of {:.0} MiB an instance\nrequests   {} answered, {} in flight\n\
             received   {} bytes\nsent       {} bytes\n",
            usage.cpu.as_secs_f64(),
            mib(usage.memory),
            mib(usage.memory_limit),
            usage.requests,
            usage.in_flight,
            usage.received,
            usage.sent
        );
        say(out, &text).await
    }
}

#[derive(Clone, Copy)]
enum Part {
    Head,
    Tail,
}

impl Part {
    /// Some of a file's lines. Of a large file `tail` keeps only what it will show.
    fn read(self, file: &mut impl Read, count: usize) -> io::Result<Vec<u8>> {
        let mut kept: std::collections::VecDeque<Vec<u8>> = std::collections::VecDeque::new();
        let mut reader = io::BufReader::new(file);
        loop {
            let mut line = Vec::new();
            // A line without an end is cut into pieces.
            let limited = &mut io::Read::take(&mut reader, PIECE as u64);
            if io::BufRead::read_until(limited, b'\n', &mut line)? == 0 {
                break;
            }
            match self {
                Part::Head if kept.len() == count => break,
                Part::Tail if kept.len() == count && count > 0 => drop(kept.pop_front()),
                _ => {}
            }
            if count > 0 {
                kept.push_back(line);
            }
        }
        Ok(kept.into_iter().flatten().collect())
    }
}

fn count(text: &str) -> Result<usize> {
    text.parse().map_err(|_| Error::invalid(format!("{text:?} is no number of lines")))
}

/// An error of a file in a Unix tool's words.
fn seen(path: &str, error: &io::Error) -> Error {
    let what = match error.kind() {
        io::ErrorKind::NotFound => "No such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "Permission denied".to_owned(),
        io::ErrorKind::NotADirectory => "Not a directory".to_owned(),
        _ => error.to_string(),
    };
    Error::new(ErrorKind::Io, format!("{path}: {what}"))
}

async fn say(out: &Out, text: &str) -> Outcome {
    out.print(text).await;
    Ok(0)
}

fn lines(items: impl Iterator<Item = String>) -> String {
    items.map(|line| line + "\n").collect()
}

fn short_line(entry: &Entry) -> String {
    if entry.is_folder { format!("{}/", entry.name) } else { entry.name.clone() }
}

fn long_line(entry: &Entry) -> String {
    let modified = entry.modified.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{} {:>12} {} {}", entry.mode, entry.size, day(modified), short_line(entry))
}

/// Seconds since 1970 to `2026-05-30 12:07`, UTC. (Howard Hinnant's civil_from_days.)
fn day(seconds: u64) -> String {
    let (days, minutes) = (seconds / 86_400 + 719_468, seconds % 86_400 / 60);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minutes / 60, minutes % 60)
}

fn described(spec: &TensorSpec) -> String {
    let dims: Vec<String> = spec.shape.iter().map(|dim| dim.map_or("-1".into(), |dim| dim.to_string())).collect();
    format!("{} {} [{}]", spec.name, spec.dtype.name(), dims.join(","))
}

/// A tensor of zeros (or empty strings) that fits; open dimensions are 1.
fn zeros(spec: &TensorSpec) -> Result<(String, Tensor)> {
    let shape: Vec<usize> = spec.shape.iter().map(|dim| dim.unwrap_or(1)).collect();
    let refused = |error: wharf_tensor::TensorError| {
        Error::new(ErrorKind::Failed, format!("cannot make input {:?}", spec.name)).because(error)
    };
    let count = wharf_tensor::tensor::element_count(&shape).map_err(refused)?;
    let tensor = match spec.dtype.size() {
        Some(size) => Tensor::new(spec.dtype, shape, Bytes::from(vec![0_u8; count * size])),
        None => Tensor::from_elements(shape, &vec![b"".as_slice(); count]),
    };
    Ok((spec.name.to_string(), tensor.map_err(refused)?))
}

/// The first values of a tensor.
fn values(tensor: &Tensor) -> String {
    fn shown<T: std::fmt::Display>(values: &[T]) -> String {
        let mut text: Vec<String> = values.iter().take(SHOWN).map(ToString::to_string).collect();
        if values.len() > SHOWN {
            text.push(format!("… ({} values)", values.len()));
        }
        text.join(" ")
    }
    let text = match tensor.dtype() {
        DType::Fp32 => tensor.values::<f32>().map(|values| shown(&values)),
        DType::Fp64 => tensor.values::<f64>().map(|values| shown(&values)),
        DType::Int64 => tensor.values::<i64>().map(|values| shown(&values)),
        DType::Int32 => tensor.values::<i32>().map(|values| shown(&values)),
        DType::Uint8 => tensor.values::<u8>().map(|values| shown(&values)),
        _ => Ok(format!("{} bytes", tensor.data().len())),
    };
    text.unwrap_or_else(|error| error.to_string())
}

fn help() -> String {
    let width = COMMANDS.iter().map(|(name, arguments, _)| name.len() + arguments.len() + 1).max().unwrap_or(0);
    let listed =
        COMMANDS.iter().map(|(name, arguments, what)| format!("  {:width$}  {what}", format!("{name} {arguments}")));
    lines(listed) + "A path to a component of the image runs it.\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_right() {
        assert_eq!(day(0), "1970-01-01 00:00");
        assert_eq!(day(951_782_399), "2000-02-28 23:59");
        assert_eq!(day(951_782_400), "2000-02-29 00:00");
        assert_eq!(day(1_780_142_834), "2026-05-30 12:07");
    }

    #[test]
    fn first_and_last_lines() {
        let text = "1\n2\n3\n4";
        let read = |part: Part, count| String::from_utf8(part.read(&mut text.as_bytes(), count).unwrap()).unwrap();
        assert_eq!(read(Part::Head, 2), "1\n2\n");
        assert_eq!(read(Part::Tail, 2), "3\n4");
        assert_eq!(read(Part::Tail, 9), text);
        assert_eq!((read(Part::Head, 0), read(Part::Tail, 0)), (String::new(), String::new()));
    }

    #[test]
    fn every_command_is_helped_with() {
        for (name, _, _) in COMMANDS {
            assert!(is_one(name) && help().contains(&format!("  {name} ")), "{name}");
        }
    }
}
