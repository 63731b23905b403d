//! `wharf compose exec SERVICE COMMAND`: `wharf exec` in a service's container, at a terminal unless told otherwise.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::{Args, Parser};

use super::project::Work;
use crate::cli::run;
use crate::error::{Error, Result};

/// Run a command in a service's container
///
/// Examples:
///   wharf compose exec facedetection sh
///   wharf compose exec -T facedetection ls /models
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Exec {
    /// Do not wait for it
    #[arg(short, long)]
    detach: bool,
    /// Without a terminal
    #[arg(short = 'T', long)]
    no_tty: bool,
    #[arg(short, long)]
    env: Vec<String>,
    #[arg(short, long)]
    workdir: Option<String>,
    #[arg(short, long)]
    user: Option<String>,
    /// Which of the service's containers [default: the first that runs]
    #[arg(long)]
    index: Option<u32>,
    pub service: String,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// What `wharf exec` understands.
#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    exec: run::Exec,
}

impl Exec {
    pub async fn execute(self, work: Work) -> Result<ExitCode> {
        let running = work.running(&self.service, self.index).await?;
        let tty = !self.no_tty && !self.detach && io::stdin().is_terminal() && io::stdout().is_terminal();
        let line = Line::try_parse_from(self.line(&running.name, tty))
            .map_err(|error| Error::invalid("cannot run this there").because(error.to_string()))?;
        line.exec.execute(work.client).await
    }

    /// The same, as `wharf exec` is typed.
    fn line(self, container: &str, tty: bool) -> Vec<String> {
        let mut words = vec!["exec".to_owned()];
        words.push((if self.detach { "--detach" } else { "--interactive" }).to_owned());
        words.extend(tty.then(|| "--tty".to_owned()));
        words.extend(self.env.into_iter().map(|pair| format!("--env={pair}")));
        words.extend(self.workdir.map(|folder| format!("--workdir={folder}")));
        words.extend(self.user.map(|user| format!("--user={user}")));
        words.push(container.to_owned());
        words.extend(self.command);
        words
    }
}
