//! Our own command line: jobs, exit codes, and that it prints what the stock one prints.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use support::daemon::{TestDaemon, context, context_of, has_docker, run_with_input, succeeded};
use support::eventually;
use support::guests::fixture;

/// `wharf …`, which must succeed; what it printed, trimmed.
#[track_caller]
fn ok(daemon: &TestDaemon, arguments: &[&str]) -> String {
    succeeded(daemon.wharf(arguments), arguments)
}

#[track_caller]
fn build(daemon: &TestDaemon, example: &str) {
    let context = context(example);
    ok(daemon, &["build", "-t", example, context.0.to_str().unwrap()]);
}

#[test]
fn a_job_speaks_and_ends_with_its_code() {
    let daemon = TestDaemon::start();
    let dockerfile = "FROM scratch\nCOPY job.wasm /\nENTRYPOINT [\"/job.wasm\"]\n";
    let image = context_of(dockerfile, &[("job.wasm", &fixture("job"))]);
    ok(&daemon, &["build", "-q", "-t", "job", image.0.to_str().unwrap()]);
    let said = daemon.wharf(&["run", "--rm", "job", "echo", "one", "two"]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (Some(0), "one two\n", ""));
    let warned = daemon.wharf(&["run", "--rm", "job", "warn", "careful"]);
    assert_eq!((warned.stdout.as_str(), warned.stderr.as_str()), ("", "careful\n"));
    assert_eq!(daemon.wharf(&["run", "--rm", "job", "exit", "42"]).code, Some(42));
    let piped = run_with_input(&mut daemon.wharf_command(&["run", "--rm", "-i", "job", "cat"]), b"through\n");
    assert_eq!((piped.code, piped.stdout.as_str()), (Some(0), "through\n"), "{piped:?}");
    ok(&daemon, &["run", "--name", "kept", "job", "echo", "hi"]);
    assert_eq!(ok(&daemon, &["logs", "kept"]), "hi");
    assert_eq!(ok(&daemon, &["wait", "kept"]), "0");
}

#[test]
fn mistakes_get_dockers_codes() {
    let mut daemon = TestDaemon::start();
    for (arguments, code) in [
        (&["run", "--nope"][..], 125),
        (&["ps", "--nope"], 125),
        (&["ps", "--filter", "x"], 125),
        (&["run"], 1),
        (&["nonsense"], 1),
        (&["run", "--rm", "--pull", "never", "nothing"], 125),
        (&["stop", "nobody"], 1),
        (&["inspect", "nobody"], 1),
        (&["login"], 1),
    ] {
        assert_eq!(daemon.wharf(arguments).code, Some(code), "{arguments:?}");
    }
    daemon.kill();
    let refused = daemon.wharf(&["ps"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("is `wharf serve` running? looked at /"), "{refused:?}");
}

#[test]
fn it_prints_what_docker_prints() {
    if !has_docker() {
        return;
    }
    let daemon = TestDaemon::start();
    build(&daemon, "hello");
    ok(&daemon, &["run", "-d", "--name", "web", "-l", "a=b", "-p", "127.0.0.1:0:5000", "hello"]);
    ok(&daemon, &["network", "create", "net"]);
    ok(&daemon, &["volume", "create", "vol"]);
    for line in [
        "ps -a --no-trunc",
        "ps -aq",
        "ps -s",
        "images --no-trunc",
        "images -q",
        "images --digests",
        "history hello",
        "history -q hello",
        "network ls",
        "network ls --format json",
        "network inspect net",
        "volume ls",
        "volume ls --format json",
        "volume inspect vol",
        "inspect web",
        "inspect hello",
        "inspect nobody",
        "port web",
        "top web",
        "system df",
        "version --format {{.Server.Version}}",
        "info --format {{.ServerVersion}}",
        "stop nobody",
        "rmi nobody",
        "logs nobody",
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        // Ages may pass a second between the two.
        let same = || {
            let (docker, wharf) = (daemon.docker(&arguments), daemon.wharf(&arguments));
            (docker.code, docker.stdout, docker.stderr) == (wharf.code, wharf.stdout, wharf.stderr)
        };
        eventually(&format!("wharf {line} prints what docker {line} prints"), same);
    }
}
