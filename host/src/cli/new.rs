//! `wharf new`: a folder with a service that builds, runs and has tests, from one of the templates in
//! `host/templates`. A template is plain files; `{{name}}` and the like in them are replaced.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, path};

use clap::{Args, ValueEnum};

use crate::error::{Error, ErrorKind, Result};

/// Make a new service: a Rust crate that builds to WebAssembly, with tests, README and Dockerfile
///
/// Examples:
///   wharf new thumbnails
///   wharf new greeter --template json --path services/greeter
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct New {
    /// Name of the service and its crate: lowercase letters, digits, - and _, a letter first
    #[arg(value_name = "NAME")]
    name: String,

    /// What it starts from: a picture in and JSON out, with a page; or JSON in and out
    #[arg(long, value_enum, value_name = "TEMPLATE", default_value_t = Template::Image)]
    template: Template,

    /// The folder to make [default: NAME, here]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,

    /// Folder of the wharf-guest crate to depend on [default: the one of the checkout that this program was built
    /// from, else the published version]
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Template {
    Image,
    Json,
}

/// A file of a new service: its path there, and its text before replacement.
type TemplateFile = (&'static str, &'static str);

const SHARED: &[TemplateFile] = &[
    // Not under their real names: git and cargo would take them for their own.
    ("Cargo.toml", include_str!("../../templates/manifest.toml")),
    (".gitignore", include_str!("../../templates/gitignore")),
    ("Dockerfile", include_str!("../../templates/Dockerfile")),
    (BUILD_SCRIPT, include_str!("../../templates/build.sh")),
];
const IMAGE: &[TemplateFile] = &[
    ("README.md", include_str!("../../templates/image/README.md")),
    ("src/lib.rs", include_str!("../../templates/image/lib.rs")),
    ("src/page.html", include_str!("../../templates/image/page.html")),
];
const JSON: &[TemplateFile] = &[
    ("README.md", include_str!("../../templates/json/README.md")),
    ("src/lib.rs", include_str!("../../templates/json/lib.rs")),
];
const BUILD_SCRIPT: &str = "build.sh";

/// Letters and digits; longer ones fit no terminal, and DNS ends there too.
const LONGEST_NAME: usize = 63;

/// Names that crates of a service carry already, or that Rust keeps for itself.
const TAKEN_NAMES: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "panic_abort",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "wharf_guest",
    "where",
    "while",
    "yield",
];

impl New {
    pub fn execute(self) -> Result<ExitCode> {
        check_name(&self.name)?;
        let sdk = Sdk::choose(self.sdk.as_deref())?;
        let folder = self.path.unwrap_or_else(|| PathBuf::from(&self.name));
        let files = self.template.render(&self.name, &sdk)?;
        create(&folder, &files)?;
        // A reader that has gone has not unmade the folder.
        let _ = io::stdout().write_all(report(&self.name, &folder, &files, &sdk).as_bytes());
        Ok(ExitCode::SUCCESS)
    }
}

impl Template {
    /// The files of a new service, ready to be written.
    fn render(self, name: &str, sdk: &Sdk) -> Result<Vec<(&'static str, String)>> {
        let own = match self {
            Template::Image => IMAGE,
            Template::Json => JSON,
        };
        let values = [("{{name}}", name.to_owned()), ("{{crate}}", crate_name(name)), ("{{sdk}}", sdk.requirement()?)];
        let fill = |text: &str| values.iter().fold(text.to_owned(), |text, (place, value)| text.replace(place, value));
        Ok(SHARED.iter().chain(own).map(|(path, text)| (*path, fill(text))).collect())
    }
}

/// As rustc and the built file spell it.
fn crate_name(name: &str) -> String {
    name.replace('-', "_")
}

fn check_name(name: &str) -> Result<()> {
    let refuse = |why: &str| {
        Err(Error::invalid(format!(
            "{name:?} cannot name a service: {why}; write lowercase letters, digits, - and _, a letter first, e.g. \
             mask-detection"
        )))
    };
    if name.is_empty() {
        return refuse("it is empty");
    }
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        return refuse("it does not start with a lowercase letter");
    }
    if let Some(other) = name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '_')) {
        return refuse(&format!("it contains {other:?}"));
    }
    if name.len() > LONGEST_NAME {
        return refuse(&format!("it has {} characters, {LONGEST_NAME} at most", name.len()));
    }
    if TAKEN_NAMES.contains(&crate_name(name).as_str()) {
        return refuse("Rust, or a crate that services use, has that name already");
    }
    Ok(())
}

/// Where a new service gets `wharf-guest` from.
enum Sdk {
    Typed(PathBuf),
    /// The checkout this program was built from, which is still there.
    Checkout(PathBuf),
    Published,
}

