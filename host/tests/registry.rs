//! Images to and from a real registry, Debian's `docker-registry` on loopback, with and without a password.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::daemon::{TestDaemon, has_docker, run_with_input};
use support::eventually;
use support::guests::skip;
use support::host::{Scratch, run};
use support::http::Client;

/// `wharf` with the password `secret`, by bcrypt.
const PASSWORDS: &str = "wharf:$2y$05$XOSzmXGdokRCisCP5loJ6OAf6jhm6iTJOQYddRl6jMg7m1CkHAvCq\n";

/// A registry of its own. Killed when dropped.
struct Registry {
    child: Child,
    address: SocketAddr,
    _folder: Scratch,
}

impl Registry {
    /// `None`, after a loud remark, where a program is missing.
    fn start(with_password: bool) -> Option<Registry> {
        let missing = |program: &str| {
            let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            found.is_err()
        };
        if !has_docker() {
            return None;
        }
        if missing("docker-registry") {
            skip("no docker-registry on the PATH: nothing is pushed or pulled");
            return None;
        }
        let folder = Scratch::new();
        // Free a moment ago; the registry cannot be asked for the port it would choose.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let store = folder.0.join("store");
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: {address}\n",
            store.display()
        );
        if with_password {
            let passwords = folder.file("passwords", PASSWORDS.as_bytes());
            config += &format!("auth:\n  htpasswd:\n    realm: wharf\n    path: {}\n", passwords.display());
        }
        let config = folder.file("config.yml", config.as_bytes());
        let mut command = Command::new("docker-registry");
        let child = command.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let registry = Registry { child, address, _folder: folder };
        eventually("the registry listens", || Client(address).is_listening());
        Some(registry)
    }

    fn image(&self, name: &str) -> String {
        format!("localhost:{}/{name}", self.address.port())
    }

    /// What skopeo says of an image there.
    #[track_caller]
    fn inspected(&self, name: &str) -> Option<Value> {
        let reference = format!("docker://{}", self.image(name));
        let arguments = ["inspect", "--override-os", "wasi", "--override-arch", "wasm", "--tls-verify=false"];
        let skopeo = Command::new("skopeo").arg("--version").stdout(Stdio::null()).status();
        if skopeo.is_err() {
            skip("no skopeo on the PATH: it does not look at what was pushed");
            return None;
        }
        let ended = run(Command::new("skopeo").args(arguments).arg(reference));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        Some(serde_json::from_str(&ended.stdout).unwrap())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The digest by which a registry knows an image.
#[track_caller]
fn repo_digest(daemon: &TestDaemon, image: &str) -> String {
    let name = daemon.ok(&["inspect", "-f", "{{index .RepoDigests 0}}", image]);
    name.split_once('@').unwrap_or_else(|| panic!("{name}")).1.to_owned()
}

#[test]
fn an_image_is_pushed_removed_and_pulled_again() {
    let Some(registry) = Registry::start(false) else { return };
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
    let Some(registry) = Registry::start(false) else { return };
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
    let Some(registry) = Registry::start(true) else { return };
    let daemon = TestDaemon::start();
    let (server, image) = (format!("localhost:{}", registry.address.port()), registry.image("hello:1"));
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
