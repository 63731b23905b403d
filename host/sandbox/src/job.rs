//! A component that runs once and ends: `docker run` of a job, `docker exec` of a tool, a build's `RUN`.
//!
//! As with a service, the guest runs in the caller's task and dropping the future is how it is killed: it stops at its
//! next epoch or host call, and all it held is freed. Its exit code is what it gave to `wasi:cli/exit`, or 0 or 1 by
//! whether its `run` succeeded.

use bytes::Bytes;
use tokio::sync::mpsc;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::cache::ComponentCache;
use crate::component::{LoadError, Names, load, unfit};
use crate::engine::Engine;
use crate::instance::{CallError, Mould, failed, unstarted};
use crate::state::{Guest, State};
use crate::stdio::Stdin;

/// A compiled job. Cheap to clone; every run gets an instance of its own.
#[derive(Clone)]
pub struct Job {
    engine: Engine,
    pre: CommandPre<State>,
    digest: String,
}

/// One run.
pub struct JobSpec {
    pub guest: Guest,
    /// What it reads, to the end of the channel; `None` is empty.
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    /// Whether its standard streams say they are terminals.
    pub terminal: bool,
}

impl Job {
    /// Check and compile `wasm`; the result of compiling comes from and goes to `cache`.
    pub fn load(engine: &Engine, cache: Option<&ComponentCache>, wasm: &[u8]) -> Result<Job, LoadError> {
        let (pre, digest) = load(engine, cache, wasm, Names::check_job)?;
        let pre = CommandPre::new(pre).map_err(unfit)?;
        Ok(Job { engine: engine.clone(), pre, digest })
    }

    /// sha256 of the component, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Run to the end and give its exit code. All it has written is delivered by then.
    pub async fn run(&self, spec: JobSpec) -> Result<i32, CallError> {
        let mould = Mould::new(self.engine.clone(), spec.guest);
        let stdin = Stdin::new(spec.stdin, spec.terminal);
        mould.run(self.run_in(&mould, stdin)).await
    }

    async fn run_in(&self, mould: &Mould, stdin: Stdin) -> Result<i32, CallError> {
        let mut store = mould.store(stdin)?;
        let command = match self.pre.instantiate_async(&mut store).await {
            Ok(command) => command,
            Err(error) => return Err(unstarted(&error, &store)),
        };
        let ended = command.wasi_cli_run().call_run(&mut store).await;
        store.data_mut().finish_output().await;
        match ended {
            Ok(Ok(())) => Ok(0),
            Ok(Err(())) => Ok(1),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(code)) => Ok(*code),
                None => Err(failed(&error, store.data())),
            },
        }
    }
}
