//! The tutorial, command by command, twice on a real host: with the stock `docker` command line, and with ours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use support::daemon::{TestDaemon, context, has_docker, run_with_input, succeeded};
use support::eventually;
use support::guests::read_source;
use support::host::{Ended, run};
use support::http::Client;

/// A host of its own, and the command line that drives it.
struct Line {
    daemon: TestDaemon,
    program: fn(&TestDaemon, &[&str]) -> Command,
}

impl Line {
    fn wharf() -> Line {
        Line { daemon: TestDaemon::start(), program: TestDaemon::wharf_command }
    }

    /// `None`, after a loud remark, where it is missing.
    fn docker() -> Option<Line> {
        has_docker().then(|| Line { daemon: TestDaemon::start(), program: TestDaemon::docker_command })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        (self.program)(&self.daemon, arguments)
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        run(&mut self.command(arguments))
    }

    /// A line of words, which must succeed; what it printed, trimmed.
    #[track_caller]
    fn ok(&self, line: &str) -> String {
        let arguments: Vec<&str> = line.split(' ').collect();
        succeeded(self.run(&arguments), &arguments)
    }

    #[track_caller]
    fn build(&self, example: &str) {
        let context = context(example);
        self.ok(&format!("build -t {example} {}", context.0.display()));
    }

    #[track_caller]
    fn published(&self, container: &str) -> Client {
        let text = self.ok(&format!("port {container} 5000"));
        let address: SocketAddr = text.lines().next().unwrap().parse().unwrap();
        Client(SocketAddr::new([127, 0, 0, 1].into(), address.port()))
    }
}

#[test]
fn with_docker_a_service_is_built_run_and_asked() {
    Line::docker().iter().for_each(a_service_is_built_run_and_asked);
}

#[test]
fn with_wharf_a_service_is_built_run_and_asked() {
    a_service_is_built_run_and_asked(&Line::wharf());
}

