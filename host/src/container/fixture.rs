//! What tests of this room share: a spec, a container without a host, and a runtime that does what it is told.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::cell::Cell;
use super::logs::writer::Queue;
use super::record::Record;
use super::runtime::{
    BoundPort, BoxFuture, Exec, Exit, Kind, ModelDevice, Output, Peers, Probe, ProbeResult, Runtime, Start, Stream,
    Task, Usage,
};
use super::spec::{LogOptions, RestartPolicy, Spec};
use crate::error::{Error, ErrorKind, Result};
use crate::image::manifest::{Descriptor, Manifest, media};
use crate::image::{Digest, Images};

/// The configuration of an image without files.
const IMAGE: &[u8] = br#"{"architecture":"wasm","os":"wasi","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;

/// Put the image of [`spec`] into a store.
pub fn add_image(images: &Images) {
    let hold = images.hold();
    let mut writer = images.blobs().writer().unwrap();
    writer.write_all(IMAGE).unwrap();
    let (digest, size) = writer.commit(None).unwrap();
    let manifest = Manifest::new(Descriptor::new(media::CONFIG, digest, size), Vec::new());
    let manifest = serde_json::to_vec(&manifest).unwrap();
    images.commit_manifest(&manifest, media::MANIFEST, &["app".parse().unwrap()], None).unwrap();
    drop(hold);
}

pub fn spec() -> Spec {
    Spec {
        image: "app".into(),
        image_id: Digest::of(IMAGE),
        entrypoint: vec!["/app.wasm".into()],
        command: Vec::new(),
        environment: Vec::new(),
        working_dir: "/".into(),
        user: String::new(),
        hostname: String::new(),
        labels: BTreeMap::new(),
        exposed: Vec::new(),
        publish: Vec::new(),
        publish_all: false,
        mounts: Vec::new(),
        memory: None,
        nano_cpus: None,
        restart: RestartPolicy::No,
        log: LogOptions::default(),
        network_mode: "bridge".into(),
        endpoints: BTreeMap::new(),
        egress: Vec::new(),
        extra_hosts: Vec::new(),
        healthcheck: None,
        auto_remove: false,
        tty: false,
        open_stdin: false,
        stdin_once: false,
        stop_signal: None,
        stop_timeout: None,
        gpus: None,
        devices: crate::container::devices::DeviceWish::default(),
        runtime: "wharf".into(),
        host_config: serde_json::Value::Null,
    }
}

/// In memory only.
pub fn cell(id: &str, name: &str) -> Arc<Cell> {
    let record = Record::new(id.to_owned(), name.to_owned(), spec(), BTreeMap::new());
    Cell::new(Path::new("nowhere"), record, Queue::default())
}

/// What the next starts do; once used up, starts succeed.
#[derive(Default)]
pub struct FakeRuntime {
    pub outcomes: Mutex<VecDeque<Outcome>>,
    /// All started tasks, oldest first.
    pub tasks: Mutex<Vec<Arc<FakeTask>>>,
}

pub enum Outcome {
    Fails(ErrorKind, &'static str),
    /// Writes the lines, then ends with the code.
    Ends(&'static [&'static str], i32),
}

pub struct FakeTask {
    pub name: Mutex<String>,
    pub output: Arc<dyn Output>,
    pub peers: Arc<dyn Peers>,
    pub stdin: Mutex<Option<tokio::sync::mpsc::Receiver<Bytes>>>,
    pub environment: Vec<(String, String)>,
    pub mounts: Vec<super::spec::Mount>,
    pub paused: watch::Sender<bool>,
    pub exit: watch::Sender<Option<Exit>>,
    /// Finishes its requests only when cut.
    pub stubborn: Mutex<bool>,
    pub probes: Mutex<VecDeque<i32>>,
    pub limits: Mutex<(Option<u64>, Option<u64>)>,
}

impl FakeRuntime {
    pub fn will(&self, outcome: Outcome) {
        self.outcomes.lock().unwrap().push_back(outcome);
    }

    pub fn last(&self) -> Arc<FakeTask> {
        self.tasks.lock().unwrap().last().unwrap().clone()
    }

