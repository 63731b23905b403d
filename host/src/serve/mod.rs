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
//! - [`shutdown`]: the signals that end it
//! - [`doctor`]: what this machine can run, and why not the rest

pub mod board;
pub mod builds;
pub mod config;
pub mod console;
pub mod daemon;
pub mod dashboard;
pub mod doctor;
pub mod host;
pub mod host_port;
pub mod shutdown;
pub mod target;
pub mod telemetry;
pub mod workloads;

use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::error::Result;
use board::Board;
use config::ServeConfig;
use daemon::Daemon;
use host::Host;
use shutdown::Signals;
use workloads::Workloads;

/// Run `config` until a signal ends it. Everything that was named is bound and loaded, or nothing is: a target that
/// cannot start ends the call with its reason. A container that cannot be restored says so in `ps` and holds up nobody.
pub async fn run(mut config: ServeConfig) -> Result<()> {
    let started = Instant::now();
    let signals = Signals::install()?;
    let (lines, received) = crate::runtime::log::channel();
    let console = console::spawn(received, config.log_format)?;
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
    tracing::info!(name = "host", address = %port.address(), "listening");
    running.spawn(port.serve(draining.clone()));
    if let Some(daemon) = &daemon {
        daemon.serve(&mut running, draining.clone())?;
        daemon.restore().await;
    }
    tracing::info!(milliseconds = started.elapsed().as_millis() as u64, "ready");
    let task = config.when_ready.take().map(|task| tokio::spawn(task()));

    wait(&signals, task).await?;
    tracing::info!(seconds = config.stop_timeout.as_secs(), "draining: no new requests; a second signal stops at once");
    drain.send_replace(true);
    let stopped = async {
        if let Some(daemon) = &daemon {
            daemon.stop(config.stop_timeout).await;
        }
    };
    let drained = async { tokio::join!(stopped, async { while running.join_next().await.is_some() {} }) };
    tokio::select! {
        _ = drained => tracing::info!("stopped"),
        () = tokio::time::sleep(config.stop_timeout) => tracing::warn!("stopped: requests still open were cut"),
        () = signals.wait() => tracing::warn!("stopped at once: requests still open were cut"),
    }
    drop((running, host, lines));
    console.finish();
    Ok(())
}

/// Until a signal comes, or what was to be done when ready has failed.
async fn wait(signals: &Signals, task: Option<tokio::task::JoinHandle<Result<()>>>) -> Result<()> {
    let failed = async {
        match task {
            Some(task) => match task.await {
                Ok(Err(error)) => error,
                // Done: the containers it started go on.
                Ok(Ok(())) | Err(_) => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = signals.wait() => Ok(()),
        error = failed => Err(error),
    }
}
