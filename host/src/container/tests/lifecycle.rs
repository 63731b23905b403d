//! The verbs, one by one and all at once.

use std::time::Duration;

use super::*;
use crate::container::fixture::{Outcome, spec};
use crate::container::runtime::Reach;
use crate::container::snapshot::{Changed, PruneFilter, Update};
use crate::container::spec::{EndpointSpec, GuestPort, MountKind, MountSpec, Protocol, Publish, RestartPolicy};
use crate::error::ErrorKind;
use crate::image::Use;

#[tokio::test(start_paused = true)]
async fn a_life_in_dockers_events() {
    let host = host();
    let mut events = host.listen();
    let labels = [("l".to_owned(), "v".to_owned())].into();
    let id = host.run("web", Spec { labels, ..spec() }).await;
    assert_eq!(host.status("web"), Status::Running);
    assert_eq!(host.containers.start(&id).await.unwrap(), Changed::No);
    host.containers.pause("web").await.unwrap();
    assert!(*host.runtime.last().paused.borrow());
    host.containers.unpause("web").await.unwrap();
    host.containers.rename("web", "site").await.unwrap();
    assert_eq!(*host.runtime.last().name.lock().unwrap(), "site");
    assert_eq!(host.containers.stop("site", None, None).await.unwrap(), Changed::Yes);
    assert_eq!(host.containers.stop("site", None, None).await.unwrap(), Changed::No);
    let ended = host.containers.find(&id[..12]).unwrap();
    assert_eq!((ended.status, ended.exit.code, ended.kind.is_some()), (Status::Exited, 143, true));
    host.containers.remove("/site", false, false).await.unwrap();
    assert_eq!(host.containers.find("site").unwrap_err().to_string(), "No such container: site");

    let mut seen = Vec::new();
    while seen.last().is_none_or(|(action, _)| action != "destroy") {
        let event = events.next().await.unwrap();
        assert!(event.id != id || event.attributes["l"] == "v" && event.attributes["image"] == "app");
        seen.push((event.action, event.attributes));
    }
    let words: Vec<_> = seen.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(
        words,
        ["create", "connect", "start", "pause", "unpause", "rename", "kill", "die", "disconnect", "stop", "destroy"]
    );
    assert_eq!(seen[5].1["oldName"], "/web");
    assert_eq!((seen[6].1["signal"].as_str(), seen[7].1["exitCode"].as_str()), ("15", "143"));
}

