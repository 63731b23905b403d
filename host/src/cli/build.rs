//! `wharf build`: pack the context, send it, show the steps.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use http::Method;

use super::client::{Call, Client, Query};
use super::stream::Objects;
use super::transfer::{self, Show};
use super::{spec, units};
use crate::error::{Error, ErrorKind, Result};
use crate::image::unpack::compression;

/// Build an image from a Dockerfile
///
/// Examples:
///   wharf build -t digits .
///   wharf build -t digits . -f Dockerfile.cpu
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Build {
    /// Name of the image; repeat for more
    #[arg(short, long)]
    tag: Vec<String>,
    /// The Dockerfile, or - for stdin [default: PATH/Dockerfile]
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// NAME=VALUE for an ARG
    #[arg(long)]
    build_arg: Vec<String>,
    /// NAME=VALUE for the image
    #[arg(long)]
    label: Vec<String>,
    /// Run every step again
    #[arg(long)]
    no_cache: bool,
    /// Pull the base image even if it is here
    #[arg(long)]
    pull: bool,
    /// Stage to end with
    #[arg(long)]
    target: Option<String>,
    /// Print the image's id only
    #[arg(short, long)]
    quiet: bool,
    #[arg(long)]
    platform: Option<String>,
    /// Folder with the files, or - for a tar or a Dockerfile on stdin
    #[arg(value_name = "PATH")]
    context: PathBuf,
}

/// What compose builds with.
#[derive(Debug, Default)]
pub struct Recipe {
    pub tags: Vec<String>,
    pub dockerfile: Option<PathBuf>,
    pub arguments: Vec<String>,
    pub labels: Vec<String>,
    pub no_cache: bool,
    pub pull: bool,
    pub show: Show,
    pub target: Option<String>,
    pub platform: Option<String>,
}

impl Build {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        let recipe = Recipe {
            tags: self.tag,
            dockerfile: self.file,
            arguments: self.build_arg,
            labels: self.label,
            no_cache: self.no_cache,
            pull: self.pull,
            show: if self.quiet { Show::Nothing } else { Show::Stdout },
            target: self.target,
            platform: self.platform,
        };
        build(&client, &self.context, &recipe).await.map(|()| ExitCode::SUCCESS)
    }
}

pub async fn build(client: &Client, context: &Path, recipe: &Recipe) -> Result<()> {
    let is_input = context == Path::new("-");
    let (input, dockerfile): (Box<dyn Read + Send>, String) = if is_input {
        whole_from_input(recipe.dockerfile.as_deref())?
    } else {
        let dockerfile = Dockerfile::find(context, recipe.dockerfile.as_deref())?;
        let packed = pack(context, &dockerfile)?;
        if recipe.show != Show::Nothing {
            let bytes = packed.metadata().map_or(0, |metadata| metadata.len());
            recipe.show.print(&format!("Sending build context to Wharf daemon  {}\n", units::size(bytes as f64)))?;
        }
        (Box::new(packed), dockerfile.name)
    };
    let json = |pairs: &[String]| serde_json::Value::Object(spec::pairs(pairs)).to_string();
    let query = recipe.tags.iter().fold(Query::new(), |query, tag| query.with("t", tag));
    let query = query
        .with("dockerfile", dockerfile)
        .some("buildargs", (!recipe.arguments.is_empty()).then(|| json(&recipe.arguments)))
        .some("labels", (!recipe.labels.is_empty()).then(|| json(&recipe.labels)))
        .flag("nocache", recipe.no_cache)
        .flag("pull", recipe.pull)
        .flag("q", recipe.show == Show::Nothing)
        .flag("rm", true)
        .some("target", recipe.target.clone())
        .some("platform", recipe.platform.clone())
        .with("version", "1");
    let call = Call::stream("application/x-tar", transfer::upload(input));
    let response = client.send(Method::POST, "/build", &query, call).await?;
    transfer::follow(&mut Objects::new(response.into_body()), recipe.show).await.map(|_| ())
}