fn a_service_is_built_run_and_asked(line: &Line) {
    let context = context("digits");
    let folder = context.0.display();
    let built = line.ok(&format!("build -t digits {folder}"));
    let steps: Vec<&str> = built.lines().filter(|line| line.starts_with("Step") || line.starts_with("Succ")).collect();
    assert_eq!(steps[0], "Step 1/5 : FROM scratch", "{built}");
    assert!(steps[5].starts_with("Successfully built ") && steps[6] == "Successfully tagged digits:latest", "{built}");
    let again = line.ok(&format!("build -t digits {folder}"));
    assert_eq!(again.matches(" ---> Using cache").count(), 4, "{again}");
    fs::rename(context.0.join("Dockerfile"), context.0.join("Dockerfile.cpu")).unwrap();
    line.ok(&format!("build -t digits-cpu {folder} -f {folder}/Dockerfile.cpu"));

    let options = "--log-opt max-size=5m --log-opt max-file=5 --restart always";
    let id = line.ok(&format!("run -d -p 127.0.0.1:0:5000 {options} --name seven digits"));
    assert_eq!(id.len(), 64, "{id}");
    let format = "{{json .HostConfig.LogConfig.Config}} {{.HostConfig.RestartPolicy.Name}}";
    let kept = succeeded(line.run(&["inspect", "-f", format, "seven"]), &["inspect"]);
    assert_eq!(kept, r#"{"max-file":"5","max-size":"5m"} always"#);
    let answer = line.published("seven").post("/predict", &read_source("examples/digits/testdata/seven.png"));
    assert_eq!(answer.expect(200).json()["digit"], 7);

    let row = line.ok("ps --format {{.Names}}|{{.Image}}|{{.Command}}|{{.State}}|{{.Ports}}");
    assert!(row.starts_with("seven|digits|\"/digits.wasm\"|running|127.0.0.1:"), "{row}");
    assert!(row.ends_with("->5000/tcp"), "{row}");
    assert!(line.ok("images").contains("digits-cpu"));
    assert!(line.ok("stats --no-stream seven").contains("256MiB"));
    line.ok("stop seven");
    assert_eq!(line.ok("ps -q"), "");
    assert!(line.ok("ps -a --format {{.Names}}:{{.Status}}").starts_with("seven:Exited (143)"));
    line.ok("start seven");
    line.ok("restart seven");
    line.published("seven").get("/").expect(200);
    let refused = line.run(&["rm", "seven"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("cannot remove container \"/seven\": container is running"), "{refused:?}");
    assert_eq!(line.ok("rm -f seven"), "seven");
    assert_eq!(line.ok("ps -aq"), "");
}

#[test]
fn with_docker_clean_up_works() {
    Line::docker().iter().for_each(clean_up_works);
}

#[test]
fn with_wharf_clean_up_works() {
    clean_up_works(&Line::wharf());
}

fn clean_up_works(line: &Line) {
    line.build("hello");
    line.ok("run -d --name one hello");
    line.ok("stop one");
    let asked = run_with_input(&mut line.command(&["container", "prune"]), b"n\n");
    assert!(asked.stdout.contains("WARNING! This will remove all stopped containers."), "{asked:?}");
    assert_eq!(line.ok("ps -aq").lines().count(), 1, "no is no");
    let agreed = run_with_input(&mut line.command(&["container", "prune"]), b"y\n");
    assert!(agreed.stdout.contains("Deleted Containers:"), "{agreed:?}");
    line.ok("image prune -f");
    line.ok("tag hello other");
    assert!(line.ok("rmi other").contains("Untagged: other:latest"));
    line.ok("network create unused");
    let pruned = line.ok("system prune -a -f");
    assert!(pruned.contains("Deleted Networks:\nunused"), "{pruned}");
    assert!(pruned.contains("untagged: hello:latest"), "{pruned}");
    assert_eq!(line.ok("images -q"), "");
}

#[test]
fn with_docker_one_looks_inside() {
    Line::docker().iter().for_each(one_looks_inside);
}

#[test]
fn with_wharf_one_looks_inside() {
    one_looks_inside(&Line::wharf());
}

fn one_looks_inside(line: &Line) {
    line.build("digits");
    line.ok("run -d --name dd -e COLOUR=blue digits");
    assert_eq!(line.ok("exec dd ls /"), "digits.wasm\nmodels/");
    let script = "cd models && ls && echo $COLOUR";
    let looked = line.run(&["exec", "dd", "bash", "-c", script]);
    assert_eq!(succeeded(looked, &["exec", script]), "digits.onnx\nblue");
    assert!(line.ok("exec dd infer digits").contains("probabilities FP32 [1, 10]"));
    assert!(line.ok("exec dd models").contains("digits"));
    assert!(line.ok("exec dd env").contains("COLOUR=blue"));
    assert!(line.ok("exec dd cat /digits.wasm").starts_with("\0asm"));
    assert!(line.ok("exec dd stats").to_lowercase().contains("memory"));
    let script = run_with_input(&mut line.command(&["exec", "-i", "dd", "sh"]), b"pwd\nexit 3\n");
    assert_eq!((script.code, script.stdout.as_str()), (Some(3), "/\n"), "{script:?}");
    let missing = line.run(&["exec", "dd", "apt-get", "update"]);
    assert_eq!(missing.code, Some(127), "{missing:?}");
    assert!(missing.stdout.contains("executable file not found in $PATH"), "{missing:?}");

    let mut follow = line.command(&["logs", "-f", "dd"]);
    let following = std::thread::spawn(move || run(&mut follow));
    line.ok("stop -t 1 dd");
    assert_eq!(following.join().unwrap().code, Some(0), "a follower sees the end");
    eventually("it has ended", || line.ok("ps -q").is_empty());
}

#[test]
fn with_docker_containers_share_a_network() {
    Line::docker().iter().for_each(containers_share_a_network);
}

#[test]
fn with_wharf_containers_share_a_network() {
    containers_share_a_network(&Line::wharf());
}

fn containers_share_a_network(line: &Line) {
    line.build("hello");
    line.ok("network create net");
    line.ok("run -d --network net --name=one hello");
    line.ok("run -d --network net --name=two hello");
    assert!(line.ok("network ls").lines().any(|row| row.contains(" net ") && row.contains(" bridge ")));
    let names = line.run(&["network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{end}}", "net"]);
    let names = succeeded(names, &["network", "inspect"]);
    let mut names: Vec<&str> = names.split_whitespace().collect();
    names.sort_unstable();
    assert_eq!(names, ["one", "two"]);
    let refused = line.run(&["network", "rm", "net"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("has active endpoints"), "{refused:?}");
}
