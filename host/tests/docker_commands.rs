//! Every command of the stock `docker` command line that the tutorial does not need: jobs, states, networks, volumes,
//! and the tables people read, pinned in `golden/` with ids, ages and sizes masked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use support::daemon::{TestDaemon, context_of, has_docker, run_with_input};
use support::guests::fixture;
use support::host::Scratch;
use support::{eventually, golden};

const JOB: &str = "FROM scratch\nCOPY job.wasm /\nENTRYPOINT [\"/job.wasm\"]\n";

/// A host with the image `job`, or a loud skip.
fn with_job() -> Option<TestDaemon> {
    if !has_docker() {
        return None;
    }
    let daemon = TestDaemon::start();
    let context = context_of(JOB, &[("job.wasm", &fixture("job"))]);
    daemon.ok(&["build", "-q", "-t", "job", context.0.to_str().unwrap()]);
    Some(daemon)
}

/// A host with the image `hello`, or a loud skip.
fn with_hello() -> Option<TestDaemon> {
    if !has_docker() {
        return None;
    }
    let daemon = TestDaemon::start();
    daemon.build("hello", "hello");
    Some(daemon)
}

/// What a command prints, compared to `golden/docker-NAME.txt`.
#[track_caller]
fn looks(daemon: &TestDaemon, name: &str, arguments: &[&str]) {
    golden::matches(&format!("docker-{name}.txt"), &golden::masked(&daemon.ok(arguments)));
}

/// A field of `docker inspect`.
#[track_caller]
fn field(daemon: &TestDaemon, name: &str, field: &str) -> String {
    daemon.ok(&["inspect", "-f", &format!("{{{{{field}}}}}"), name])
}

#[track_caller]
fn fails(daemon: &TestDaemon, arguments: &[&str], code: i32, words: &str) {
    let ended = daemon.docker(arguments);
    assert!(ended.code == Some(code) && ended.stderr.contains(words), "{arguments:?}: {ended:?}");
}

#[test]
fn a_job_in_the_foreground_speaks_and_ends_with_its_code() {
    let Some(daemon) = with_job() else { return };
    let said = daemon.docker(&["run", "--rm", "job", "echo", "one", "two"]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (Some(0), "one two\n", ""));
    let warned = daemon.docker(&["run", "--rm", "job", "warn", "careful"]);
    assert_eq!((warned.code, warned.stdout.as_str(), warned.stderr.as_str()), (Some(0), "", "careful\n"));
    for code in [1, 3, 42] {
        assert_eq!(daemon.docker(&["run", "--rm", "job", "exit", &code.to_string()]).code, Some(code));
    }
    let piped = run_with_input(&mut daemon.docker_command(&["run", "--rm", "-i", "job", "cat"]), b"through\n");
    assert_eq!((piped.code, piped.stdout.as_str()), (Some(0), "through\n"), "{piped:?}");
    assert_eq!(daemon.ok(&["run", "--rm", "job", "lines", "2000"]).lines().count(), 2000);
    assert_eq!(daemon.ok(&["ps", "-aq"]), "", "--rm leaves nothing");
    let trapped = daemon.docker(&["run", "--name", "trapped", "job", "trap"]);
    assert!(trapped.code.is_some_and(|code| code > 0) && trapped.stderr.contains("unreachable"), "{trapped:?}");
}