/// What Docker's engine, and ours, takes for a Dockerfile that is no part of the context.
const PASSED_ALONG: &str = ".dockerfile.outside";

/// What an archive has at this place.
const TAR_MAGIC: (usize, &[u8]) = (257, b"ustar");

/// A context on standard input, and its Dockerfile's name there: an archive, or a Dockerfile alone.
fn whole_from_input(file: Option<&Path>) -> Result<(Box<dyn Read + Send>, String)> {
    if file == Some(Path::new("-")) {
        return Err(Error::invalid("invalid argument: can't use stdin for both build context and dockerfile"));
    }
    let fail = |error| Error::new(ErrorKind::Io, "cannot read the context from standard input").because(error);
    let (mut head, (at, magic)) = (Vec::new(), TAR_MAGIC);
    io::stdin().take((at + magic.len()) as u64).read_to_end(&mut head).map_err(fail)?;
    if compression(&head).is_some() || head.get(at..) == Some(magic) {
        let name = file.map_or("Dockerfile".into(), |path| path.display().to_string());
        return Ok((Box::new(io::Cursor::new(head).chain(io::stdin())), name));
    }
    if file.is_some() {
        let text = "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles";
        return Err(Error::invalid(text));
    }
    io::stdin().read_to_end(&mut head).map_err(fail)?;
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "Dockerfile", &head).map_err(fail)?;
    Ok((Box::new(io::Cursor::new(archive.into_inner().map_err(fail)?)), "Dockerfile".into()))
}

fn append<W: Write>(archive: &mut tar::Builder<W>, name: &str, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, name, content)
}

/// A context's Dockerfile.
struct Dockerfile {
    /// Its path in the context.
    name: String,
    /// Where it does not lie there.
    passed_along: Option<Vec<u8>>,
}

impl Dockerfile {
    fn find(context: &Path, file: Option<&Path>) -> Result<Dockerfile> {
        let passed = |content| Dockerfile { name: PASSED_ALONG.to_owned(), passed_along: Some(content) };
        let file = file.map_or_else(|| context.join("Dockerfile"), Path::to_owned);
        let missing = |path: &Path, error| {
            Error::new(ErrorKind::NotFound, format!("unable to prepare context: path {path:?} not found"))
                .because(error)
        };
        let root = fs::canonicalize(context).map_err(|error| missing(context, error))?;
        if file == Path::new("-") {
            let mut content = Vec::new();
            let read = io::stdin().read_to_end(&mut content);
            read.map_err(|error| {
                Error::new(ErrorKind::Io, "cannot read the Dockerfile from standard input").because(error)
            })?;
            return Ok(passed(content));
        }
        let whole = fs::canonicalize(&file).map_err(|error| missing(&file, error))?;
        match whole.strip_prefix(&root) {
            Ok(inner) => Ok(Dockerfile { name: inner.to_string_lossy().into_owned(), passed_along: None }),
            Err(_) => fs::read(&whole).map(passed).map_err(|error| missing(&file, error)),
        }
    }
}

/// The context as a tar in an unnamed file: models are large, memory is not.
fn pack(context: &Path, dockerfile: &Dockerfile) -> Result<fs::File> {
    let fail = |error: io::Error| {
        Error::new(ErrorKind::Io, format!("cannot pack the context {}", context.display())).because(error)
    };
    let ignore = match fs::read_to_string(context.join(".dockerignore")) {
        Ok(text) => Ignore::parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ignore::parse(""),
        // Not as if it were empty: what it keeps out may be secret.
        Err(error) => {
            let path = context.join(".dockerignore");
            return Err(Error::new(ErrorKind::Io, format!("cannot read {}", path.display())).because(error));
        }
    };
    let path = std::env::temp_dir().join(format!(".wharf-context-{}", std::process::id()));
    let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path).map_err(fail)?;
    fs::remove_file(&path).map_err(fail)?;
    let mut archive = tar::Builder::new(io::BufWriter::new(file));
    archive.follow_symlinks(false);
    add(&mut archive, context, Path::new(""), &ignore, &dockerfile.name).map_err(fail)?;
    if let Some(content) = &dockerfile.passed_along {
        append(&mut archive, PASSED_ALONG, content).map_err(fail)?;
    }
    let mut file =
        archive.into_inner().and_then(|buffer| buffer.into_inner().map_err(io::Error::from)).map_err(fail)?;
    file.flush().map_err(fail)?;
    io::Seek::rewind(&mut file).map_err(fail)?;
    Ok(file)
}

