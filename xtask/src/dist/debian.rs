//! The folder as a Debian package, made by `dpkg-deb` alone: no debhelper, so that any Debian or Ubuntu can make it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Release, elf};
use crate::{layout, step};

/// The program and its library lie together, apart from other packages' libraries; the host looks in `../lib`.
const HOME: &str = "usr/lib/wharf";
const DOC: &str = "usr/share/doc/wharf";
const SCRIPTS: [(&str, &str); 3] = [
    ("postinst", include_str!("../../../packaging/debian/postinst")),
    ("prerm", include_str!("../../../packaging/debian/prerm")),
    ("postrm", include_str!("../../../packaging/debian/postrm")),
];
const CONTROL: &str = include_str!("../../../packaging/debian/control");
/// The licence as Debian writes it, before the texts that lie beside it.
const COPYRIGHT: &str = include_str!("../../../packaging/debian/copyright");
const OVERRIDES: &str = include_str!("../../../packaging/debian/lintian-overrides");

/// Makes `wharf_<version>_<architecture>.deb` beside the folder.
pub fn package(folder: &Path, release: &Release) -> Result<PathBuf> {
    let architecture = architecture(&release.triple);
    let stage = folder.with_file_name(format!("deb-{architecture}"));
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("cannot replace {}", stage.display()))?;
    }
    place_files(folder, &stage, release)?;
    let control = fill(CONTROL, release, architecture, size(&stage)?, &depends(&stage)?);
    layout::write(&stage.join("DEBIAN/control"), control.as_bytes())?;
    layout::write(&stage.join("DEBIAN/conffiles"), b"/etc/default/wharf\n")?;
    layout::write(&stage.join("DEBIAN/md5sums"), sums(&stage)?.as_bytes())?;
    for (name, script) in SCRIPTS {
        layout::write(&stage.join("DEBIAN").join(name), script.as_bytes())?;
    }
    modes(&stage)?;
    let package = folder.with_file_name(format!("wharf_{}_{architecture}.deb", release.version));
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Zxz", "--build"]).arg(&stage).arg(&package);
    build.env("SOURCE_DATE_EPOCH", release.epoch.to_string()).stdout(std::io::stderr());
    step::run(&mut build).context("dpkg-deb (package dpkg) makes the package")?;
    Ok(package)
}

fn architecture(triple: &str) -> &'static str {
    if triple.starts_with("aarch64") { "arm64" } else { "amd64" }
}

fn place_files(folder: &Path, stage: &Path, release: &Release) -> Result<()> {
    for part in ["bin", "lib"] {
        copy(&folder.join(part), &stage.join(HOME).join(part))?;
    }
    fs::create_dir_all(stage.join("usr/bin"))?;
    symlink("../lib/wharf/bin/wharf", stage.join("usr/bin/wharf"))?;
    copy(&folder.join("share"), &stage.join("usr/share"))?;
    // Where Debian's zsh looks.
    fs::rename(stage.join("usr/share/zsh/site-functions"), stage.join("usr/share/zsh/vendor-completions"))?;
    copy(&folder.join("licenses"), &stage.join(DOC).join("licenses"))?;
    layout::place(&folder.join("systemd/wharf.service"), &stage.join("usr/lib/systemd/system/wharf.service"))?;
    layout::place(&folder.join("systemd/default"), &stage.join("etc/default/wharf"))?;
    layout::write(&stage.join(DOC).join("copyright"), COPYRIGHT.as_bytes())?;
    layout::write(&stage.join(DOC).join("changelog"), changelog(release).as_bytes())?;
    layout::write(&stage.join("usr/share/lintian/overrides/wharf"), OVERRIDES.as_bytes())?;
    for page in layout::files(&stage.join("usr/share/man"))? {
        step::run(Command::new("gzip").args(["-9", "-n"]).arg(page))?;
    }
    step::run(Command::new("gzip").args(["-9", "-n"]).arg(stage.join(DOC).join("changelog")))
}

/// Debian wants its own form; the changes themselves are in the tree's CHANGELOG.md.
fn changelog(release: &Release) -> String {
    let date =
        Command::new("date").args(["-u", "-R", "-d", &format!("@{}", release.epoch)]).env("LC_ALL", "C").output();
    let date = date.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    format!(
        "wharf ({}) unstable; urgency=medium\n\n  * Release {}.\n\n -- Wharf maintainers <wharf@localhost>  {date}\n",
        release.version, release.version
    )
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    // Links stay links.
    step::run(Command::new("cp").args(["-R", "-P"]).arg(from.join(".")).arg(to))
}

/// Of the program and the library together: what they ask for, as Debian's packages that have it.
fn depends(stage: &Path) -> Result<String> {
    let mut glibc = elf::glibc(&stage.join(HOME).join("bin/wharf"))?;
    for library in layout::files(&stage.join(HOME).join("lib"))?.iter().filter(|path| !path.is_symlink()) {
        glibc = glibc.max(elf::glibc(library)?);
    }
    // libstdc++ 7 has GLIBCXX_3.4.24, more than ONNX Runtime's wheels ask for.
    Ok(format!("libc6 (>= {}.{}), libgcc-s1, libstdc++6 (>= 7), adduser", glibc.0, glibc.1))
}

/// In KiB, as `Installed-Size` counts.
fn size(stage: &Path) -> Result<u64> {
    let files = layout::files(stage)?;
    Ok(files.iter().filter_map(|path| path.symlink_metadata().ok()).map(|meta| meta.len().div_ceil(1024)).sum())
}

fn sums(stage: &Path) -> Result<String> {
    let files = layout::files(stage)?;
    let names = files.iter().filter(|path| !path.is_symlink()).filter_map(|path| path.strip_prefix(stage).ok());
    let names = names.filter(|name| !name.starts_with("DEBIAN") && !name.starts_with("etc"));
    step::capture(Command::new("md5sum").args(names).current_dir(stage))
}

fn fill(template: &str, release: &Release, architecture: &str, size: u64, depends: &str) -> String {
    let size = size.to_string();
    [("VERSION", release.version), ("ARCHITECTURE", architecture), ("SIZE", &size), ("DEPENDS", depends)]
        .into_iter()
        .fold(template.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
}

fn modes(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_symlink() {
            continue;
        }
        let script = SCRIPTS.iter().any(|(name, _)| path.ends_with(Path::new("DEBIAN").join(name)));
        let runs = path.is_dir() || script || path.ends_with("bin/wharf");
        fs::set_permissions(&path, Permissions::from_mode(if runs { 0o755 } else { 0o644 }))?;
        if path.is_dir() {
            modes(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_control_file_is_left_open() {
        let release = Release { version: "1.2.3", triple: "aarch64-unknown-linux-gnu".into(), epoch: 0 };
        let control = fill(CONTROL, &release, architecture(&release.triple), 42, "libc6 (>= 2.34)");
        for line in ["Version: 1.2.3\n", "Architecture: arm64\n", "Installed-Size: 42\n", "Depends: libc6 (>= 2.34)\n"]
        {
            assert!(control.contains(line), "{line}: {control}");
        }
        assert!(!control.contains('@') || control.matches('@').count() == 1, "{control}");
        assert!(control.ends_with('\n'));
    }

    #[test]
    fn the_changelog_is_dated_as_debian_does() {
        let release = Release { version: "1.2.3", triple: String::new(), epoch: 0 };
        assert!(changelog(&release).ends_with("  Thu, 01 Jan 1970 00:00:00 +0000\n"), "{}", changelog(&release));
    }
}
