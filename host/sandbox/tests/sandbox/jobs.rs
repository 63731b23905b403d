//! Jobs: what they are given, what they leave, and how they end.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use wharf_sandbox::component::LoadError;
use wharf_sandbox::governor::Governor;
use wharf_sandbox::job::{Job, JobSpec};
use wharf_sandbox::log::LogStream;
use wharf_sandbox::service::CallError;
use wharf_sandbox::state::{Guest, Mount};
use wharf_sandbox::stdio::Output;

use crate::guests::{ENGINE, Lines, guest, job, text};

fn spec(guest: Guest) -> JobSpec {
    JobSpec { guest, stdin: None, terminal: false }
}

#[tokio::test]
async fn input_and_output_pass_as_they_are_and_the_exit_code_is_its_own() {
    let (stdin, input) = mpsc::channel(1);
    let (output, mut chunks) = mpsc::channel(1);
    let guest = Guest { output: Output::Chunks(output), ..guest() };
    let echo = job(text!("echo"));
    let run = echo.run(JobSpec { stdin: Some(input), ..spec(guest) });
    let talk = async move {
        stdin.send(Bytes::from_static(b"no newline")).await.unwrap();
        assert_eq!(chunks.recv().await.unwrap(), (LogStream::Stdout, Bytes::from_static(b"no newline")));
        let long = Bytes::from(vec![b'x'; 10_000]);
        stdin.send(long.clone()).await.unwrap();
        drop(stdin);
        let mut seen = Vec::new();
        while let Some((_, chunk)) = chunks.recv().await {
            seen.extend_from_slice(&chunk);
        }
        assert_eq!(seen, long);
    };
    let (code, ()) = tokio::join!(run, talk);
    assert_eq!(code.unwrap(), 7);
}

#[tokio::test]
async fn without_stdin_it_reads_the_end() {
    assert_eq!(job(text!("echo")).run(spec(guest())).await.unwrap(), 7);
}

#[tokio::test]
async fn it_sees_its_arguments_and_environment_only() {
    let lines = Arc::new(Lines::default());
    let guest = Guest {
        arguments: vec!["/tool.wasm".into(), "-v".into()],
        environment: vec![("A".into(), "1".into())],
        output: Output::Lines(lines.clone()),
        ..guest()
    };
    assert_eq!(job(text!("surroundings")).run(spec(guest)).await.unwrap(), 0);
    let lines = lines.0.lock().unwrap();
    // Neither line was ended, and neither is lost.
    let expected = [(LogStream::Stdout, "/tool.wasm\0-v\0"), (LogStream::Stderr, "A=1\0")];
    assert_eq!(*lines, expected.map(|(stream, line)| (stream, Bytes::from(line))));
}

#[tokio::test]
async fn the_image_is_read_only_and_a_volume_in_it_is_not() {
    const NOT_PERMITTED: i32 = 63;
    let folder = std::env::temp_dir().join(format!("wharf-sandbox-files-{}", std::process::id()));
    let (root, volume) = (folder.join("root"), folder.join("volume"));
    fs::create_dir_all(&root).unwrap();
    fs::create_dir_all(&volume).unwrap();
    fs::write(root.join("greeting"), "hello").unwrap();
    let mount = |source, target: &str, read_only| Mount { source, target: target.into(), read_only };
    let mounts = vec![mount(root.clone(), "/", true), mount(volume.clone(), "/data", false)];
    let code = job(text!("files")).run(spec(Guest { mounts, ..guest() })).await;
    let (copy, stray) = (fs::read_to_string(volume.join("copy")), root.join("copy").exists());
    fs::remove_dir_all(folder).unwrap();
    assert_eq!(code.unwrap(), NOT_PERMITTED);
    assert_eq!(copy.unwrap(), "hello");
    assert!(!stray);
}

#[tokio::test]
async fn a_missing_volume_stops_the_start() {
    let mounts = vec![Mount { source: "/nowhere/at/all".into(), target: "/data".into(), read_only: false }];
    match job(text!("files")).run(spec(Guest { mounts, ..guest() })).await {
        Err(CallError::Start(reason)) => assert!(reason.contains("/nowhere/at/all for /data"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_crash_and_a_lack_of_memory_are_told_apart() {
    match job(text!("crash")).run(spec(guest())).await {
        Err(CallError::Trap(reason)) => assert!(reason.contains("unreachable") && reason.contains("deep"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let hungry = job(text!("hungry"));
    let small = guest();
    let governor = small.governor.clone();
    assert!(matches!(hungry.run(spec(small.clone())).await, Err(CallError::OutOfMemory { limit: 0x10_0000 })));
    assert_eq!(governor.usage().out_of_memory, 1);

    governor.set_memory(128 << 20);
    assert_eq!(hungry.run(spec(small)).await.unwrap(), 0);
    let usage = governor.usage();
    assert!(usage.memory_peak > 64 << 20, "{usage:?}");
    assert_eq!((usage.instances, usage.memory, usage.out_of_memory), (0, 0, 1));
}

#[tokio::test]
async fn dropping_it_kills_it() {
    let guest = guest();
    let governor = guest.governor.clone();
    let spin = job(text!("spin"));
    let run = spin.run(spec(guest));
    assert!(tokio::time::timeout(Duration::from_millis(50), run).await.is_err());
    let usage = governor.usage();
    assert_eq!((usage.instances, usage.memory), (0, 0));
    assert!(usage.cpu > Duration::ZERO);
}

#[tokio::test]
async fn a_share_of_the_processor_is_not_passed() {
    let guest = guest();
    let governor = guest.governor.clone();
    governor.set_nano_cpus(Some(10_000_000));
    let spin = job(text!("spin"));
    let run = spin.run(spec(guest));
    assert!(tokio::time::timeout(Duration::from_secs(1), run).await.is_err());
    // 10 ms of this second were its due. The margin is for a thread that loses its core in the middle of a poll.
    assert!(governor.usage().cpu < Duration::from_millis(500), "{:?}", governor.usage());
}

#[tokio::test]
async fn a_paused_one_stands_still() {
    let spinning = guest();
    let governor = spinning.governor.clone();
    let run = tokio::spawn(async move { job(text!("spin")).run(spec(spinning)).await });
    while governor.usage().cpu == Duration::ZERO {
        tokio::task::yield_now().await;
    }
    governor.pause();
    tokio::task::yield_now().await;
    // Of one thread, which this test has now: nothing is under way.
    let before = governor.usage();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(governor.usage(), before);
    governor.unpause();
    while governor.usage().cpu == before.cpu {
        tokio::task::yield_now().await;
    }
    run.abort();
}

#[test]
fn a_service_is_no_job() {
    let service =
        wat::parse_str(r#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.3" (instance $i)))"#);
    assert!(matches!(Job::load(&ENGINE, None, &service.unwrap()), Err(LoadError::NoRun { .. })));
}

#[test]
fn governors_are_shared_by_clones_of_a_guest() {
    let guest = guest();
    guest.clone().governor.pause();
    assert!(guest.governor.is_paused() && !Governor::default().is_paused());
}