    pub fn starts(&self) -> usize {
        self.tasks.lock().unwrap().len()
    }
}

impl Runtime for FakeRuntime {
    fn start(&self, start: Start) -> BoxFuture<'static, Result<Arc<dyn Task>>> {
        let outcome = self.outcomes.lock().unwrap().pop_front();
        if let Some(Outcome::Fails(kind, message)) = outcome {
            return Box::pin(async move { Err(Error::new(kind, message)) });
        }
        let task = Arc::new(FakeTask {
            name: Mutex::new(start.name),
            output: start.output,
            peers: start.peers,
            stdin: Mutex::new(start.stdin),
            environment: start.environment,
            mounts: start.mounts,
            paused: watch::Sender::new(false),
            exit: watch::Sender::new(None),
            stubborn: Mutex::new(false),
            probes: Mutex::default(),
            limits: Mutex::default(),
        });
        if let Some(Outcome::Ends(lines, code)) = outcome {
            for line in lines {
                task.say(line);
            }
            task.end(code);
        }
        self.tasks.lock().unwrap().push(task.clone());
        Box::pin(async move { Ok(task as Arc<dyn Task>) })
    }
}

impl FakeTask {
    pub fn say(&self, line: &str) {
        assert!(self.output.try_write(Stream::Stdout, Bytes::copy_from_slice(line.as_bytes())));
    }

    pub fn end(&self, code: i32) {
        self.exit.send_if_modified(|exit| {
            let ends = exit.is_none();
            if ends {
                *exit = Some(Exit { code, ..Exit::default() });
            }
            ends
        });
    }
}

impl Task for FakeTask {
    fn kind(&self) -> Kind {
        Kind::Service
    }

    fn ports(&self) -> Vec<BoundPort> {
        Vec::new()
    }

    fn devices(&self) -> Vec<ModelDevice> {
        Vec::new()
    }

    fn models(&self) -> Vec<String> {
        vec!["digits".into()]
    }

    fn exited(&self) -> BoxFuture<'static, Exit> {
        let mut exit = self.exit.subscribe();
        Box::pin(async move { exit.wait_for(Option::is_some).await.unwrap().clone().unwrap() })
    }

    fn stop(&self, grace: Option<Duration>, code: i32) -> BoxFuture<'static, ()> {
        let exit = self.exit.clone();
        let stubborn = *self.stubborn.lock().unwrap();
        Box::pin(async move {
            match grace {
                _ if !stubborn => {}
                Some(grace) => tokio::time::sleep(grace).await,
                None => std::future::pending().await,
            }
            exit.send_if_modified(|exit| {
                let ends = exit.is_none();
                if ends {
                    *exit = Some(Exit { code, ..Exit::default() });
                }
                ends
            });
        })
    }

    fn pause(&self) {
        self.paused.send_replace(true);
    }

    fn unpause(&self) {
        self.paused.send_replace(false);
    }

    fn renamed(&self, name: &str) {
        name.clone_into(&mut self.name.lock().unwrap());
    }

    fn update(&self, memory: Option<u64>, nano_cpus: Option<u64>) -> Result<()> {
        *self.limits.lock().unwrap() = (memory, nano_cpus);
        Ok(())
    }

    fn usage(&self) -> Usage {
        Usage { memory: 1, ..Usage::default() }
    }

    fn probe(&self, _probe: Probe, _timeout: Duration) -> BoxFuture<'static, ProbeResult> {
        let code = self.probes.lock().unwrap().pop_front();
        Box::pin(async move {
            match code {
                Some(code) => ProbeResult { code, output: "checked".into() },
                None => std::future::pending().await,
            }
        })
    }

    /// `echo` answers its argument, `wait` goes on for ever, anything else is not found.
    fn exec(&self, exec: Exec) -> BoxFuture<'static, Exit> {
        Box::pin(async move {
            match exec.argv.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["echo", word] => {
                    let _ = exec.output.send((Stream::Stdout, Bytes::copy_from_slice(word.as_bytes()))).await;
                    Exit::default()
                }
                ["wait"] => std::future::pending().await,
                _ => Exit { code: 127, ..Exit::default() },
            }
        })
    }
}