fn add<W: Write>(
    archive: &mut tar::Builder<W>,
    context: &Path,
    folder: &Path,
    ignore: &Ignore,
    dockerfile: &str,
) -> io::Result<()> {
    // Sorted: the same files make the same tar.
    let mut entries = BTreeMap::new();
    for entry in fs::read_dir(context.join(folder))? {
        let entry = entry?;
        entries.insert(entry.file_name(), entry.file_type()?);
    }
    for (name, kind) in entries {
        let inner = folder.join(name);
        let text = inner.to_string_lossy();
        let ignored = ignore.covers(&text) && text != dockerfile && text != ".dockerignore";
        if kind.is_dir() {
            if !ignored {
                archive.append_dir(&inner, context.join(&inner))?;
            }
            // A later `!` may bring back what lies below.
            if !ignored || ignore.has_exceptions() || dockerfile.starts_with(&*text) {
                add(archive, context, &inner, ignore, dockerfile)?;
            }
        } else if !ignored && (kind.is_file() || kind.is_symlink()) {
            archive.append_path_with_name(context.join(&inner), &inner)?;
        }
    }
    Ok(())
}

/// `.dockerignore`: the last line that matches decides; `!` brings back.
struct Ignore(Vec<(bool, Vec<String>)>);

impl Ignore {
    fn parse(text: &str) -> Ignore {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let rule = |line: &str| {
            let (keep, pattern) = line.strip_prefix('!').map_or((false, line), |pattern| (true, pattern));
            let parts = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned);
            (keep, parts.collect())
        };
        Ignore(lines.map(rule).collect())
    }

    fn has_exceptions(&self) -> bool {
        self.0.iter().any(|(keep, _)| *keep)
    }

    fn covers(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        // A pattern that matches a folder above covers what is in it.
        let matching = |rule: &&(bool, Vec<String>)| (1..=parts.len()).any(|end| parts_match(&rule.1, &parts[..end]));
        self.0.iter().rfind(matching).is_some_and(|(keep, _)| !keep)
    }
}

fn parts_match(pattern: &[String], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            parts_match(rest, path) || path.split_first().is_some_and(|(_, path)| parts_match(pattern, path))
        }
        (Some((first, rest)), Some((name, path))) => {
            word_matches(first.as_bytes(), name.as_bytes()) && parts_match(rest, path)
        }
        _ => false,
    }
}

fn word_matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            word_matches(rest, name) || name.split_first().is_some_and(|(_, name)| word_matches(pattern, name))
        }
        (Some((b'?', rest)), Some((_, name))) => word_matches(rest, name),
        (Some((letter, rest)), Some((other, name))) => letter == other && word_matches(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockerignore_as_docker_reads_it() {
        let ignore = Ignore::parse("# talk\ntarget\n*.log\n**/*.tmp\n!keep.log\ndocs/*\n!docs/README.md\n");
        for path in ["target", "target/debug/app", "a.log", "x/y/z.tmp", "docs/a.md"] {
            assert!(ignore.covers(path), "{path}");
        }
        for path in ["src/a.log", "keep.log", "docs/README.md", "docs", "src/target"] {
            assert!(!ignore.covers(path), "{path}");
        }
    }
}
