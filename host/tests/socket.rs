//! Who may speak to the control socket: its owner and its group, and no other user of the machine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use support::daemon::{TestDaemon, has_docker};
use support::guests::skip;
use support::host::{Ended, run};

/// Users that own nothing here.
const STRANGER: u32 = 54_321;
const GROUP: u32 = 54_322;

/// A folder that every user may enter, unlike those in which tests usually work. Gone when dropped.
struct Public(std::path::PathBuf);

impl Public {
    fn new() -> Public {
        let folder = std::env::temp_dir().join(format!("wharf-socket-test-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        Public(folder)
    }
}

impl Drop for Public {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `docker version` of another user.
fn asks(socket: &Path, user: u32, group: u32) -> Ended {
    let mut command = Command::new("docker");
    command.env("DOCKER_HOST", format!("unix://{}", socket.display())).env("DOCKER_CONFIG", "/nowhere");
    command.env_remove("DOCKER_CONTEXT").args(["version", "--format", "{{.Server.Os}}"]);
    // The standard library gives up the other groups when it changes the user.
    run(command.current_dir("/").uid(user).gid(group))
}

#[test]
fn other_users_are_refused_and_the_group_is_not() {
    if !has_docker() {
        return;
    }
    let public = Public::new();
    let socket = public.0.join("wharf.sock");
    let daemon = TestDaemon::start_with(&["--socket", socket.to_str().unwrap()]);
    let made = fs::metadata(&socket).unwrap();
    assert_eq!(made.permissions().mode() & 0o777, 0o660);
    if made.uid() != 0 {
        return skip("these tests do not run as root: nobody else asks the control socket");
    }
    let refused = asks(&socket, STRANGER, STRANGER);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("permission denied"), "EACCES, and nothing else: {refused:?}");

    // As people do it for Docker: a group of its own.
    std::os::unix::fs::chown(&socket, None, Some(GROUP)).unwrap();
    let member = asks(&socket, STRANGER, GROUP);
    assert_eq!((member.code, member.stdout.trim()), (Some(0), "linux"), "{member:?}");
    assert_eq!(asks(&socket, STRANGER, STRANGER).code, Some(1));
    drop(daemon);
}