#[test]
fn a_job_gets_its_variables_and_folders() {
    let Some(daemon) = with_job() else { return };
    let scratch = Scratch::new();
    let variables = scratch.file("variables", b"# colours\nSEA=green\n");
    let (variables, folder) = (variables.to_str().unwrap(), scratch.0.to_str().unwrap());
    let shown = daemon.ok(&["run", "--rm", "-e", "SKY=blue", "--env-file", variables, "-w", "/there", "job"]);
    assert!(shown.contains("SKY=blue") && shown.contains("SEA=green") && shown.contains("folder: /there"), "{shown}");

    let mounted = format!("{folder}:/in:ro");
    let read = daemon.ok(&["run", "--rm", "-v", &mounted, "job", "cat", "/in/variables"]);
    assert_eq!(read, "# colours\nSEA=green");
    fails(&daemon, &["run", "--rm", "-v", &mounted, "job", "write", "/in/new", "x"], 1, "cannot open /in/new");
    let mounted = format!("type=bind,source={folder},target=/out");
    daemon.ok(&["run", "--rm", "--mount", &mounted, "job", "write", "/out/new", "fresh"]);
    assert_eq!(std::fs::read_to_string(scratch.0.join("new")).unwrap(), "fresh\n");

    daemon.ok(&["run", "--rm", "-v", "kept:/v", "job", "write", "/v/note", "still here"]);
    assert_eq!(daemon.ok(&["run", "--rm", "-v", "kept:/v", "job", "cat", "/v/note"]), "still here");
    let missing = "type=bind,source=/nowhere-at-all,target=/x";
    fails(&daemon, &["run", "--rm", "--mount", missing, "job"], 125, "/nowhere-at-all");
}

#[test]
fn a_container_is_created_started_attached_and_waited_for() {
    let Some(daemon) = with_job() else { return };
    assert_eq!(daemon.ok(&["create", "--name", "once", "job", "echo", "hi"]).len(), 64);
    assert_eq!(field(&daemon, "once", ".State.Status"), "created");
    let started = daemon.docker(&["start", "-a", "once"]);
    assert_eq!((started.code, started.stdout.as_str()), (Some(0), "hi\n"), "{started:?}");
    assert_eq!(daemon.ok(&["start", "once"]), "once");
    eventually("it ran twice", || daemon.ok(&["logs", "once"]) == "hi\nhi");
    assert_eq!(daemon.ok(&["wait", "once"]), "0");

    daemon.ok(&["run", "-d", "--name", "slow", "job", "sleep", "1500"]);
    let attached = daemon.docker(&["attach", "slow"]);
    assert_eq!((attached.code, attached.stdout.as_str()), (Some(0), "slept\n"), "{attached:?}");
    daemon.ok(&["run", "-d", "--name", "spun", "job", "spin"]);
    let mut wait = daemon.docker_command(&["wait", "spun"]);
    let waiting = std::thread::spawn(move || support::host::run(&mut wait));
    daemon.ok(&["kill", "spun"]);
    assert_eq!(waiting.join().unwrap().stdout, "137\n");
    let restarted = daemon.ok(&["run", "-d", "--restart", "on-failure:2", "job", "exit", "5"]);
    eventually("it was tried three times", || field(&daemon, &restarted, ".State.Status") == "exited");
    assert_eq!(field(&daemon, &restarted, ".RestartCount"), "2");
    fails(&daemon, &["start", "nobody"], 1, "No such container: nobody");
}

#[test]
fn a_container_changes_its_state_as_told() {
    let Some(daemon) = with_hello() else { return };
    daemon.ok(&["run", "-d", "--name", "one", "-p", "127.0.0.1:0:5000", "hello"]);
    daemon.ok(&["pause", "one"]);
    assert!(daemon.ok(&["ps", "--format", "{{.Status}}"]).ends_with("(Paused)"));
    fails(&daemon, &["pause", "one"], 1, "is already paused");
    daemon.ok(&["unpause", "one"]);
    daemon.published("one").get("/").expect(200);
    fails(&daemon, &["unpause", "one"], 1, "is not paused");
    daemon.ok(&["rename", "one", "renamed"]);
    assert_eq!(field(&daemon, "renamed", ".Name"), "/renamed");
    fails(&daemon, &["inspect", "--type", "container", "one"], 1, "No such container: one");
    daemon.ok(&["update", "--memory", "128m", "--memory-swap", "128m", "--restart", "unless-stopped", "renamed"]);
    let updated = field(&daemon, "renamed", ".HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name");
    assert_eq!(updated, "134217728 unless-stopped");
    daemon.ok(&["kill", "-s", "TERM", "renamed"]);
    eventually("the signal ended it", || field(&daemon, "renamed", ".State.Running") == "false");
    fails(&daemon, &["kill", "renamed"], 1, "is not running");
    fails(&daemon, &["start", "-a", "nobody"], 1, "No such container: nobody");
    daemon.ok(&["start", "renamed"]);
    daemon.ok(&["stop", "-s", "SIGINT", "-t", "3", "renamed"]);
    assert_eq!(field(&daemon, "renamed", ".State.ExitCode"), "130");
    fails(&daemon, &["rm", "nobody"], 1, "No such container: nobody");
    daemon.ok(&["rm", "-v", "renamed"]);
}

