//! `wharf compose`: a project's services brought to what their file says, over the API.
//!
//! - [`files`]: which files, which project
//! - [`project`]: what of it the daemon has: containers, networks, volumes
//! - [`images`]: `build`, `pull`
//! - [`up`], [`ready`]: `up`, and what a service waits for
//! - [`follow`]: everybody's output, line by line
//! - [`down`]: `down`, `stop`, `start`, `restart`
//! - [`show`], [`exec`]: `ps`, `config`; a command in one of them
//! - [`members`], [`one_off`]: `kill`, `rm`, `top`, `images`, `port`, `ls`, `version`; `run`

mod down;
mod exec;
mod files;
pub mod follow;
mod images;
mod members;
mod one_off;
pub mod project;
mod ready;
mod show;
mod up;

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use self::files::Files;
use self::follow::Source;
use self::project::Work;
use super::client::Client;
use super::table;
use crate::compose::project::Project;
use crate::error::Result;

/// Define and run services together
///
/// Examples:
///   wharf compose up -d --build
///   wharf compose logs -f facedetection
///   wharf compose down -v
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Compose {
    #[command(flatten)]
    files: Files,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Up(up::Up),
    Build(images::Build),
    Pull(images::Pull),
    Down(down::Down),
    Ps(show::Ps),
    Logs(follow::Logs),
    Config(show::Config),
    /// Start services that were stopped
    Start(down::Services),
    /// Stop services without removing them
    Stop(down::Stop),
    /// Stop and start services
    Restart(down::Stop),
    Exec(exec::Exec),
    Run(one_off::Run),
    Kill(members::Kill),
    Rm(members::Rm),
    /// Show what runs in the containers
    Top(down::Services),
    Images(members::Images),
    Port(members::Port),
    Ls(members::Ls),
    Version(members::Version),
}

impl Compose {
    pub async fn execute(self, client: Client) -> Result<ExitCode> {
        match self.verb {
            Verb::Version(verb) => return verb.execute().map(|()| ExitCode::SUCCESS),
            Verb::Ls(verb) => return verb.execute(client).await.map(|()| ExitCode::SUCCESS),
            _ => {}
        }
        let mut project = self.files.read(self.verb.services())?;
        if let Verb::Up(verb) = &self.verb {
            verb.scale.iter().try_for_each(|(name, number)| project.scale(name, *number))?;
        }
        warn(&mut project);
        let work = Work { client, project };
        match self.verb {
            Verb::Up(verb) => return verb.execute(work).await,
            Verb::Logs(verb) => return verb.execute(work).await,
            Verb::Exec(verb) => return verb.execute(work).await,
            Verb::Run(verb) => return verb.execute(work).await,
            Verb::Build(verb) => verb.execute(work).await?,
            Verb::Pull(verb) => verb.execute(work).await?,
            Verb::Down(verb) => verb.execute(work).await?,
            Verb::Ps(verb) => verb.execute(work).await?,
            Verb::Config(verb) => verb.execute(work)?,
            Verb::Start(verb) => verb.start(work).await?,
            Verb::Stop(verb) => verb.execute(work, "stop").await?,
            Verb::Restart(verb) => verb.execute(work, "restart").await?,
            Verb::Kill(verb) => verb.execute(work).await?,
            Verb::Rm(verb) => verb.execute(work).await?,
            Verb::Top(verb) => members::top(work, &verb.services).await?,
            Verb::Images(verb) => verb.execute(work).await?,
            Verb::Port(verb) => verb.execute(work).await?,
            // Need no file, and were done above.
            Verb::Ls(_) | Verb::Version(_) => {}
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What one compose file says, for a daemon that need not run yet. Its warnings are said.
pub fn read(file: &Path, client: Client) -> Result<Work> {
    let mut project = Files::only(file).read(&[])?;
    warn(&mut project);
    Ok(Work { client, project })
}

/// What `up` does, without waiting for anybody's end.
pub async fn raise(work: &Work) -> Result<Vec<Source>> {
    up::Up::default().raise(work).await
}

fn warn(project: &mut Project) {
    for warning in std::mem::take(&mut project.warnings) {
        table::say(&format!("WARNING: {warning}"));
    }
}

impl Verb {
    /// The services named: they belong to the project whatever their profile.
    fn services(&self) -> &[String] {
        match self {
            Verb::Up(verb) => &verb.services,
            Verb::Build(verb) => &verb.services,
            Verb::Pull(verb) => &verb.services,
            Verb::Ps(verb) => &verb.services,
            Verb::Logs(verb) => &verb.services,
            Verb::Start(verb) => &verb.services,
            Verb::Stop(verb) | Verb::Restart(verb) => &verb.of.services,
            Verb::Exec(verb) => std::slice::from_ref(&verb.service),
            Verb::Run(verb) => std::slice::from_ref(&verb.service),
            Verb::Port(verb) => std::slice::from_ref(&verb.service),
            Verb::Top(verb) => &verb.services,
            Verb::Kill(verb) => &verb.of.services,
            Verb::Rm(verb) => &verb.of.services,
            Verb::Images(verb) => &verb.of.services,
            Verb::Down(_) | Verb::Config(_) | Verb::Ls(_) | Verb::Version(_) => &[],
        }
    }
}
