//! The verbs that talk to the daemon: which struct each is, and the connection they share.

use std::process::ExitCode;

use clap::Subcommand;

use super::client::Client;
use super::{build, compose, copy, images, lifecycle, login, look, objects, prune, run, system, transfer, watch};
use crate::error::{Error, ErrorKind, Result};

#[derive(Debug, Subcommand)]
pub enum Remote {
    Run(Box<run::Run>),
    Exec(run::Exec),
    Ps(look::Ps),
    Build(build::Build),
    Compose(compose::Compose),
    Pull(transfer::Pull),
    Push(transfer::Push),
    Images(images::List),
    Login(login::Login),
    Logout(login::Logout),
    /// Show the versions of client and daemon
    Version(system::Formatted),
    /// Display system-wide information
    Info(system::Formatted),
    /// Manage containers
    #[command(subcommand)]
    Container(Box<Container>),
    #[command(subcommand)]
    Builder(prune::Builder),
    #[command(subcommand)]
    Image(images::Image),
    #[command(subcommand)]
    Network(objects::Network),
    #[command(subcommand)]
    Volume(objects::Volume),
    #[command(subcommand)]
    System(system::System),
    Attach(run::Attach),
    Cp(copy::Copy),
    Create(Box<run::Create>),
    Diff(look::Diff),
    Events(watch::Events),
    Export(copy::Export),
    History(images::History),
    Inspect(look::Inspect),
    Kill(lifecycle::Kill),
    Load(transfer::Load),
    Logs(look::Logs),
    /// Pause one or more containers
    Pause(lifecycle::Names),
    Port(look::Port),
    Rename(lifecycle::Rename),
    /// Restart one or more containers
    Restart(lifecycle::Stop),
    Rm(lifecycle::Remove),
    Rmi(images::Remove),
    Save(transfer::Save),
    Start(run::Start),
    Stats(watch::Stats),
    /// Stop one or more running containers
    Stop(lifecycle::Stop),
    Tag(images::Tag),
    Top(look::Top),
    /// Let one or more paused containers go on
    Unpause(lifecycle::Names),
    Update(lifecycle::Update),
    /// Block until containers stop, then print their exit codes
    Wait(lifecycle::Names),
}

#[derive(Debug, Subcommand)]
pub enum Container {
    #[command(visible_aliases = ["list", "ps"])]
    Ls(look::Ps),
    Prune(prune::Containers),
    Inspect(look::Inspect),
    Run(run::Run),
    Create(run::Create),
    Start(run::Start),
    /// Stop one or more running containers
    Stop(lifecycle::Stop),
    /// Restart one or more containers
    Restart(lifecycle::Stop),
    Rm(lifecycle::Remove),
    Logs(look::Logs),
    Exec(run::Exec),
    Attach(run::Attach),
    Cp(copy::Copy),
    Diff(look::Diff),
    Export(copy::Export),
    Kill(lifecycle::Kill),
    /// Pause one or more containers
    Pause(lifecycle::Names),
    Port(look::Port),
    Rename(lifecycle::Rename),
    Stats(watch::Stats),
    Top(look::Top),
    /// Let one or more paused containers go on
    Unpause(lifecycle::Names),
    Update(lifecycle::Update),
    /// Block until containers stop, then print their exit codes
    Wait(lifecycle::Names),
}

