//! The tutorial, command by command, with our own command line; and that it prints what the stock one prints.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;

use support::daemon::{TestDaemon, context, context_of, has_docker, run_with_input, succeeded};
use support::eventually;
use support::guests::{fixture, read_source};
use support::host::run;

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

/// The address at which a container's port is published.
#[track_caller]
fn published(daemon: &TestDaemon, container: &str) -> support::http::Client {
    let text = ok(daemon, &["port", container, "5000"]);
    support::http::Client(text.lines().next().unwrap().parse().unwrap())
}

#[test]
fn a_service_is_built_run_and_asked() {
    let daemon = TestDaemon::start();
    let context = context("digits");
    let folder = context.0.to_str().unwrap();
    let built = ok(&daemon, &["build", "-t", "digits", folder]);
    assert!(built.contains("Step 1/5 : FROM scratch"), "{built}");
    assert!(built.contains("Successfully built "), "{built}");
    let again = ok(&daemon, &["build", "-t", "digits", folder]);
    assert_eq!(again.matches(" ---> Using cache").count(), 4, "{again}");
    fs::rename(context.0.join("Dockerfile"), context.0.join("Dockerfile.cpu")).unwrap();
    ok(&daemon, &["build", "-t", "digits-cpu", folder, "-f", &format!("{folder}/Dockerfile.cpu")]);

    let id = ok(
        &daemon,
        &[
            "run",
            "-d",
            "-p",
            "127.0.0.1:0:5000",
            "--log-opt",
            "max-size=5m",
            "--log-opt",
            "max-file=5",
            "--restart",
            "always",
            "--name",
            "seven",
            "digits",
        ],
    );
    assert_eq!(id.len(), 64, "{id}");
    let answer = published(&daemon, "seven").post("/predict", &read_source("examples/digits/testdata/seven.png"));
    assert_eq!(answer.expect(200).json()["digit"], 7);
    let row = ok(&daemon, &["ps", "--format", "{{.Names}}|{{.Image}}|{{.Command}}|{{.State}}"]);
    assert_eq!(row, "seven|digits|\"/digits.wasm\"|running");
    assert!(ok(&daemon, &["images"]).contains("digits-cpu"));
    assert!(ok(&daemon, &["stats", "--no-stream", "seven"]).contains("256MiB"));
    ok(&daemon, &["stop", "seven"]);
    assert_eq!(ok(&daemon, &["ps", "-q"]), "");
    ok(&daemon, &["start", "seven"]);
    ok(&daemon, &["restart", "seven"]);
    published(&daemon, "seven").get("/").expect(200);
    let refused = daemon.wharf(&["rm", "seven"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("cannot remove container \"/seven\": container is running"), "{refused:?}");
    assert_eq!(ok(&daemon, &["rm", "-f", "seven"]), "seven");
    assert_eq!(ok(&daemon, &["ps", "-aq"]), "");
}

#[test]
fn the_tutorials_clean_up_works() {
    let daemon = TestDaemon::start();
    build(&daemon, "hello");
    ok(&daemon, &["run", "-d", "--name", "one", "hello"]);
    ok(&daemon, &["stop", "one"]);
    let asked = run_with_input(&mut daemon.wharf_command(&["container", "prune"]), b"n\n");
    assert!(asked.stdout.contains("WARNING! This will remove all stopped containers."), "{asked:?}");
    assert_eq!(ok(&daemon, &["ps", "-aq"]).lines().count(), 1, "no is no");
    let agreed = run_with_input(&mut daemon.wharf_command(&["container", "prune"]), b"y\n");
    assert!(agreed.stdout.contains("Deleted Containers:"), "{agreed:?}");
    ok(&daemon, &["image", "prune", "-f"]);
    ok(&daemon, &["tag", "hello", "other"]);
    assert!(ok(&daemon, &["rmi", "other"]).contains("Untagged: other:latest"));
    ok(&daemon, &["network", "create", "unused"]);
    assert!(ok(&daemon, &["network", "ls"]).contains("unused"));
    let pruned = ok(&daemon, &["system", "prune", "-a", "-f"]);
    assert!(pruned.contains("Deleted Networks:\nunused"), "{pruned}");
    assert_eq!(ok(&daemon, &["images", "-q"]), "");
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
fn logs_follow_and_a_shell_looks_around() {
    let daemon = TestDaemon::start();
    build(&daemon, "digits");
    ok(&daemon, &["run", "-d", "--name", "dd", "-e", "COLOUR=blue", "digits"]);
    assert_eq!(ok(&daemon, &["exec", "dd", "ls", "/"]), "digits.wasm\nmodels/");
    assert_eq!(ok(&daemon, &["exec", "dd", "bash", "-c", "cd models && ls && echo $COLOUR"]), "digits.onnx\nblue");
    let script = run_with_input(&mut daemon.wharf_command(&["exec", "-i", "dd", "sh"]), b"pwd\nexit 3\n");
    assert_eq!((script.code, script.stdout.as_str()), (Some(3), "/\n"), "{script:?}");
    assert_eq!(daemon.wharf(&["exec", "dd", "apt-get", "update"]).code, Some(127));
    let mut follow = daemon.wharf_command(&["logs", "-f", "dd"]);
    let following = std::thread::spawn(move || run(&mut follow));
    ok(&daemon, &["stop", "-t", "1", "dd"]);
    assert_eq!(following.join().unwrap().code, Some(0), "a follower sees the end");
    eventually("it has ended", || ok(&daemon, &["ps", "-q"]).is_empty());
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
