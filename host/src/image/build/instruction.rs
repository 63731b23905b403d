//! What a line of a Dockerfile asks for. Variables are not expanded yet.

use super::lines::{self, Heredoc, Position};

/// `["program", "argument"]`, or a line for a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    Exec(Vec<String>),
    Shell(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copying {
    /// Archives are unpacked: ADD.
    pub unpack: bool,
    /// A stage or an image; `None` is the context.
    pub from: Option<String>,
    /// Octal.
    pub mode: Option<u32>,
    pub sources: Vec<String>,
    pub target: String,
    pub heredocs: Vec<Heredoc>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    From { image: String, platform: Option<String>, name: Option<String> },
    Copy(Copying),
    Env(Vec<(String, String)>),
    Arg(Vec<(String, Option<String>)>),
    Label(Vec<(String, String)>),
    Expose(Vec<String>),
    Workdir(String),
    Entrypoint(Form),
    Cmd(Form),
    Run(Form),
    Volume(Vec<String>),
    User(String),
    StopSignal(String),
    Healthcheck(crate::image::HealthConfig),
    Shell(Vec<String>),
    OnBuild(String),
    Maintainer(String),
}

impl Copying {
    pub fn keyword(&self) -> &'static str {
        if self.unpack { "ADD" } else { "COPY" }
    }

    /// The here-document that a source names.
    pub fn document(&self, source: &str) -> Option<&Heredoc> {
        let name = lines::heredoc_name(source)?;
        self.heredocs.iter().find(|heredoc| heredoc.name == name)
    }
}

/// An instruction, as written and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub at: Position,
    pub text: String,
    pub instruction: Instruction,
}