impl Remote {
    pub fn execute(self, host: Option<&str>) -> Result<ExitCode> {
        let client = Client::new(host)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Error::new(ErrorKind::Io, "cannot start the runtime's threads").because(error))?;
        let done = runtime.block_on(self.ask(client));
        // A thread that still reads stdin must not hold the program.
        runtime.shutdown_background();
        done
    }

    async fn ask(self, client: Client) -> Result<ExitCode> {
        match self {
            Remote::Run(verb) => verb.execute(client).await,
            Remote::Exec(verb) => verb.execute(client).await,
            Remote::Ps(verb) => verb.execute(client).await,
            Remote::Build(verb) => verb.execute(client).await,
            Remote::Compose(verb) => verb.execute(client).await,
            Remote::Pull(verb) => verb.execute(client).await,
            Remote::Push(verb) => verb.execute(client).await,
            Remote::Images(verb) => verb.execute(client).await,
            Remote::Login(verb) => verb.execute(client).await,
            Remote::Logout(verb) => verb.execute(),
            Remote::Version(verb) => verb.version(client).await,
            Remote::Info(verb) => verb.info(client).await,
            Remote::Container(verb) => verb.execute(client).await,
            Remote::Builder(verb) => verb.execute(client).await,
            Remote::Image(verb) => verb.execute(client).await,
            Remote::Network(verb) => verb.execute(client).await,
            Remote::Volume(verb) => verb.execute(client).await,
            Remote::System(verb) => verb.execute(client).await,
            Remote::Attach(verb) => verb.execute(client).await,
            Remote::Create(verb) => verb.execute(client).await,
            Remote::Cp(verb) => verb.execute(client).await,
            Remote::Export(verb) => verb.execute(client).await,
            Remote::Diff(verb) => verb.execute(client).await,
            Remote::Events(verb) => verb.execute(client).await,
            Remote::History(verb) => verb.execute(client).await,
            Remote::Inspect(verb) => verb.execute(client, &["containers", "images", "networks", "volumes"]).await,
            Remote::Kill(verb) => verb.execute(client).await,
            Remote::Load(verb) => verb.execute(client).await,
            Remote::Logs(verb) => verb.execute(client).await,
            Remote::Pause(names) => names.post(client, "pause").await,
            Remote::Port(verb) => verb.execute(client).await,
            Remote::Rename(verb) => verb.execute(client).await,
            Remote::Restart(verb) => verb.execute(client, "restart").await,
            Remote::Rm(verb) => verb.execute(client).await,
            Remote::Rmi(verb) => verb.execute(client).await,
            Remote::Save(verb) => verb.execute(client).await,
            Remote::Start(verb) => verb.execute(client).await,
            Remote::Stats(verb) => verb.execute(client).await,
            Remote::Stop(verb) => verb.execute(client, "stop").await,
            Remote::Tag(verb) => verb.execute(client).await,
            Remote::Top(verb) => verb.execute(client).await,
            Remote::Unpause(names) => names.post(client, "unpause").await,
            Remote::Update(verb) => verb.execute(client).await,
            Remote::Wait(names) => names.wait(client).await,
        }
    }
}

impl Container {
    async fn execute(self, client: Client) -> Result<ExitCode> {
        match self {
            Container::Ls(verb) => verb.execute(client).await,
            Container::Prune(verb) => verb.execute(client).await,
            Container::Inspect(verb) => verb.execute(client, &["containers"]).await,
            Container::Run(verb) => verb.execute(client).await,
            Container::Create(verb) => verb.execute(client).await,
            Container::Start(verb) => verb.execute(client).await,
            Container::Stop(verb) => verb.execute(client, "stop").await,
            Container::Restart(verb) => verb.execute(client, "restart").await,
            Container::Rm(verb) => verb.execute(client).await,
            Container::Logs(verb) => verb.execute(client).await,
            Container::Exec(verb) => verb.execute(client).await,
            Container::Attach(verb) => verb.execute(client).await,
            Container::Cp(verb) => verb.execute(client).await,
            Container::Export(verb) => verb.execute(client).await,
            Container::Diff(verb) => verb.execute(client).await,
            Container::Kill(verb) => verb.execute(client).await,
            Container::Pause(names) => names.post(client, "pause").await,
            Container::Port(verb) => verb.execute(client).await,
            Container::Rename(verb) => verb.execute(client).await,
            Container::Stats(verb) => verb.execute(client).await,
            Container::Top(verb) => verb.execute(client).await,
            Container::Unpause(names) => names.post(client, "unpause").await,
            Container::Update(verb) => verb.execute(client).await,
            Container::Wait(names) => names.wait(client).await,
        }
    }
}
