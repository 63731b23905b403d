//! Containers from outside: verbs, ends, restarts, what lasts. The runtime is a fake, time stands still until all wait.

mod durability;
mod inside;
mod lifecycle;
mod restarts;

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::engine::{Containers, Options};
use super::events::EventReader;
use super::fixture::{FakeRuntime, add_image};
use super::snapshot::WaitCondition;
use super::spec::Spec;
use super::state::Status;
use crate::image::Images;

struct Host {
    folder: TempDir,
    runtime: Arc<FakeRuntime>,
    containers: Containers,
}

fn host() -> Host {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Arc::new(FakeRuntime::default());
    let containers = open(folder.path(), &runtime);
    Host { folder, runtime, containers }
}

fn open(data: &Path, runtime: &Arc<FakeRuntime>) -> Containers {
    let images = Images::open(data).unwrap();
    add_image(&images);
    Containers::open(Options::new(data.to_owned()), images, runtime.clone()).unwrap()
}

impl Host {
    async fn create(&self, name: &str, spec: Spec) -> String {
        self.containers.create(Some(name), spec).await.unwrap().id
    }

    async fn run(&self, name: &str, spec: Spec) -> String {
        let id = self.create(name, spec).await;
        self.containers.start(name).await.unwrap();
        id
    }

    fn status(&self, id: &str) -> Status {
        self.containers.find(id).unwrap().status
    }

    /// Until the container has ended once more.
    async fn next_exit(&self, id: &str) -> i32 {
        self.containers.wait(id, WaitCondition::NextExit).await.unwrap().await.code
    }

    /// Until all is written, and nothing but longer timers is under way.
    async fn settle(&self) {
        for cell in self.containers.shared.by_age() {
            cell.feed.flushed().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    fn listen(&self) -> EventReader {
        self.containers.events().subscribe(None, None)
    }
}

async fn actions(events: &mut EventReader, count: usize) -> Vec<String> {
    let mut actions = Vec::new();
    while actions.len() < count {
        actions.push(events.next().await.unwrap().action);
    }
    actions
}
