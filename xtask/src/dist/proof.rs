//! `cargo xtask test-dist`: makes the archive and the package, unpacks them elsewhere, and runs what comes out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Made, Wishes, archive, make, service, wishes};
use crate::step::{self, Steps};
use crate::tree::Tree;
use crate::trial::Trial;
use crate::{guests, layout};

/// What the chroot for the package is made of: the packages that it depends on.
const SUITE: &str = "bookworm";
const INCLUDED: &str = "libstdc++6,adduser";

/// `cargo xtask test-dist [--prebuilt PATH]`.
pub fn run(tree: &Tree, arguments: &[String]) -> Result<()> {
    let wishes = Wishes { deb: has("dpkg-deb"), ..wishes(arguments)? };
    let mut steps = Steps::new(10);
    let guests = steps.run("guests", || guests::ready(tree))?;
    let made = make(tree, &wishes, &mut steps)?;
    let scratch = Scratch::new(tree)?;
    let root = steps.run("archive: unpack and check", || unpack(&made.archive, &scratch.0))?;
    steps.run("archive: serve a digit from it", || serve(tree, &guests, &root, &scratch.0))?;
    steps.run("install.sh", || install(&root, &scratch.0))?;
    steps.run("Debian package", || debian(tree, &made))?;
    steps.run("the service under systemd", || match &made.deb {
        Some(deb) => service::check(tree, deb),
        None => {
            step::note("SKIPPED: no dpkg-deb here: there is no package to install");
            Ok(())
        }
    })
}

/// A folder that goes with the run.
struct Scratch(PathBuf);

