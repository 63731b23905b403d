//! Python with the packages a test's helper needs, in a venv that later runs find ready.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::guests::{read_source, source};

/// The interpreter of the venv `name` with what the file `requirements` of the repository lists, or what went wrong
/// when that was installed. For one caller at a time.
pub fn venv(name: &str, requirements: &str) -> Result<PathBuf, String> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (stamp, program) = (venv.join("requirements.txt"), venv.join("bin/python"));
    let wanted = read_source(requirements);
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(program);
    }
    step(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut pip = Command::new(&program);
    step(pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r"]).arg(source(requirements)))?;
    fs::write(&stamp, wanted).unwrap();
    Ok(program)
}

fn step(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {said}")) }
}