#[test]
fn tables_of_containers_look_like_dockers() {
    let Some(daemon) = with_hello() else { return };
    daemon.ok(&["run", "-d", "--name", "first", "-l", "tier=front", "-p", "127.0.0.1:0:5000", "hello"]);
    daemon.ok(&["create", "--name", "second", "hello"]);
    daemon.ok(&["run", "-d", "--name", "third", "hello", "--quiet"]);
    daemon.ok(&["stop", "third"]);
    looks(&daemon, "ps", &["ps"]);
    looks(&daemon, "ps-all", &["ps", "-a"]);
    looks(&daemon, "ps-size", &["ps", "-s", "-n", "1"]);
    looks(&daemon, "top", &["top", "first"]);
    looks(&daemon, "port", &["port", "first"]);
    looks(&daemon, "stats", &["stats", "--no-stream"]);
    looks(&daemon, "images", &["images"]);
    looks(&daemon, "history", &["history", "hello"]);
    looks(&daemon, "system-df", &["system", "df"]);
    let names = |filter: &str| daemon.ok(&["ps", "-a", "--format", "{{.Names}}", "--filter", filter]);
    for (filter, expected) in [
        ("status=created", "second"),
        ("status=exited", "third"),
        ("label=tier=front", "first"),
        ("name=thi", "third"),
        ("ancestor=hello", "third\nsecond\nfirst"),
        ("exited=143", "third"),
        ("publish=5000", "first"),
    ] {
        assert_eq!(names(filter), expected, "{filter}");
    }
    let first = daemon.ok(&["ps", "-q", "--filter", "name=first"]);
    for (filter, expected) in [
        (format!("id={first}"), "first"),
        ("before=second".to_owned(), "first"),
        ("since=first".to_owned(), "third\nsecond"),
        ("network=bridge".to_owned(), "third\nsecond\nfirst"),
        ("volume=nothing".to_owned(), ""),
    ] {
        assert_eq!(names(&filter), expected, "{filter}");
    }
    fails(&daemon, &["ps", "--filter", "colour=red"], 1, "invalid filter 'colour'");
    assert_eq!(daemon.ok(&["ps", "-lq", "--no-trunc"]).len(), 64);
    assert_eq!(daemon.ok(&["diff", "first"]), "", "a container's files are its image's");
    assert!(daemon.ok(&["port", "first", "5000"]).starts_with("127.0.0.1:"));

    let mut watch = daemon.docker_command(&["stats", "--format", "{{.Name}}"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("first")));
    let _ = watch.kill();
    let _ = watch.wait();
}

#[test]
fn anything_is_inspected_by_its_name() {
    let Some(daemon) = with_hello() else { return };
    daemon.ok(&["volume", "create", "store"]);
    let id = field(&daemon, "hello", ".Id");
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(field(&daemon, &id[7..19], ".Os}}/{{.Architecture"), "wasi/wasm");
    assert_eq!(daemon.ok(&["image", "inspect", "-f", "{{.Config.Entrypoint}}", "hello"]), "[/hello.wasm]");
    assert_eq!(field(&daemon, "bridge", ".Driver"), "bridge");
    assert_eq!(field(&daemon, "store", ".Name"), "store");
    fails(&daemon, &["inspect", "nothing"], 1, "No such object: nothing");
    fails(&daemon, &["image", "inspect", "nothing"], 1, "No such image: nothing");
    fails(&daemon, &["network", "inspect", "nothing"], 1, "network nothing not found");
    fails(&daemon, &["volume", "inspect", "nothing"], 1, "no such volume");
}