impl Scratch {
    fn new(tree: &Tree) -> Result<Scratch> {
        let folder = tree.target().join(format!("test-dist-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: a folder left behind costs space only.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The folder inside, after its checksum was found true.
fn unpack(made: &Path, scratch: &Path) -> Result<PathBuf> {
    let folder = made.parent().context("an archive lies in a folder")?;
    let name = made.file_name().context("an archive has a name")?.to_string_lossy();
    let name = name.trim_end_matches(".tar.gz");
    let sums = archive::beside(&folder.join(name), ".tar.gz.sha256");
    let mut check = Command::new("sha256sum");
    step::run(check.args(["--check", "--strict"]).arg(sums).current_dir(folder).stdout(std::io::stderr()))?;
    step::run(Command::new("tar").arg("-xzf").arg(made).arg("-C").arg(scratch))?;
    Ok(scratch.join(name))
}

fn serve(tree: &Tree, guests: &Path, root: &Path, scratch: &Path) -> Result<()> {
    let data = scratch.join("data");
    let mut doctor = Command::new("./bin/wharf");
    // An empty environment: what it needs it must find beside itself.
    doctor.args(["doctor", "--data"]).arg(&data).current_dir(root).env_clear().stdout(std::io::stderr());
    step::run(&mut doctor).context("the unpacked program does not find its library")?;
    let mut program = Command::new("./bin/wharf");
    program.current_dir(root);
    let trial = Trial::start(program, guests, &data)?;
    trial.recognises(tree)?;
    trial.stop()
}

fn install(root: &Path, scratch: &Path) -> Result<()> {
    let prefix = scratch.join("prefix");
    let foreign = prefix.join("share/man/man1/other.1");
    layout::write(&foreign, b"another program's\n")?;
    let script = |arguments: &[&str]| {
        let mut command = Command::new(root.join("install.sh"));
        step::capture(command.args(arguments).arg("--prefix").arg(&prefix))
    };
    ensure!(script(&["--dry-run"])?.contains("+ install -D"), "a dry run says what it would do");
    ensure!(layout::files(&prefix)? == std::slice::from_ref(&foreign), "a dry run does nothing");
    // Twice: an upgrade is an install over an install.
    script(&[])?;
    script(&[])?;
    let mut version = Command::new(prefix.join("bin/wharf"));
    let said = step::capture(version.arg("--version").env_clear())?;
    let data = scratch.join("data");
    let mut doctor = Command::new(prefix.join("bin/wharf"));
    let found = step::capture(doctor.args(["doctor", "--data"]).arg(&data).env_clear())?;
    ensure!(found.contains("lib/wharf/"), "the installed program found another library:\n{found}");
    let said_at_end = script(&["--uninstall"])?;
    ensure!(said_at_end.contains("Removed from"), "{said_at_end}");
    let left = layout::files(&prefix)?;
    ensure!(left == [foreign], "uninstalling left {left:?}");
    step::note(format_args!("{} was installed twice, found its library, and was removed without a trace", said.trim()));
    Ok(())
}

fn debian(tree: &Tree, made: &Made) -> Result<()> {
    let Some(deb) = &made.deb else {
        step::note("SKIPPED: no dpkg-deb here: no Debian package was made");
        return Ok(());
    };
    if has("lintian") {
        let mut lintian = Command::new("lintian");
        step::run(lintian.args(["--fail-on", "error", "--allow-root"]).arg(deb).stdout(std::io::stderr()))?;
    } else {
        step::note("SKIPPED: no lintian here (apt-get install lintian): the package was not linted");
    }
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if !root || !has("debootstrap") {
        step::note("SKIPPED: installing it for real takes root and debootstrap (apt-get install debootstrap)");
        return Ok(());
    }
    let chroot = chroot(tree)?;
    step::run(Command::new("cp").arg(deb).arg(chroot.join("wharf.deb")))?;
    let inside = |script: &str| {
        let mut command = Command::new("chroot");
        command.arg(&chroot).args(["sh", "-ec", script]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        step::run(command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::io::stderr()))
    };
    // Without debconf's and service managers' help: what the package itself does is what is tried.
    inside("dpkg --purge wharf >/dev/null 2>&1 || true; dpkg --install /wharf.deb").context("it does not install")?;
    inside("getent passwd wharf; getent group wharf; stat -c '%U:%G %a %n' /var/lib/wharf; test -L /usr/bin/wharf")?;
    inside("mount -t proc proc /proc; trap 'umount /proc' EXIT; cd /; su -s /bin/sh wharf -c 'wharf doctor --data /var/lib/wharf'")
        .context("the installed program does not run as the user `wharf`")?;
    inside("echo '# mine' >> /etc/default/wharf; dpkg --install /wharf.deb; grep -q mine /etc/default/wharf")
        .context("an upgrade does not keep a changed /etc/default/wharf")?;
    inside("dpkg --remove wharf; test ! -e /usr/bin/wharf; test -d /var/lib/wharf; test -e /etc/default/wharf")?;
    inside("dpkg --purge wharf; test ! -e /var/lib/wharf; test ! -e /etc/default/wharf; ! getent passwd wharf; ! getent group wharf")
        .context("purging leaves something behind")?;
    step::note("installed, run, upgraded with a changed conffile, removed and purged in a chroot of its own");
    Ok(())
}

/// A minimal Debian below the target folder; kept, for it takes a minute to make.
fn chroot(tree: &Tree) -> Result<PathBuf> {
    let folder = tree.target().join(format!("chroot-{SUITE}"));
    if folder.join("etc/debian_version").exists() && !folder.join("debootstrap").exists() {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    step::note(format_args!("making a minimal Debian in {}", folder.display()));
    let mut make = Command::new("debootstrap");
    make.args(["--variant=minbase", &format!("--include={INCLUDED}"), SUITE]).arg(&folder);
    step::run(make.args(mirror()).stdout(std::io::stderr()))?;
    Ok(folder)
}

/// This machine's mirror, if its sources name one; else debootstrap's default.
fn mirror() -> Option<String> {
    let sources = fs::read_to_string("/etc/apt/sources.list.d/debian.sources").ok()?;
    sources.lines().find_map(|line| line.strip_prefix("URIs:")).map(|mirror| mirror.trim().to_owned())
}

fn has(program: &str) -> bool {
    step::succeeds(Command::new(program).arg("--version"))
}
