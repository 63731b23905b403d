//! Restart policies, health checks, and what a starting host brings back.

use std::time::Duration;

use super::*;
use crate::container::fixture::{Outcome, spec};
use crate::container::snapshot::HealthStatus;
use crate::container::spec::{Healthcheck, RestartPolicy};
use crate::error::ErrorKind;

fn policy(restart: RestartPolicy) -> Spec {
    Spec { restart, ..spec() }
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_with_growing_waits_until_the_maximum() {
    let host = host();
    for _ in 0..4 {
        host.runtime.will(Outcome::Ends(&[], 1));
    }
    let begin = tokio::time::Instant::now();
    let id = host.run("job", policy(RestartPolicy::OnFailure { max: 3 })).await;
    let end = host.containers.wait(&id, WaitCondition::NotRunning).await.unwrap();
    assert_eq!(end.await.code, 1);
    assert_eq!(begin.elapsed().as_millis() / 10 * 10, 700, "100 + 200 + 400 ms");
    let ended = host.containers.find(&id).unwrap();
    assert_eq!((ended.status, ended.restart_count, host.runtime.starts()), (Status::Exited, 3, 4));
    host.containers.start(&id).await.unwrap();
    assert_eq!(host.containers.find(&id).unwrap().restart_count, 0, "started by hand, it counts anew");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_waits_can_be_stopped_and_a_stop_suspends_the_policy() {
    let host = host();
    let mut events = host.listen();
    let id = host.run("web", policy(RestartPolicy::Always)).await;
    host.runtime.last().end(1);
    let seen = actions(&mut events, 7).await;
    assert_eq!(seen, ["create", "connect", "start", "die", "disconnect", "connect", "start"]);
    assert_eq!(host.status(&id), Status::Running);
    host.runtime.last().end(1);
    host.next_exit(&id).await;
    assert_eq!(host.status(&id), Status::Restarting);
    let error = host.containers.pause(&id).await.unwrap_err().to_string();
    assert_eq!(error, format!("Container {id} is restarting, wait until the container is running"));
    host.containers.stop(&id, None, None).await.unwrap();
    assert_eq!(host.status(&id), Status::Exited);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!((host.status(&id), host.runtime.starts()), (Status::Exited, 2));

    host.containers.start(&id).await.unwrap();
    host.containers.kill(&id, "KILL").await.unwrap();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!((host.status(&id), host.runtime.starts()), (Status::Exited, 3));
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_by_policy_is_retried() {
    let host = host();
    let id = host.run("web", policy(RestartPolicy::UnlessStopped)).await;
    for _ in 0..3 {
        host.runtime.will(Outcome::Fails(ErrorKind::Failed, "no GPU"));
    }
    host.runtime.last().end(1);
    tokio::time::sleep(Duration::from_millis(650)).await;
    let waiting = host.containers.find(&id).unwrap();
    assert_eq!((waiting.status, waiting.error.as_str(), waiting.exit.code), (Status::Restarting, "no GPU", 128));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let back = host.containers.find(&id).unwrap();
    assert_eq!((back.status, back.restart_count, back.error.as_str()), (Status::Running, 4, ""));
}

#[tokio::test(start_paused = true)]
async fn a_starting_host_brings_back_what_ran() {
    let host = host();
    let cases = [
        ("no", policy(RestartPolicy::No), false, false),
        ("always", policy(RestartPolicy::Always), false, true),
        ("always-stopped", policy(RestartPolicy::Always), true, true),
        ("unless", policy(RestartPolicy::UnlessStopped), false, true),
        ("unless-stopped", policy(RestartPolicy::UnlessStopped), true, false),
        ("failure", policy(RestartPolicy::OnFailure { max: 0 }), false, true),
        ("failure-stopped", policy(RestartPolicy::OnFailure { max: 0 }), true, false),
    ];
    for (name, spec, stopped, _) in &cases {
        host.run(name, spec.clone()).await;
        if *stopped {
            host.containers.stop(name, None, None).await.unwrap();
        }
    }
    host.create("never", policy(RestartPolicy::Always)).await;
    host.run("gone", Spec { auto_remove: true, ..spec() }).await;
    let ids: Vec<_> = cases.iter().map(|(name, ..)| host.containers.find(name).unwrap().id).collect();
    // Once after the host was killed, once after it was told to end.
    let killed = open(host.folder.path(), &host.runtime);
    killed.restore().await;
    let check = |containers: &Containers| {
        for ((name, _, _, back), id) in cases.iter().zip(&ids) {
            let found = containers.find(name).unwrap();
            assert_eq!((found.status.is_live(), &found.id), (*back, id), "{name}");
        }
        assert_eq!(containers.find("never").unwrap().status, Status::Created);
        assert!(containers.find("gone").is_err());
    };
    check(&killed);
    assert_eq!(killed.find("no").unwrap().exit.code, 255);
    killed.stop("always-stopped", None, None).await.unwrap();
    killed.shutdown(Duration::from_secs(1)).await;
    assert!(killed.list().iter().all(|container| !container.status.is_live()));
    assert_eq!(killed.start("no").await.unwrap_err().kind(), ErrorKind::Unavailable);
    let ended = open(host.folder.path(), &host.runtime);
    assert_eq!(ended.find("always").unwrap().exit.code, 143);
    ended.restore().await;
    check(&ended);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_brought_back_is_tried_again() {
    let host = host();
    let id = host.run("web", policy(RestartPolicy::Always)).await;
    let containers = open(host.folder.path(), &host.runtime);
    host.runtime.will(Outcome::Fails(ErrorKind::Failed, "no GPU"));
    containers.restore().await;
    assert_eq!(containers.find(&id).unwrap().status, Status::Restarting);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(containers.find(&id).unwrap().status, Status::Running);
}

#[tokio::test(start_paused = true)]
async fn health_goes_from_starting_to_healthy_to_unhealthy() {
    let host = host();
    let mut events = host.listen();
    let check = Healthcheck {
        test: vec!["CMD-SHELL".into(), "curl -f http://localhost:5000/healthz || exit 1".into()],
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        retries: 2,
        ..Healthcheck::default()
    };
    let id = host.run("web", Spec { healthcheck: Some(check), ..spec() }).await;
    let health = || host.containers.find(&id).unwrap().health.unwrap();
    assert_eq!(health().status, HealthStatus::Starting);
    // One success; then the fake answers no more, which is a timeout each.
    host.runtime.last().probes.lock().unwrap().push_back(0);
    assert_eq!(actions(&mut events, 4).await[3], "health_status: healthy");
    assert_eq!(actions(&mut events, 1).await, ["health_status: unhealthy"]);
    let report = health();
    assert_eq!((report.status, report.failing_streak, report.log.len()), (HealthStatus::Unhealthy, 2, 3));
    assert_eq!((report.log[0].output.as_str(), report.log[2].code), ("checked", -1));
    host.containers.stop(&id, None, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_check_that_cannot_run_is_a_warning() {
    let host = host();
    let check = Healthcheck { test: vec!["CMD-SHELL".into(), "pg_isready".into()], ..Healthcheck::default() };
    let created = host.containers.create(None, Spec { healthcheck: Some(check), ..spec() }).await.unwrap();
    assert!(created.warnings[0].contains("`pg_isready`"), "{:?}", created.warnings);
    host.containers.start(&created.id).await.unwrap();
    assert!(host.containers.find(&created.id).unwrap().health.is_none());
}
