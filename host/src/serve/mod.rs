//! Serve: the composition root. Builds the graph of rooms from a configuration, runs the listeners, and takes
//! them down again. The only room that sees all others; it must hold no logic that one of them could hold.
//!
//! - [`config`]: what to run, resolved: nothing left that means "default"
//! - [`target`]: from a path on the command line to a workload
//! - [`host`]: what all that runs shares: the engine, ONNX Runtime, the table of services, metrics
//! - [`workloads`]: what was named on the command line by path
//! - [`daemon`]: images, containers, and the socket they are managed on; [`builds`]: what building needs
//! - [`host_port`]: the host's own port: Open Inference Protocol, metrics, [`dashboard`]; [`board`]: what that shows
//! - [`console`]: workloads' lines on the terminal, or as JSON
//! - [`telemetry`]: the host's own log
//! - [`shutdown`]: the signals that end it; [`notify`]: what a service manager is told
//! - [`doctor`], [`accelerators`]: what this machine can run, and why not the rest; [`engines`]: those of TensorRT, to be
//!   carried elsewhere

mod accelerators;
pub mod board;
pub mod builds;
pub mod config;
pub mod console;
pub mod daemon;
pub mod dashboard;
pub mod doctor;
pub mod engines;
pub mod host;
pub mod host_port;
pub mod notify;
pub mod shutdown;
pub mod target;
pub mod telemetry;
pub mod workloads;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};

use crate::error::{Error, ErrorKind, Result};
use board::Board;
use config::{Foreground, ServeConfig};
use console::Printer;
use daemon::Daemon;
use host::Host;
use notify::Notifier;
use shutdown::Signals;
use workloads::Workloads;

/// Run `config` until a signal ends it. Everything that was named is bound and loaded, or nothing is: a target that
/// cannot start ends the call with its reason. A container that cannot be restored says so in `ps` and holds up nobody.
/// The exit code is that of the foreground, if there is one and it ended by itself.
pub async fn run(mut config: ServeConfig) -> Result<ExitCode> {
    let started = Instant::now();
    let signals = Signals::install()?;
    let manager = Notifier::open(config.supervisor.as_ref());
    let (lines, received) = crate::runtime::log::channel();
    let console = console::spawn(received, config.log_format, config.coloured)?;
    let host = Host::start(&config)?;
    let (drain, draining) = watch::channel(false);
    let mut running = JoinSet::new();

    let daemon = match &config.control {
        Some(control) => Some(Daemon::open(control, &config, &host)?),
        None => None,
    };
    let workloads = Workloads::start(&config, &host, &lines, &mut running, &draining).await?;
    let board = Board::new(&host, &workloads, daemon.as_ref());
    let port = host_port::bind(config.http, &host, &config.limits, board).await?;
    let address = port.address();
    tracing::info!(name = "host", %address, "listening");
    running.spawn(port.serve(draining.clone()));
    if let Some(daemon) = &daemon {
        daemon.serve(&mut running, draining.clone())?;
        manager.status("starting containers").await;
        daemon.restore().await;
    }
    manager.beat();
    let ready = {
        let manager = manager.clone();
        async move {
            tracing::info!(milliseconds = started.elapsed().as_millis() as u64, "ready");
            manager.ready(&format!("answering on {address}")).await;
        }
    };
    let foreground = match config.when_ready.take() {
        Some(task) => {
            let (stop, stopping) = watch::channel(false);
            let (up, is_up) = oneshot::channel();
            manager.status("starting what was named on the command line").await;
            // Nothing is told where something did not come up.
            tokio::spawn(async move {
                if is_up.await.is_ok() {
                    ready.await;
                }
            });
            Some((stop, tokio::spawn(task(Foreground { stopping, printer: Printer::new(lines.clone()), up }))))
        }
        None => {
            ready.await;
            None
        }
    };

    let Ended { outcome, hurried } = wait(&signals, foreground).await;
    let grace = if hurried { Duration::ZERO } else { config.stop_timeout };
    tracing::info!(seconds = grace.as_secs(), "draining: no new requests; a second signal stops at once");
    drain.send_replace(true);
    manager.stopping().await;
    let stopped = async {
        if let Some(daemon) = &daemon {
            daemon.stop(grace).await;
        }
    };
    let drained = async { tokio::join!(stopped, async { while running.join_next().await.is_some() {} }) };
    tokio::select! {
        _ = drained => tracing::info!("stopped"),
        () = tokio::time::sleep(grace) => tracing::warn!("stopped: requests still open were cut"),
        () = signals.wait() => tracing::warn!("stopped at once: requests still open were cut"),
    }
    drop((running, host, lines));
    console.finish();
    outcome
}

/// How the foreground came to its end.
struct Ended {
    outcome: Result<ExitCode>,
    /// A second signal came while it stopped.
    hurried: bool,
}

/// Until a signal comes or the foreground has ended. After a signal the foreground stops what it started, while the
/// host still answers it.
async fn wait(signals: &Signals, foreground: Option<(watch::Sender<bool>, JoinHandle<Result<ExitCode>>)>) -> Ended {
    let ended = |outcome| Ended { outcome, hurried: false };
    let Some((stop, mut task)) = foreground else {
        signals.wait().await;
        return ended(Ok(ExitCode::SUCCESS));
    };
    tokio::select! {
        done = &mut task => return ended(flat(done)),
        () = signals.wait() => {}
    }
    tracing::info!("stopping what runs in the foreground; a second signal stops at once");
    stop.send_replace(true);
    tokio::select! {
        // It was told to stop: what it makes of that is not the host's failure.
        done = &mut task => {
            if let Err(error) = flat(done) {
                tracing::warn!(error = error.chain(), "what ran in the foreground did not stop cleanly");
            }
            ended(Ok(ExitCode::SUCCESS))
        }
        () = signals.wait() => {
            task.abort();
            Ended { outcome: Ok(ExitCode::SUCCESS), hurried: true }
        }
    }
}

fn flat(done: Result<Result<ExitCode>, JoinError>) -> Result<ExitCode> {
    done.unwrap_or_else(|error| Err(Error::new(ErrorKind::Failed, "the foreground broke off").because(error)))
}
