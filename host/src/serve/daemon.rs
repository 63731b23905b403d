//! The control plane: the store of images, the containers, and the socket on which they are managed.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::builds::Hooks;
use super::config::{Control as ControlConfig, ServeConfig};
use super::host::Host;
use crate::container::{Containers, Options};
use crate::control::{self, Control, HostFacts};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Images;
use crate::image::registry::Registry;
use crate::runtime::tooling::Tooling;

pub struct Daemon {
    containers: Containers,
    control: Control,
    socket: PathBuf,
    listener: Mutex<Option<UnixListener>>,
    /// Held as long as the daemon lives.
    _lock: File,
}

impl Daemon {
    /// Take the socket and read what is on disk. Nothing runs yet.
    pub fn open(config: &ControlConfig, serve: &ServeConfig, host: &Host) -> Result<Daemon> {
        let lock = take_folder(&serve.data)?;
        let listener = control::bind(&config.socket)?;
        let images = Images::open(&serve.data)?;
        let registry = Registry::new(images.clone(), &serve.data)?;
        let options = Options::new(serve.data.clone());
        let containers = Containers::open(options, images.clone(), Arc::new(host.launcher.clone()))?;
        let tokio = Handle::current();
        let tooling = Tooling::new(&host.runtime, tokio.clone());
        let hooks = Arc::new(Hooks::new(tooling, registry.clone(), tokio));
        let machine = host.runtime.devices().machine();
        let usable = machine.can_run_cuda();
        let facts = HostFacts {
            gpus: usable.is_ok(),
            // Where nothing says that there is a GPU, none is missed. A Jetson always has one.
            warnings: usable
                .err()
                .filter(|_| machine.jetson.is_some() || !machine.gpus.is_empty())
                .into_iter()
                .collect(),
            wasm_runtime: wharf_sandbox::engine::WASMTIME.to_owned(),
            ..HostFacts::read(&serve.data, host.cores)
        };
        let control = Control::new(containers.clone(), images, registry, hooks, facts);
        Ok(Daemon {
            containers,
            control,
            socket: config.socket.clone(),
            listener: Mutex::new(Some(listener)),
            _lock: lock,
        })
    }

    pub fn containers(&self) -> &Containers {
        &self.containers
    }

    /// Answer on the socket until told to drain.
    pub fn serve(&self, running: &mut JoinSet<()>, draining: watch::Receiver<bool>) -> Result<()> {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let listener = listener.ok_or_else(|| Error::new(ErrorKind::Conflict, "the socket is served already"))?;
        tracing::info!(name = "control", address = %self.socket.display(), "listening");
        running.spawn(control::serve(listener, self.control.clone(), draining));
        Ok(())
    }

    /// Start what the restart policies say.
    pub async fn restore(&self) {
        self.containers.restore().await;
    }

    pub async fn stop(&self, grace: Duration) {
        self.containers.shutdown(grace).await;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A socket nobody listens on would look like a daemon that hangs.
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// The data folder, for this process alone: two daemons on one would undo each other's work. The lock goes with the
/// process, however it ends.
fn take_folder(folder: &Path) -> Result<File> {
    let unusable = |error| {
        Error::new(ErrorKind::Unmet, format!("cannot use {} to keep images and containers", folder.display()))
            .because(error)
    };
    std::fs::create_dir_all(folder).map_err(unusable)?;
    let lock = File::create(folder.join("lock")).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "another host already uses {}: give it what to run with `wharf run` or `wharf compose up`, stop it, or \
                 choose another folder with --data",
                folder.display()
            ),
        )),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}
