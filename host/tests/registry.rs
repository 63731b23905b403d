//! Images to and from a real registry, Debian's `docker-registry` on loopback: with and without a password, over TLS, and
//! over a line that breaks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::process::Command;

use support::daemon::{TestDaemon, context_of, run_with_input, succeeded};
use support::host::{Ended, Scratch, TestHost, WHARF, run};
use support::registry::{BrittleLine, Door, Registry};

/// The digest by which a registry knows an image.
#[track_caller]
fn repo_digest(daemon: &TestDaemon, image: &str) -> String {
    let name = daemon.ok(&["inspect", "-f", "{{index .RepoDigests 0}}", image]);
    name.split_once('@').unwrap_or_else(|| panic!("{name}")).1.to_owned()
}

#[test]
fn an_image_is_pushed_removed_and_pulled_again() {
    let Some(registry) = Registry::start(Door::Open) else { return };
    let daemon = TestDaemon::start();
    let image = registry.image("digits:1");
    daemon.build("digits", &image);
    let id = daemon.ok(&["inspect", "-f", "{{.Id}}", &image]);
    let pushed = daemon.ok(&["push", &image]);
    assert!(pushed.starts_with(&format!("The push refers to repository [{}]", registry.image("digits"))), "{pushed}");
    let digest = repo_digest(&daemon, &image);
    assert!(pushed.contains(&format!("1: digest: {digest} size: ")), "{pushed}");
    assert!(daemon.ok(&["push", &image]).contains("Layer already exists"));
    if let Some(seen) = registry.inspected("digits:1") {
        assert_eq!(seen["Digest"], digest.as_str());
        assert_eq!((&seen["Os"], &seen["Architecture"]), (&"wasi".into(), &"wasm".into()), "{seen}");
    }

    let removed = daemon.ok(&["rmi", &image]);
    assert!(removed.contains(&format!("Untagged: {image}")) && removed.contains("Deleted: sha256:"), "{removed}");
    let pulled = daemon.ok(&["pull", &image]);
    assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");
    assert!(pulled.contains(&format!("Status: Downloaded newer image for {image}")), "{pulled}");
    assert!(daemon.ok(&["pull", &image]).contains(&format!("Status: Image is up to date for {image}")));
    assert_eq!(daemon.ok(&["inspect", "-f", "{{.Id}}", &image]), id, "the same image comes back");
    assert_eq!(repo_digest(&daemon, &image), digest);

    // Another host starts it from the registry at once, by its digest.
    let elsewhere = TestDaemon::start();
    let by_digest = registry.image(&format!("digits@{digest}"));
    elsewhere.ok(&["run", "-d", "--name", "digits", "-p", "127.0.0.1:0:5000", &by_digest]);
    elsewhere.published("digits").get("/").expect(200);
}

#[test]
fn what_the_registry_lacks_is_said_in_dockers_words() {
    let Some(registry) = Registry::start(Door::Open) else { return };
    let daemon = TestDaemon::start();
    let image = registry.image("nothing:1");
    let pulled = daemon.docker(&["pull", &image]);
    assert_eq!(pulled.code, Some(1));
    assert!(pulled.stderr.contains(&format!("manifest for {image} not found")), "{pulled:?}");
    let pushed = daemon.docker(&["push", &image]);
    assert_eq!(pushed.code, Some(1));
    assert!(pushed.stderr.contains("An image does not exist locally with the tag: "), "{pushed:?}");
    let run = daemon.docker(&["run", "--rm", &image]);
    assert_eq!(run.code, Some(125), "{run:?}");
    assert!(run.stderr.contains(&format!("Unable to find image '{image}' locally")), "{run:?}");
}

#[test]
fn a_password_opens_the_registry() {
    let Some(registry) = Registry::start(Door::Password) else { return };
    let daemon = TestDaemon::start();
    let (server, image) = (registry.server(), registry.image("hello:1"));
    daemon.build("hello", &image);
    let refused = daemon.docker(&["push", &image]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("no basic auth credentials"), "{refused:?}");

    let login = |password: &str| {
        let arguments = ["login", "-u", "wharf", "--password-stdin", &server];
        run_with_input(&mut daemon.docker_command(&arguments), password.as_bytes())
    };
    let wrong = login("guess");
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.stderr.contains("unauthorized"), "{wrong:?}");
    let right = login("secret");
    assert!(right.code == Some(0) && right.stdout.contains("Login Succeeded"), "{right:?}");
    daemon.ok(&["push", &image]);
    daemon.ok(&["rmi", &image]);
    daemon.ok(&["pull", &image]);
    daemon.ok(&["logout", &server]);
    daemon.ok(&["rmi", &image]);
    let again = daemon.docker(&["pull", &image]);
    assert!(again.code == Some(1) && again.stderr.contains("no basic auth credentials"), "{again:?}");
}

