//! `cargo xtask dist`: what a machine without this tree needs, as one archive and, if asked for, a Debian package.
//!
//! - [`contents`]: the folder that is packed: program, library, licences, completions, manual, unit, install script
//! - [`licences`]: the texts of everything that is compiled in
//! - [`elf`]: what the program needs of the machine it runs on
//! - [`archive`]: the folder as a file, the same bytes each time
//! - [`debian`]: the folder as a package
//! - [`proof`]: `cargo xtask test-dist`: unpacks all that and runs it
//! - [`service`]: its part that has systemd start the unit

pub mod archive;
pub mod contents;
pub mod debian;
pub mod elf;
pub mod licences;
pub mod proof;
pub mod service;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::step::{self, Steps};
use crate::tree::{Tree, cargo};
use crate::{onnxruntime, prerequisites};

/// The oldest C library that the program must run with: Ubuntu 22.04's, on which JetPack 6 is built.
const GLIBC: elf::Version = (2, 35);

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// A program that was built already, in place of the optimised build, which takes long.
    pub prebuilt: Option<PathBuf>,
    pub deb: bool,
}

/// What was made.
pub struct Made {
    pub archive: PathBuf,
    pub deb: Option<PathBuf>,
}

/// `cargo xtask dist [--deb] [--prebuilt PATH]`: its standard output is the paths of what it made.
pub fn run(tree: &Tree, arguments: &[String]) -> Result<()> {
    let made = make(tree, &wishes(arguments)?, &mut Steps::new(4))?;
    for path in [Some(made.archive), made.deb].into_iter().flatten() {
        println!("{}", path.display());
    }
    Ok(())
}

pub fn wishes(arguments: &[String]) -> Result<Wishes> {
    let mut wishes = Wishes::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--deb" => wishes.deb = true,
            "--prebuilt" => {
                wishes.prebuilt = Some(PathBuf::from(words.next().context("--prebuilt takes the path of a program")?));
            }
            other => bail!("`{other}` is unknown: there are --deb and --prebuilt PATH"),
        }
    }
    Ok(wishes)
}

/// Four steps: the program, ONNX Runtime, the folder, the files made of it.
pub fn make(tree: &Tree, wishes: &Wishes, steps: &mut Steps) -> Result<Made> {
    prerequisites::to_build()?;
    let program = steps.run("the program (an optimised build takes many minutes)", || match &wishes.prebuilt {
        Some(path) => path.canonicalize().with_context(|| format!("--prebuilt: cannot find {}", path.display())),
        None => build(tree),
    })?;
    let wheel = steps.run("ONNX Runtime", || onnxruntime::with_licences(tree, std::env::consts::ARCH))?;
    let release = Release::of_this_tree()?;
    let folder = tree.layout().join("dist");
    let unpacked = steps.run("contents", || {
        let root = folder.join(release.name());
        contents::lay_out(tree, &release, &program, &wheel, &root)?;
        check(&root.join("bin/wharf"))?;
        Ok(root)
    })?;
    steps.run("archive", || {
        let archive = archive::pack(&unpacked, release.epoch)?;
        let deb = wishes.deb.then(|| debian::package(&unpacked, &release)).transpose()?;
        Ok(Made { archive, deb })
    })
}

/// Thin LTO and 16 units: on two cores fat LTO of this program would take longer than all else together, and the time of
/// a request is spent in ONNX Runtime and in code that wasmtime makes, which no LTO reaches.
fn build(tree: &Tree) -> Result<PathBuf> {
    let mut command = Command::new(cargo());
    command.args(["build", "--profile", "dist", "--locked", "-p", "wharf"]).current_dir(tree.root());
    step::run(&mut command)?;
    Ok(tree.target().join("dist/wharf"))
}

/// The program must start where it is to run: that is known only by reading it.
fn check(program: &Path) -> Result<()> {
    let (major, minor) = elf::glibc(program)?;
    ensure!(
        (major, minor) <= GLIBC,
        "the program needs glibc {major}.{minor}, and {}.{} is the newest that JetPack 6 (Ubuntu 22.04) has: build it \
         on an older distribution",
        GLIBC.0,
        GLIBC.1
    );
    step::note(format_args!("needs glibc {major}.{minor} (at most {}.{} is allowed)", GLIBC.0, GLIBC.1));
    Ok(())
}

/// Which release it is.
pub struct Release {
    pub version: &'static str,
    /// As Rust spells the machine it is for.
    pub triple: String,
    /// Seconds since 1970 that all files bear: `SOURCE_DATE_EPOCH`, else the time of the commit.
    pub epoch: u64,
}

impl Release {
    fn of_this_tree() -> Result<Release> {
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => text,
            Err(_) => step::capture(Command::new("git").args(["log", "-1", "--format=%ct"]))
                .context("the time of the release is unknown: set SOURCE_DATE_EPOCH to seconds since 1970")?,
        };
        let epoch = epoch.trim().parse().with_context(|| format!("SOURCE_DATE_EPOCH is {epoch:?}: no number"))?;
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        Ok(Release { version: env!("CARGO_PKG_VERSION"), triple, epoch })
    }

    pub fn name(&self) -> String {
        format!("wharf-{}-{}", self.version, self.triple)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_and_others_named() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let both = Wishes { prebuilt: Some("target/release/wharf".into()), deb: true };
        assert_eq!(wishes(&words("--prebuilt target/release/wharf --deb")).unwrap(), both);
        assert_eq!(wishes(&[]).unwrap(), Wishes::default());
        assert!(wishes(&words("--rpm")).unwrap_err().to_string().contains("`--rpm` is unknown"));
        assert!(wishes(&words("--prebuilt")).unwrap_err().to_string().contains("takes the path"));
    }
}