#[test]
fn networks_are_made_joined_and_left() {
    let Some(daemon) = with_hello() else { return };
    daemon.ok(&["network", "create", "--subnet", "10.9.0.0/16", "--label", "of=test", "net"]);
    looks(&daemon, "network-ls", &["network", "ls"]);
    fails(&daemon, &["network", "create", "net"], 1, "network with name net already exists");
    fails(&daemon, &["network", "rm", "bridge"], 1, "bridge is a pre-defined network and cannot be removed");
    daemon.ok(&["run", "-d", "--name", "one", "hello"]);
    daemon.ok(&["network", "connect", "--alias", "other", "net", "one"]);
    let address = field(&daemon, "one", ".NetworkSettings.Networks.net.IPAddress");
    assert!(address.starts_with("10.9."), "{address}");
    assert!(field(&daemon, "one", ".NetworkSettings.Networks.net.Aliases").contains("other"));
    daemon.ok(&["network", "disconnect", "net", "one"]);
    assert_eq!(daemon.ok(&["network", "inspect", "-f", "{{len .Containers}}", "net"]), "0");
    fails(&daemon, &["run", "-d", "--network", "nowhere", "hello"], 125, "network nowhere not found");
    assert_eq!(daemon.ok(&["network", "ls", "-q", "--filter", "label=of=test"]).lines().count(), 1);
    assert!(daemon.ok(&["network", "prune", "-f"]).contains("Deleted Networks:\nnet"));
}

#[test]
fn volumes_are_made_used_and_removed() {
    let Some(daemon) = with_job() else { return };
    assert_eq!(daemon.ok(&["volume", "create", "--label", "of=test", "store"]), "store");
    looks(&daemon, "volume-ls", &["volume", "ls"]);
    daemon.ok(&["create", "--name", "user", "-v", "store:/s", "job"]);
    fails(&daemon, &["volume", "rm", "store"], 1, "volume is in use");
    daemon.ok(&["rm", "user"]);
    assert_eq!(daemon.ok(&["volume", "rm", "store"]), "store");
    fails(&daemon, &["volume", "rm", "store"], 1, "no such volume");
    daemon.ok(&["volume", "create", "left"]);
    assert!(daemon.ok(&["volume", "prune", "-a", "-f"]).contains("Deleted Volumes:\nleft"));
    daemon.ok(&["run", "--rm", "-v", "/anonymous", "job", "echo", "x"]);
    assert_eq!(daemon.ok(&["volume", "ls", "-q"]), "", "an anonymous volume goes with --rm");
}

#[test]
fn the_system_tells_of_itself() {
    let Some(daemon) = with_job() else { return };
    let version = daemon.ok(&["version", "--format", "{{.Server.APIVersion}} {{.Server.Os}}"]);
    assert!(version.ends_with(" linux"), "{version}");
    assert!(daemon.ok(&["version"]).contains("Server:"));
    daemon.ok(&["run", "--name", "done", "job", "echo", "x"]);
    let info =
        daemon.ok(&["info", "--format", "{{.Containers}} {{.ContainersStopped}} {{.Images}} {{.LoggingDriver}}"]);
    assert_eq!(info, "1 1 1 json-file");
    assert!(daemon.ok(&["system", "info"]).contains("Default Runtime:"));
    // The client rounds times down to seconds, so that only the next one is sure to come after all there is.
    let events = |more: &[&str]| {
        daemon.ok(&[&["events", "--since=1h", "--until=-1s", "--format", "{{.Type}} {{.Action}}"], more].concat())
    };
    assert_eq!(events(&["--filter", "type=image", "--filter", "event=tag"]), "image tag");
    let seen = events(&["--filter", "container=done"]);
    let actions: Vec<&str> = seen.lines().filter(|line| line.starts_with("container ")).collect();
    assert_eq!(actions, ["create", "attach", "start", "die"].map(|action| format!("container {action}")));
    daemon.ok(&["builder", "prune", "-f"]);
    daemon.ok(&["container", "prune", "-f"]);
    assert!(daemon.ok(&["image", "prune", "-a", "-f"]).contains("untagged: job:latest"));
}

