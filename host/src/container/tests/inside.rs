//! What goes in and out of a container: attach, logs, stdin, exec.

use bytes::Bytes;

use super::*;
use crate::container::fixture::{Outcome, spec};
use crate::container::logs::{LogQuery, LogReader};
use crate::container::runtime::Stream;
use crate::container::snapshot::{AttachQuery, ExecSpec};
use crate::container::spec::LogOptions;
use crate::error::ErrorKind;

const LIVE: AttachQuery = AttachQuery { logs: false, stream: true, stdin: true, stdout: true, stderr: true };

async fn all(output: &mut tokio::sync::mpsc::Receiver<(Stream, Bytes)>) -> String {
    let mut text = String::new();
    while let Some((_, chunk)) = output.recv().await {
        text += std::str::from_utf8(&chunk).unwrap();
    }
    text
}

async fn read(reader: &mut LogReader) -> String {
    let mut text = String::new();
    while let Some(entry) = reader.next().await {
        text += std::str::from_utf8(&entry.text).unwrap();
    }
    text
}

#[tokio::test(start_paused = true)]
async fn who_attaches_before_the_start_misses_nothing_and_sees_the_end() {
    let host = host();
    for driver in ["json-file", "none"] {
        let log = LogOptions { driver: driver.into(), ..LogOptions::default() };
        host.runtime.will(Outcome::Ends(&["one", "two"], 0));
        let id = host.create(&format!("with-{driver}"), Spec { log, ..spec() }).await;
        let mut one = host.containers.attach(&id, LIVE).await.unwrap();
        let mut other = host.containers.attach(&id, AttachQuery { logs: true, ..LIVE }).await.unwrap();
        let end = host.containers.wait(&id, WaitCondition::NextExit).await.unwrap();
        host.containers.start(&id).await.unwrap();
        assert_eq!(end.await.code, 0);
        assert_eq!(all(&mut one.output).await, "one\ntwo\n");
        assert_eq!(all(&mut other.output).await, "one\ntwo\n");
        assert!(one.stdin.is_none(), "not made with -i");
        let logs = host.containers.logs(&id, LogQuery::default()).await;
        match driver {
            "none" => {
                let error = logs.err().unwrap();
                assert_eq!(error.kind(), ErrorKind::Unimplemented);
                assert_eq!(error.to_string(), "configured logging driver does not support reading");
            }
            _ => assert_eq!(read(&mut logs.unwrap()).await, "one\ntwo\n"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn logs_are_complete_when_wait_answers_and_go_on_over_runs() {
    let host = host();
    let id = host.create("job", spec()).await;
    for run in 0..20 {
        host.runtime.will(Outcome::Ends(&["a", "b", "c"], 0));
        let end = host.containers.wait(&id, WaitCondition::NextExit).await.unwrap();
        host.containers.start(&id).await.unwrap();
        end.await;
        let text = std::fs::read_to_string(host.containers.find(&id).unwrap().log_path).unwrap();
        assert_eq!(text.lines().count(), 3 * (run + 1));
    }
    let tail = LogQuery { tail: Some(4), follow: true, ..LogQuery::default() };
    let mut reader = host.containers.logs(&id, tail).await.unwrap();
    assert_eq!(read(&mut reader).await, "c\na\nb\nc\n", "it does not run, so that following ends");
}

#[tokio::test(start_paused = true)]
async fn a_follower_gets_what_is_written_until_the_end() {
    let host = host();
    let id = host.run("web", spec()).await;
    let task = host.runtime.last();
    task.say("before");
    let follow = LogQuery { follow: true, ..LogQuery::default() };
    let mut reader = host.containers.logs(&id, follow).await.unwrap();
    let mut replayed = host.containers.attach(&id, AttachQuery { logs: true, ..LIVE }).await.unwrap();
    let following = tokio::spawn(async move { read(&mut reader).await });
    task.say("after");
    host.settle().await;
    task.say("last");
    host.containers.stop(&id, None, None).await.unwrap();
    assert_eq!(following.await.unwrap(), "before\nafter\nlast\n");
    assert_eq!(all(&mut replayed.output).await, "before\nafter\nlast\n");
}

#[tokio::test(start_paused = true)]
async fn stdin_reaches_the_container_and_ends_with_its_only_client() {
    let host = host();
    for once in [true, false] {
        let id = host.create("job", Spec { open_stdin: true, stdin_once: once, ..spec() }).await;
        let attached = host.containers.attach(&id, LIVE).await.unwrap();
        let stdin = attached.stdin.unwrap();
        stdin.send(Bytes::from_static(b"early")).await.unwrap();
        host.containers.start(&id).await.unwrap();
        let mut input = host.runtime.last().stdin.lock().unwrap().take().unwrap();
        assert_eq!(input.recv().await.unwrap(), "early");
        drop(stdin);
        assert_eq!(
            input.try_recv().err(),
            Some(if once {
                tokio::sync::mpsc::error::TryRecvError::Disconnected
            } else {
                tokio::sync::mpsc::error::TryRecvError::Empty
            })
        );
        let again = host.containers.attach(&id, LIVE).await.unwrap();
        assert_eq!(again.stdin.is_some(), !once);
        host.containers.remove(&id, true, true).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_holds_the_container_up_for_a_while_only() {
    let host = host();
    let id = host.run("web", spec()).await;
    let stuck = host.containers.attach(&id, LIVE).await.unwrap();
    let output = host.runtime.last().output.clone();
    let line = || Bytes::from_static(b"line");
    let flood = tokio::spawn(async move {
        for _ in 0..5000 {
            while !output.try_write(Stream::Stdout, line()) {
                output.ready().await;
            }
        }
    });
    flood.await.unwrap();
    drop(stuck);
    let mut reader = host.containers.logs(&id, LogQuery::default()).await.unwrap();
    assert_eq!(read(&mut reader).await.lines().count(), 5000, "the log has them all");
}

#[tokio::test(start_paused = true)]
async fn execs_answer_and_are_known_after_their_end() {
    let host = host();
    let exec = |argv: &[&str]| ExecSpec {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        attach_stdin: true,
        ..ExecSpec::default()
    };
    let id = host.create("web", spec()).await;
    let error = host.containers.exec_create(&id, exec(&["echo", "hi"])).await.unwrap_err();
    assert_eq!(error.to_string(), format!("container {id} is not running"));
    host.containers.start(&id).await.unwrap();
    let echo = host.containers.exec_create(&id, exec(&["echo", "hi"])).await.unwrap();
    let mut streams = host.containers.exec_start(&echo, None).await.unwrap();
    assert_eq!(all(&mut streams.output).await, "hi");
    assert_eq!(streams.done.await.code, 0);
    assert_eq!(host.containers.exec_start(&echo, None).await.err().unwrap().kind(), ErrorKind::Conflict);
    let missing = host.containers.exec_create(&id, exec(&["sh"])).await.unwrap();
    assert_eq!(host.containers.exec_start(&missing, None).await.unwrap().done.await.code, 127);

    let waiting = host.containers.exec_create(&id, exec(&["wait"])).await.unwrap();
    let streams = host.containers.exec_start(&waiting, None).await.unwrap();
    assert!(host.containers.exec_inspect(&waiting).unwrap().running);
    assert_eq!(host.containers.find(&id).unwrap().execs, std::slice::from_ref(&waiting));
    host.containers.stop(&id, None, None).await.unwrap();
    assert_eq!(streams.done.await.code, 137, "its container ended");
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let state = host.containers.exec_inspect(&missing).unwrap();
    assert_eq!((state.running, state.exit.unwrap().code), (false, 127));
    assert_eq!(host.containers.exec_inspect("x").unwrap_err().to_string(), "No such exec instance: x");
    host.containers.remove(&id, false, false).await.unwrap();
    assert!(host.containers.exec_inspect(&missing).is_err());
}