#[tokio::test(start_paused = true)]
async fn signals_end_it_with_their_code_or_are_ignored() {
    let host = host();
    for (signal, code) in [("SIGKILL", 137), ("INT", 130), ("15", 143), ("", 137)] {
        let id = host.run("web", spec()).await;
        for ignored in ["HUP", "WINCH", "SIGNONSENSE", "99"] {
            host.containers.kill(&id, ignored).await.unwrap();
            assert_eq!(host.status(&id), Status::Running);
        }
        let end = host.containers.wait(&id, WaitCondition::NextExit).await.unwrap();
        host.containers.kill(&id, signal).await.unwrap();
        assert_eq!(end.await.code, code, "{signal}");
        let error = host.containers.kill(&id, "KILL").await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot kill container: web: container {id} is not running"));
        host.containers.remove(&id, false, false).await.unwrap();
    }
    for (signal, code) in [(Some("SIGINT"), 130), (Some("KILL"), 137), (None, 131)] {
        let id = host.run("web", Spec { stop_signal: Some("SIGQUIT".into()), ..spec() }).await;
        host.containers.stop(&id, Some(0), signal).await.unwrap();
        assert_eq!(host.containers.find(&id).unwrap().exit.code, code);
        host.containers.remove(&id, false, false).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn names_are_given_once_and_invented_when_missing() {
    let host = host();
    let id = host.create("web", spec()).await;
    let error = host.containers.create(Some("web"), spec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&format!("\"/web\" is already in use by container \"{id}\"")), "{error}");
    let invented = host.containers.create(None, spec()).await.unwrap().id;
    assert!(host.containers.find(&invented).unwrap().name.contains('_'));
    let error = host.containers.rename(&invented, "web").await.unwrap_err();
    assert!(error.to_string().starts_with("Error when allocating new name: Conflict."), "{error}");
    host.containers.rename(&invented, "other").await.unwrap();
    let names: Vec<_> = host.containers.list().into_iter().map(|container| container.name).collect();
    assert_eq!(names, ["other", "web"], "newest first");
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_says_why_and_changes_nothing_else() {
    let host = host();
    let publish = Publish {
        guest: GuestPort { port: 5000, protocol: Protocol::Tcp },
        host_ip: None,
        host_port: Some(5001),
        host_port_end: None,
    };
    let id = host.create("web", Spec { publish: vec![publish], ..spec() }).await;
    host.runtime.will(Outcome::Fails(ErrorKind::Conflict, "address in use"));
    let error = host.containers.start(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    let message = error.to_string();
    assert!(message.starts_with("driver failed programming external connectivity on endpoint web ("), "{message}");
    assert!(message.ends_with("): Bind for 0.0.0.0:5001 failed: port is already allocated"), "{message}");
    let failed = host.containers.find(&id).unwrap();
    assert_eq!((failed.status, failed.exit.code, failed.error), (Status::Created, 128, message));
    assert!(host.containers.networks().find("bridge").unwrap().members.is_empty());
    host.containers.start(&id).await.unwrap();
    assert_eq!(host.containers.find(&id).unwrap().error, "");
}

#[tokio::test(start_paused = true)]
async fn a_run_is_given_what_was_asked_for() {
    let host = host();
    let asked = ["A=1", "B", "A=2"].map(str::to_owned).to_vec();
    host.run("web", Spec { environment: asked, egress: vec!["example.org:443".into()], ..spec() }).await;
    let task = host.runtime.last();
    assert_eq!(task.environment, [("A".to_owned(), "2".to_owned())]);
    assert_eq!(task.peers.reach("example.org", 443), Reach::Outside);
    assert!(task.peers.permits("example.org", 443, [127, 0, 0, 1].into()).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_missing_network_is_reported_by_start() {
    let host = host();
    let id = host.create("web", Spec { network_mode: "mine".into(), ..spec() }).await;
    let error = host.containers.start(&id).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NotFound, "network mine not found"));
}

#[tokio::test(start_paused = true)]
async fn auto_remove_answers_after_the_removal_also_of_a_failed_start() {
    let host = host();
    let auto = || Spec { auto_remove: true, ..spec() };
    for outcome in [Outcome::Ends(&["bye"], 3), Outcome::Fails(ErrorKind::Failed, "no GPU")] {
        let code = if matches!(outcome, Outcome::Ends(..)) { 3 } else { 128 };
        let id = host.create("web", auto()).await;
        host.runtime.will(outcome);
        let gone = host.containers.wait(&id, WaitCondition::Removed).await.unwrap();
        assert_eq!(host.containers.start(&id).await.is_ok(), code == 3);
        assert_eq!(gone.await.code, code);
        assert!(host.containers.find(&id).is_err());
        assert_eq!(std::fs::read_dir(host.folder.path().join("containers")).unwrap().count(), 0);
    }
    let id = host.run("web", auto()).await;
    host.containers.restart(&id, None).await.unwrap();
    assert_eq!(host.status(&id), Status::Running, "a restart by hand is no end");
    host.containers.stop(&id, None, None).await.unwrap();
    host.containers.wait("web", WaitCondition::Removed).await.err().unwrap();
}

#[tokio::test(start_paused = true)]
async fn removal_is_refused_unless_forced_and_cuts_a_stop_short() {
    let host = host();
    let id = host.run("web", spec()).await;
    let error = host.containers.remove("web", false, false).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot remove container \"/web\": container is running: stop the container before removing or force remove"
    );
    *host.runtime.last().stubborn.lock().unwrap() = true;
    let stopping = {
        let (containers, id) = (host.containers.clone(), id.clone());
        tokio::spawn(async move { containers.stop(&id, Some(-1), None).await })
    };
    host.settle().await;
    let gone = host.containers.wait(&id, WaitCondition::Removed).await.unwrap();
    host.containers.remove(&id, true, false).await.unwrap();
    assert_eq!(gone.await.code, 137);
    assert_eq!(stopping.await.unwrap().unwrap(), Changed::Yes);
}

#[tokio::test(start_paused = true)]
async fn a_stubborn_one_is_given_its_time() {
    let host = host();
    for (asked, own, seconds) in [(Some(3), None, 3), (None, Some(5), 5), (None, None, 10), (Some(0), Some(5), 0)] {
        let id = host.run("web", Spec { stop_timeout: own, ..spec() }).await;
        *host.runtime.last().stubborn.lock().unwrap() = true;
        let begin = tokio::time::Instant::now();
        host.containers.stop(&id, asked, None).await.unwrap();
        assert_eq!(begin.elapsed().as_secs(), seconds);
        host.containers.remove(&id, false, false).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn update_reaches_the_running_task_and_the_record() {
    let host = host();
    let id = host.run("web", spec()).await;
    let update = Update { memory: Some(64 << 20), nano_cpus: None, restart: Some(RestartPolicy::Always) };
    host.containers.update(&id, update).await.unwrap();
    assert_eq!(*host.runtime.last().limits.lock().unwrap(), (Some(64 << 20), None));
    let spec = open(host.folder.path(), &host.runtime).find(&id).unwrap().spec;
    assert_eq!((spec.memory, spec.nano_cpus, spec.restart), (Some(64 << 20), None, RestartPolicy::Always));
}

#[tokio::test(start_paused = true)]
async fn mounts_are_resolved_made_and_released() {
    let host = host();
    let folder = host.folder.path().join("made").join("on demand");
    let mount = |kind, source: &str, target: &str, create_source| MountSpec {
        kind,
        source: source.into(),
        target: target.into(),
        read_only: false,
        anonymous: false,
        create_source,
        no_copy: false,
    };
    let source = folder.to_str().unwrap();
    let error = host
        .containers
        .create(
            Some("web"),
            Spec {
                mounts: vec![mount(MountKind::Volume, "", "/v", false), mount(MountKind::Bind, source, "/b", false)],
                ..spec()
            },
        )
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("invalid mount config for type \"bind\": bind source path does not exist: {source}")
    );
    assert!(host.containers.volumes().list().is_empty(), "nothing is left of it");
    let mounts = vec![
        mount(MountKind::Bind, source, "/b", true),
        mount(MountKind::Volume, "data", "/d", false),
        mount(MountKind::Volume, "", "/v", false),
        mount(MountKind::Tmpfs, "", "/t", false),
    ];
    let id = host.run("web", Spec { mounts, ..spec() }).await;
    assert!(folder.is_dir());
    let resolved = host.containers.find(&id).unwrap().mounts;
    let given: Vec<_> = host.runtime.last().mounts.iter().map(|mount| mount.source.clone()).collect();
    assert_eq!(given, resolved.iter().map(|mount| mount.source.clone()).collect::<Vec<_>>());
    std::fs::write(given[3].join("file"), "x").unwrap();
    host.containers.restart(&id, None).await.unwrap();
    assert!(given[3].is_dir() && !given[3].join("file").exists(), "a tmpfs begins empty");
    let in_use = host.containers.volumes().remove("data", false).unwrap_err().to_string();
    assert_eq!(in_use, format!("remove data: volume is in use - [{id}]"));
    host.containers.remove(&id, true, true).await.unwrap();
    let names: Vec<_> = host.containers.volumes().list().into_iter().map(|volume| volume.name).collect();
    assert_eq!(names, ["data"], "the anonymous one went along");
}

#[tokio::test(start_paused = true)]
async fn networks_are_joined_and_left_before_and_during_a_run() {
    let host = host();
    let networks = host.containers.networks();
    for name in ["one", "two"] {
        let name = name.to_owned();
        networks.create(crate::container::NetworkSpec { name, ..Default::default() }).unwrap();
    }
    let id = host.create("web", Spec { network_mode: "one".into(), ..spec() }).await;
    // As docker-compose does between create and start.
    host.containers.disconnect("one", &id, false).await.unwrap();
    let aliases = vec!["service".to_owned()];
    host.containers.connect("one", "web", EndpointSpec { aliases, ipv4: None }).await.unwrap();
    assert_eq!(host.containers.find(&id).unwrap().endpoints["one"].address, None);
    host.containers.start(&id).await.unwrap();
    host.containers.connect("two", &id, EndpointSpec::default()).await.unwrap();
    let error = host.containers.connect("two", &id, EndpointSpec::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "endpoint with name web already exists in network two");
    let endpoints = host.containers.find(&id).unwrap().endpoints;
    assert_eq!(endpoints["one"].names, ["web", &id[..12], "service"]);
    assert!(endpoints["two"].address.is_some());
    assert!(networks.remove("two").is_err());
    host.containers.disconnect("two", &id, false).await.unwrap();
    networks.remove("two").unwrap();
    host.containers.stop(&id, None, None).await.unwrap();
    assert!(networks.find("one").unwrap().members.is_empty());
    let kept = open(host.folder.path(), &host.runtime).find(&id).unwrap();
    assert_eq!(kept.endpoints["one"].aliases, ["service"]);
}

#[tokio::test(start_paused = true)]
async fn images_know_who_uses_them_and_pruning_spares_the_running() {
    let host = host();
    let image = spec().image_id;
    assert!(!host.containers.uses(&image));
    let stopped = host.create("old", spec()).await;
    assert!(matches!(host.containers.use_of(&image), Use::Stopped(id) if id == stopped));
    let running = host.run("web", spec()).await;
    assert!(matches!(host.containers.use_of(&image), Use::Running(id) if id == running));
    let pruned = host.containers.prune(&PruneFilter::default()).await.unwrap();
    assert_eq!(pruned.removed, [stopped]);
    assert!(pruned.reclaimed > 0);
    assert_eq!(host.status(&running), Status::Running);
}

#[tokio::test(start_paused = true)]
async fn everybody_at_once_ends_in_order() {
    let host = host();
    for round in 0..20_u64 {
        let id = host.create("web", spec()).await;
        let mut verbs = tokio::task::JoinSet::new();
        for number in 0..24_u64 {
            let (containers, id) = (host.containers.clone(), id.clone());
            verbs.spawn(async move {
                tokio::time::sleep(Duration::from_micros((number * 7 + round * 13) % 11)).await;
                match (number + round) % 8 {
                    0 | 1 => drop(containers.start(&id).await),
                    2 => drop(containers.stop(&id, Some(0), None).await),
                    3 => drop(containers.restart(&id, Some(0)).await),
                    4 => drop(containers.kill(&id, "KILL").await),
                    5 => drop(containers.pause(&id).await),
                    6 => drop(containers.rename(&id, &format!("web{number}")).await),
                    _ => drop(containers.unpause(&id).await),
                }
            });
        }
        while let Some(done) = verbs.join_next().await {
            done.unwrap();
        }
        let snapshot = host.containers.find(&id).unwrap();
        let last = host.runtime.tasks.lock().unwrap().last().cloned();
        let runs = last.is_some_and(|task| task.exit.borrow().is_none());
        assert_eq!(snapshot.status.has_task(), runs, "{:?}", snapshot.status);
        host.containers.remove(&id, true, true).await.unwrap();
        assert!(host.containers.list().is_empty());
    }
    assert!(host.containers.networks().find("bridge").unwrap().members.is_empty());
}