#[test]
fn flags_of_run_are_what_inspect_shows() {
    let Some(daemon) = with_hello() else { return };
    let flags =
        "--memory 64m --cpus 1.5 --restart on-failure:3 --log-opt max-size=1m --log-opt max-file=2 --label of=test";
    let run: Vec<&str> = ["run", "-d", "--name", "all"].into_iter().chain(flags.split(' ')).chain(["hello"]).collect();
    daemon.ok(&run);
    for (template, expected) in [
        (".HostConfig.Memory}} {{.HostConfig.NanoCpus", "67108864 1500000000"),
        (".HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount", "on-failure 3"),
        ("json .HostConfig.LogConfig.Config", r#"{"max-file":"2","max-size":"1m"}"#),
        (".Config.Labels.of", "test"),
    ] {
        assert_eq!(field(&daemon, "all", template), expected, "{template}");
    }
    fails(&daemon, &["run", "-d", "--restart", "sometimes", "hello"], 125, "invalid restart policy");
    fails(&daemon, &["run", "-d", "--memory", "1k", "hello"], 125, "Minimum memory limit");
}

/// As the tutorial has them, and what people carry over from Linux containers.
#[test]
fn flags_for_linux_and_graphics_cards_are_answered_plainly() {
    let Some(daemon) = with_hello() else { return };
    for flags in [["--gpus", "all", "--ipc=host"], ["--runtime", "nvidia", "--ipc=host"]] {
        let run = daemon.docker(&[&["run", "-d"], flags.as_slice(), &["-p", "127.0.0.1:0:5000", "hello"]].concat());
        let has_none = run.code == Some(125) && run.stderr.contains("could not select device driver \"\" with cap");
        assert!(run.code == Some(0) || has_none, "{flags:?}: {run:?}");
        assert!(run.stderr.contains("WARNING: --ipc has no effect here"), "{run:?}");
    }
    let run = daemon.docker(&["run", "-d", "--privileged", "-u", "1000", "-P", "--cpus", "0.5", "hello"]);
    assert!(run.code == Some(0) && run.stderr.contains("WARNING: --privileged has no effect here"), "{run:?}");
    daemon.published(run.stdout.trim()).get("/").expect(200);
    fails(&daemon, &["run", "--runtime", "made-up", "hello"], 125, "unknown or invalid runtime name: made-up");
    fails(&daemon, &["run", "--device", "/dev/snd", "hello"], 125, "device \"/dev/snd\" is not available");
}

#[test]
fn a_health_check_shows_in_ps() {
    let Some(daemon) = with_hello() else { return };
    daemon.ok(&["run", "-d", "--name", "well", "--health-cmd", "/", "--health-interval", "1s", "hello"]);
    daemon.ok(&["run", "-d", "--name", "ill", "--health-cmd", "/missing", "--health-interval", "1s", "hello"]);
    let health = |name: &str| field(&daemon, name, ".State.Health.Status");
    eventually("it is well", || health("well") == "healthy");
    assert!(daemon.ok(&["ps", "--filter", "health=healthy"]).contains("(healthy)"));
    eventually("the other is ill", || health("ill") == "unhealthy");
    assert_eq!(daemon.ok(&["ps", "--filter", "health=unhealthy", "--format", "{{.Names}}"]), "ill");
}

#[test]
fn a_health_check_may_be_another_component_of_the_image() {
    let Some(daemon) = with_job() else { return };
    for (code, expected) in [(0, "healthy"), (1, "unhealthy")] {
        let dockerfile = format!(
            "FROM scratch\nCOPY app.wasm job.wasm /\nENTRYPOINT [\"/app.wasm\"]\n\
             HEALTHCHECK --interval=1s --retries=1 CMD [\"/job.wasm\", \"exit\", \"{code}\"]\n"
        );
        let context = context_of(&dockerfile, &[("app.wasm", &fixture("misbehave")), ("job.wasm", &fixture("job"))]);
        daemon.ok(&["build", "-q", "-t", expected, context.0.to_str().unwrap()]);
        daemon.ok(&["run", "-d", "--name", expected, expected]);
        eventually(expected, || field(&daemon, expected, ".State.Health.Status") == expected);
    }
}

#[test]
fn what_is_not_offered_says_what_to_do_instead() {
    let Some(daemon) = with_hello() else { return };
    daemon.ok(&["create", "--name", "one", "hello"]);
    fails(&daemon, &["commit", "one"], 1, "use docker build");
    fails(&daemon, &["search", "one"], 1, "search is not offered");
}

#[test]
fn logs_are_chosen_by_time() {
    let Some(daemon) = with_job() else { return };
    daemon.ok(&["run", "--name", "lines", "job", "lines", "3"]);
    assert_eq!(daemon.ok(&["logs", "--since", "10m", "lines"]), "line 1\nline 2\nline 3");
    assert_eq!(daemon.ok(&["logs", "--until", "10m", "lines"]), "");
    let stamped = daemon.ok(&["logs", "-t", "lines"]);
    let stamps: Vec<&str> = stamped.lines().map(|line| line.split_once(' ').unwrap().0).collect();
    assert!(stamps.is_sorted() && stamps.iter().all(|stamp| stamp.len() == "2026-01-02T03:04:05.123456789Z".len()));
    // The three may carry one stamp only where the clock is coarse; from the first on there are always all.
    assert_eq!(daemon.ok(&["logs", "--since", stamps[0], "lines"]).lines().count(), 3);
    let before_last = stamps.iter().filter(|stamp| *stamp <= &stamps[1]).count();
    assert_eq!(daemon.ok(&["logs", "--until", stamps[1], "lines"]).lines().count(), before_last);
    assert_eq!(daemon.ok(&["logs", "--tail", "0", "lines"]), "");
    assert_eq!(
        daemon.ok(&["logs", "-f", "-n", "2", "lines"]),
        "line 2\nline 3",
        "a follower of an ended container ends"
    );
    fails(&daemon, &["logs", "nobody"], 1, "No such container: nobody");
}

/// As the tutorial has it: `docker exec -it NAME bash`, on a terminal.
#[test]
fn a_terminal_gets_a_shell() {
    let Some(daemon) = with_job() else { return };
    let context =
        context_of("FROM job\nCOPY note /\n", &[("note", &support::guests::source("examples/hello/Dockerfile"))]);
    daemon.ok(&["build", "-q", "-t", "noted", context.0.to_str().unwrap()]);
    daemon.ok(&["run", "-d", "--name", "noted", "noted", "sleep", "600000"]);
    let mut shell = Command::new("script");
    let docker = daemon.docker_command(&[]);
    shell.envs(docker.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.args(["-qec", "docker exec -it noted bash", "/dev/null"]);
    let said = run_with_input(&mut shell, b"ls /\rexit 7\r");
    assert!(said.stdout.contains("job.wasm") && said.stdout.contains("note"), "{said:?}");
    assert_eq!(said.code, Some(7), "{said:?}");
    assert_eq!(daemon.ok(&["exec", "noted", "/job.wasm", "echo", "beside"]), "beside");
    daemon.ok(&["exec", "-d", "noted", "/job.wasm", "echo", "unheard"]);
    daemon.ok(&["exec", "-e", "A=1", "noted", "/job.wasm", "env", "A"]);
    daemon.ok(&["rm", "-f", "noted"]);
}