impl Sdk {
    fn choose(typed: Option<&Path>) -> Result<Sdk> {
        if let Some(folder) = typed {
            if !is_sdk(folder) {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!(
                        "--sdk {}: there is no crate called wharf-guest; name the folder of its Cargo.toml",
                        folder.display()
                    ),
                ));
            }
            return absolute(folder).map(Sdk::Typed);
        }
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-sdk");
        if is_sdk(&checkout) { absolute(&checkout).map(Sdk::Checkout) } else { Ok(Sdk::Published) }
    }

    /// What follows `wharf-guest = ` in a manifest.
    fn requirement(&self) -> Result<String> {
        let (Sdk::Typed(folder) | Sdk::Checkout(folder)) = self else {
            return Ok(format!("{:?}", published_version()));
        };
        let text = folder.to_str().ok_or_else(|| {
            Error::invalid(format!("{} is not UTF-8, and a manifest must be: move the crate", folder.display()))
        })?;
        // TOML's basic strings know every escape that JSON's do.
        let quoted = serde_json::Value::from(text);
        Ok(format!("{{ path = {quoted} }}"))
    }

    fn describe(&self) -> String {
        match self {
            Sdk::Typed(folder) => format!("{} (--sdk)", folder.display()),
            Sdk::Checkout(folder) => format!("{} (the checkout this wharf was built from)", folder.display()),
            Sdk::Published => format!("version {} (no checkout is there; --sdk DIR names one)", published_version()),
        }
    }
}

/// The host and the SDK carry one version; patches of it are compatible.
fn published_version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"))
}

fn is_sdk(folder: &Path) -> bool {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    manifest.lines().any(|line| line.trim() == r#"name = "wharf-guest""#)
}

fn absolute(folder: &Path) -> Result<PathBuf> {
    fs::canonicalize(folder)
        .map_err(|error| Error::new(ErrorKind::Io, format!("cannot resolve {}", folder.display())).because(error))
}

/// The whole folder appears, or nothing: it is written under another name beside its own first.
fn create(folder: &Path, files: &[(&'static str, String)]) -> Result<()> {
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => exists(folder),
        _ => Error::new(ErrorKind::Io, format!("cannot make {}", folder.display())).because(error),
    };
    // A link that leads nowhere is in the way too.
    if fs::symlink_metadata(folder).is_ok() {
        return Err(exists(folder));
    }
    let folder = path::absolute(folder).map_err(cannot)?;
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
        return Err(Error::invalid(format!("--path {}: name a folder to make", folder.display())));
    };
    fs::create_dir_all(parent).map_err(cannot)?;
    let unfinished = parent.join(format!(".{}.{}.part", name.display(), std::process::id()));
    let made = write_all(&unfinished, files).and_then(|()| fs::rename(&unfinished, &folder));
    if made.is_err() {
        // The first failure is the one to tell.
        let _ = fs::remove_dir_all(&unfinished);
    }
    made.map_err(cannot)
}

fn exists(folder: &Path) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("{} exists already: remove it, or name another folder with --path", folder.display()),
    )
}

fn write_all(folder: &Path, files: &[(&'static str, String)]) -> io::Result<()> {
    for (path, text) in files {
        let file = folder.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&file, text)?;
        if *path == BUILD_SCRIPT {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

fn report(name: &str, folder: &Path, files: &[(&'static str, String)], sdk: &Sdk) -> String {
    let folder = folder.display();
    let mut text = format!("{folder}/\n");
    for (path, _) in files {
        let _ = writeln!(text, "  {path}");
    }
    let _ = write!(
        text,
        "wharf-guest: {}\n\nNext:\n  cd {folder}\n  ./build.sh\n  \
         wharf serve target/wasm32-unknown-unknown/release/{}.wasm -p 5000:5000\n",
        sdk.describe(),
        crate_name(name)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_crate_names() {
        for name in ["a", "mask-detection", "v2", "a_b"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for (name, why) in [
            ("", "it is empty"),
            ("2d", "start with"),
            ("-a", "start with"),
            ("Ab", "start with"),
            ("aB", "contains 'B'"),
            ("a b", "contains ' '"),
            ("../a", "start with"),
            ("a/b", "contains '/'"),
            ("käse", "contains 'ä'"),
            ("fn", "has that name already"),
            ("wharf-guest", "has that name already"),
        ] {
            let error = check_name(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(why), "{name}: {error}");
        }
        assert!(check_name(&"a".repeat(64)).unwrap_err().to_string().contains("64 characters, 63 at most"));
    }

    #[test]
    fn every_placeholder_is_replaced() {
        for template in [Template::Image, Template::Json] {
            for (path, text) in template.render("mask-detection", &Sdk::Published).unwrap() {
                assert!(!text.contains("{{") && !text.contains("}}"), "{template:?}: {path}:\n{text}");
            }
        }
    }

    #[test]
    fn a_manifest_names_the_sdk() {
        assert_eq!(Sdk::Published.requirement().unwrap(), format!("\"{}\"", published_version()));
        let odd = Sdk::Typed(PathBuf::from(r#"/a "b"\c"#));
        assert_eq!(odd.requirement().unwrap(), r#"{ path = "/a \"b\"\\c" }"#);
    }
}