/// One of the two command lines.
type Program = fn(&TestDaemon, &[&str]) -> Command;

fn ended(daemon: &TestDaemon, program: Program, arguments: &[&str], input: &str) -> Ended {
    run_with_input(&mut program(daemon, arguments), input.as_bytes())
}

#[test]
fn over_tls_a_known_authority_and_a_password_open_the_registry() {
    let Some(registry) = Registry::start(Door::Secure) else { return };
    let (server, name) = (registry.server(), registry.image("hello"));
    for program in [TestDaemon::docker_command as Program, TestDaemon::wharf_command] {
        let daemon = TestDaemon::start();
        let ok = |arguments: &[&str]| succeeded(ended(&daemon, program, arguments, ""), arguments);
        let login =
            |password: &str| ended(&daemon, program, &["login", "-u", "wharf", "--password-stdin", &server], password);
        daemon.build("hello", &format!("{name}:1"));
        daemon.ok(&["tag", &format!("{name}:1"), &format!("{name}:2")]);

        // Nobody vouches for it yet: neither the password nor the image is shown to it.
        let folder = daemon.data.0.join("certs.d").join(&server);
        for refused in [login("secret"), ended(&daemon, program, &["push", &format!("{name}:1")], "")] {
            assert_eq!(refused.code, Some(1), "{refused:?}");
            assert!(refused.stderr.contains(&format!("certs.d/{server}/ca.crt")), "{refused:?}");
        }
        fs::create_dir_all(&folder).unwrap();
        fs::copy(registry.authority(), folder.join("ca.crt")).unwrap();

        let unknown = ended(&daemon, program, &["push", &format!("{name}:1")], "");
        assert!(unknown.code == Some(1) && unknown.stderr.contains("no basic auth credentials"), "{unknown:?}");
        let wrong = login("guess");
        assert!(wrong.code == Some(1) && wrong.stderr.contains("unauthorized"), "{wrong:?}");
        let right = login("secret");
        assert!(right.code == Some(0) && right.stdout.contains("Login Succeeded"), "{right:?}");

        let pushed = ok(&["push", "-a", &name]);
        assert!(pushed.contains("1: digest: sha256:") && pushed.contains("2: digest: sha256:"), "{pushed}");
        ok(&["rmi", &format!("{name}:1"), &format!("{name}:2")]);
        assert_eq!(ok(&["images", "-q"]), "");
        let pulled = ok(&["pull", "-a", &name]);
        assert!(pulled.contains(&format!("Status: Downloaded newer image for {name}")), "{pulled}");
        assert_eq!(pulled.lines().last(), Some(name.as_str()), "{pulled}");
        let mut tags: Vec<String> = ok(&["images", "--format", "{{.Tag}}", &name]).lines().map(str::to_owned).collect();
        tags.sort();
        assert_eq!(tags, ["1", "2"]);
        for verb in ["pull", "push"] {
            let both = ended(&daemon, program, &[verb, "-a", &format!("{name}:1")], "");
            assert!(both.code == Some(1) && both.stderr.contains("tag can't be used with --all-tags/-a"), "{both:?}");
        }

        let left = ok(&["logout", &server]);
        assert!(left.contains(&format!("Removing login credentials for {server}")), "{left}");
        let again = ended(&daemon, program, &["pull", &format!("{name}:1")], "");
        assert!(again.code == Some(1) && again.stderr.contains("no basic auth credentials"), "{again:?}");
    }
}

