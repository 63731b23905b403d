//! What a crash at any instant leaves: the folder is copied between all steps, cut, and opened again.

use std::fs;
use std::path::Path;

use super::*;
use crate::container::fixture::spec;
use crate::container::logs::LogQuery;
use crate::container::spec::{LogOptions, MountKind, MountSpec, RestartPolicy};
use crate::error::ErrorKind;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        // Files come and go beneath a copy of a running host.
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => copy(&entry.path(), &target),
            _ => drop(fs::copy(entry.path(), target)),
        }
    }
}

/// All of a folder's files, for cutting.
fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

async fn survives(data: &Path, runtime: &Arc<FakeRuntime>) -> Vec<(String, Status, u32)> {
    let containers = open(data, runtime);
    let mut found: Vec<_> = containers.list().into_iter().map(|c| (c.name, c.status, c.restart_count)).collect();
    for (name, ..) in &found {
        let mut reader = containers.logs(name, LogQuery::default()).await.unwrap();
        while let Some(entry) = reader.next().await {
            assert_eq!(entry.text, "a whole line\n");
        }
    }
    for entry in fs::read_dir(data.join("containers")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(containers.find(&name).is_ok(), "{name} is an orphan");
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

#[tokio::test(start_paused = true)]
async fn a_host_killed_between_any_two_verbs_opens_again_with_everything() {
    let host = host();
    let copies = tempfile::tempdir().unwrap();
    let mut number = 0;
    let mut snap = || {
        number += 1;
        let copied = copies.path().join(number.to_string());
        copy(host.folder.path(), &copied);
        copied
    };
    let rotated = LogOptions { max_size: Some(150), max_file: 3, ..LogOptions::default() };
    let log = || Spec { log: rotated.clone(), restart: RestartPolicy::Always, ..spec() };
    let id = host.create("web", log()).await;
    let mut expected = vec![(snap(), vec![("web", Status::Created, 0)])];
    host.containers.start(&id).await.unwrap();
    for _ in 0..9 {
        host.runtime.last().say("a whole line");
        host.settle().await;
        expected.push((snap(), vec![("web", Status::Exited, 0)]));
    }
    let end = host.containers.wait(&id, WaitCondition::NextExit).await.unwrap();
    host.runtime.last().end(1);
    end.await;
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    expected.push((snap(), vec![("web", Status::Exited, 1)]));
    host.containers.rename(&id, "site").await.unwrap();
    expected.push((snap(), vec![("site", Status::Exited, 1)]));
    host.create("other", spec()).await;
    expected.push((snap(), vec![("other", Status::Created, 0), ("site", Status::Exited, 1)]));
    host.containers.remove(&id, true, true).await.unwrap();
    expected.push((snap(), vec![("other", Status::Created, 0)]));
    for (data, expected) in expected {
        let found = survives(&data, &host.runtime).await;
        let found: Vec<_> = found.iter().map(|(name, status, count)| (name.as_str(), *status, *count)).collect();
        assert_eq!(found, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_kill_cuts_is_cleared_and_the_rest_stays() {
    let host = host();
    let id = host.run("web", spec()).await;
    for _ in 0..3 {
        host.runtime.last().say("a whole line");
    }
    host.settle().await;
    let mut originals = Vec::new();
    files(&host.folder.path().join("containers"), &mut originals);
    assert_eq!(originals.len(), 2, "the record and the log");
    let log = originals.iter().find(|path| path.extension().is_some_and(|e| e == "log")).unwrap();
    let text = fs::read(log).unwrap();
    let copies = tempfile::tempdir().unwrap();
    // 200 kills: the log cut somewhere in its last line, a record half-written beside the old one, a new and a removed
    // container half there.
    for kill in 0..200_usize {
        let data = copies.path().join(kill.to_string());
        copy(host.folder.path(), &data);
        let home = data.join("containers").join(&id);
        fs::write(home.join(log.file_name().unwrap()), &text[..text.len() - kill % (text.len() / 3)]).unwrap();
        let record = fs::read(home.join("config.json")).unwrap();
        let cut = &record[..kill * 7 % record.len()];
        fs::write(home.join("config.tmp"), cut).unwrap();
        let other = format!("{kill:064x}");
        for (name, file) in [(format!(".new-{other}"), "config.tmp"), (format!(".gone-{other}"), "config.json")] {
            let folder = data.join("containers").join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(file), cut).unwrap();
        }
        if kill % 3 == 0 {
            fs::create_dir(data.join("containers").join(&other)).unwrap();
        }
        let found = survives(&data, &host.runtime).await;
        assert_eq!(found, [("web".to_owned(), Status::Exited, 0)], "kill {kill}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_that_cannot_be_written_leaves_nothing() {
    let host = host();
    // Where the record would go stands a file, which fails as a full disk does, whoever runs the test.
    let folder = host.folder.path().join("containers");
    fs::remove_dir(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    let mounts = vec![MountSpec {
        kind: MountKind::Volume,
        source: String::new(),
        target: "/v".into(),
        read_only: false,
        anonymous: false,
        create_source: false,
        no_copy: false,
    }];
    let error = host.containers.create(Some("web"), Spec { mounts, ..spec() }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(host.containers.list().is_empty() && host.containers.volumes().list().is_empty());
    fs::remove_file(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    host.create("web", spec()).await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_written_does_not_stop_a_running_container() {
    let host = host();
    let id = host.run("web", Spec { restart: RestartPolicy::Always, ..spec() }).await;
    fs::create_dir(host.folder.path().join("containers").join(&id).join("config.tmp")).unwrap();
    host.runtime.last().end(1);
    host.next_exit(&id).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!((host.status(&id), host.runtime.starts()), (Status::Running, 2));
    let error = host.containers.rename(&id, "site").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(host.containers.find(&id).unwrap().name, "web", "what could not be written did not happen");
    host.containers.remove(&id, true, true).await.unwrap();
}