#[test]
fn a_download_that_was_cut_goes_on_where_it_broke_off() {
    let Some(registry) = Registry::start(Door::Open) else { return };
    let daemon = TestDaemon::start();
    daemon.build("digits", &registry.image("digits:1"));
    daemon.ok(&["push", &registry.image("digits:1")]);
    let line = BrittleLine::to(&registry, 32 << 10);
    let elsewhere = TestDaemon::start();
    let image = format!("localhost:{}/digits:1", line.address.port());
    let pulled = elsewhere.ok(&["pull", &image]);
    assert!(pulled.contains(&format!("Status: Downloaded newer image for {image}")), "{pulled}");
    assert!(line.is_broken(), "no layer was long enough to be cut");
    let from = line.asked();
    let from = from.lines().find_map(|line| line.strip_prefix("range: bytes=")).map(str::to_owned);
    let from: u64 = from.and_then(|range| range.trim_end_matches('-').parse().ok()).expect("it asked for the rest");
    assert!(from > 0);
    elsewhere.ok(&["run", "-d", "--name", "digits", "-p", "127.0.0.1:0:5000", &image]);
    elsewhere.published("digits").get("/").expect(200);
}

#[test]
fn compose_pulls_what_its_file_names() {
    let Some(registry) = Registry::start(Door::Open) else { return };
    let daemon = TestDaemon::start();
    let image = registry.image("hello:1");
    daemon.build("hello", &image);
    daemon.ok(&["push", &image]);
    daemon.ok(&["rmi", &image]);
    let file = Scratch::new();
    file.file("docker-compose.yml", format!("services:\n  a: {{image: '{image}'}}\n").as_bytes());
    let compose = |verb: &[&str]| {
        let mut command = daemon.wharf_command(&["compose", "-p", "pulled"]);
        succeeded(run(command.args(verb).current_dir(&file.0)), verb)
    };
    compose(&["pull"]);
    assert_eq!(daemon.ok(&["images", "-q"]).lines().count(), 1);
    compose(&["up", "-d"]);
    assert_eq!(daemon.ok(&["ps", "--format", "{{.Names}}"]), "pulled-a-1");
    compose(&["down"]);
}

#[test]
fn serve_pulls_the_image_that_it_is_to_run() {
    let Some(registry) = Registry::start(Door::Open) else { return };
    let image = registry.image("hello:1");
    {
        let daemon = TestDaemon::start();
        daemon.build("hello", &image);
        daemon.ok(&["push", &image]);
    }
    let data = Scratch::new();
    let mut command = Command::new(WHARF);
    command.args(["serve", "--http", "127.0.0.1:0", "-p", "127.0.0.1:0:5000", "--log-format", "json", "--data"]);
    let host = TestHost::start(command.arg(&data.0).arg(&image));
    host.service("hello").get("/").expect(200);
    assert!(host.log().text().contains(&format!("Unable to find image '{image}' locally")));
    assert_eq!(host.stop(), Some(0));
}

#[test]
fn a_terminal_sees_bars_and_a_pipe_lines() {
    let Some(registry) = Registry::start(Door::Open) else { return };
    let daemon = TestDaemon::start();
    let image = registry.image("digits:1");
    daemon.build("digits", &image);
    daemon.ok(&["push", &image]);
    daemon.ok(&["rmi", &image]);
    let piped = succeeded(daemon.wharf(&["pull", &image]), &["pull"]);
    assert!(piped.contains(": Pull complete\n") && !piped.contains('\x1b'), "{piped:?}");
    daemon.ok(&["rmi", &image]);
    let on_terminal = |typed: &str| {
        let mut script = Command::new("script");
        let wharf = daemon.wharf_command(&[]);
        script.envs(wharf.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let line = format!("stty cols 100 rows 40; {WHARF} {typed}");
        let seen = run_with_input(script.env("TERM", "xterm").args(["-qec", &line, "/dev/null"]), b"");
        assert_eq!(seen.code, Some(0), "{seen:?}");
        seen.stdout
    };
    let seen = on_terminal(&format!("pull {image}"));
    assert!(seen.contains("\x1b["), "no bar moved: {seen:?}");
    assert!(seen.contains(": Pull complete [") && !seen.contains(": Pull complete\r\n"), "{seen:?}");
    // A build's steps are lines there too; the layers of its base are bars.
    daemon.ok(&["rmi", &image]);
    let context = context_of(&format!("FROM {image}\nLABEL built=on-it\n"), &[]);
    let seen = on_terminal(&format!("build -t derived {}", context.0.display()));
    for words in
        [&format!("Step 1/2 : FROM {image}\r\n"), ": Pull complete [", "Successfully tagged derived:latest\r\n"]
    {
        assert!(seen.contains(words), "{words:?} is not in {seen:?}");
    }
}
