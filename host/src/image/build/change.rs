//! What each instruction means for a stage's image: its words are expanded here, and nothing is done yet.

use super::copy::Copier;
use super::driver::Build;
use super::expand::{expand, expand_text};
use super::files::{self, Files};
use super::instruction::{Copying, Form, Instruction, Step as Line};
use super::stage::{Change, Content, Stage};
use super::{refuse, scope, settings, told};
use crate::error::Result;
use crate::image::RunConfig;

impl Build<'_> {
    pub fn change(&mut self, stage: &mut Stage, line: &Line) -> Result<Change> {
        let instruction = self.expanded(stage, line)?;
        let told = told::instruction(&instruction);
        let change = Change { config: stage.config.clone(), told, content: Content::Nothing };
        match instruction {
            Instruction::Copy(copying) => self.copy(stage, line, change, &copying),
            Instruction::Run(form) => Ok(self.tool(stage, change, form)),
            Instruction::Workdir(folder) => self.working_dir(stage, change, &folder),
            Instruction::Arg(args) => {
                for (name, default) in args {
                    match self.arguments.declare(&name, default) {
                        Some(value) => stage.args.insert(name, value),
                        None => stage.args.remove(&name),
                    };
                }
                Ok(change)
            }
            Instruction::Expose(ports) => self.expose(line, change, &ports),
            instruction => Ok(set(stage, change, instruction)),
        }
    }

    fn expose(&self, line: &Line, mut change: Change, ports: &[String]) -> Result<Change> {
        for port in ports.iter().flat_map(|ports| ports.split_whitespace()) {
            settings::expose(&mut change.config, port)
                .ok_or_else(|| refuse::at(self.file, line, &format!("Invalid containerPort: {port}")))?;
        }
        Ok(change)
    }

    fn copy(&mut self, stage: &Stage, line: &Line, mut change: Change, copying: &Copying) -> Result<Change> {
        let other = copying.from.as_deref().map(|from| self.source(line, from)).transpose()?;
        let copier = Copier {
            copying,
            from: other.as_deref().unwrap_or(self.context),
            ignore: other.is_none().then_some(&self.ignore),
            existing: &self.files_of(stage)?,
            working_dir: stage.working_dir(),
            hooks: self.hooks,
            workspace: &self.workspace,
        };
        change.content = Content::Files(copier.files()?);
        Ok(change)
    }

    fn tool(&self, stage: &Stage, mut change: Change, form: Form) -> Change {
        // Lines for a shell were refused before anything ran.
        let argv = match form {
            Form::Exec(argv) => argv,
            Form::Shell(line) => line.split_whitespace().map(str::to_owned).collect(),
        };
        let mut environment = settings::environment(&stage.config);
        for (name, value) in &stage.args {
            if !environment.iter().any(|(other, _)| other == name) {
                environment.push((name.clone(), value.clone()));
            }
        }
        change.told = told::run(&argv, &stage.args);
        change.content = Content::Tool { argv, environment };
        change
    }

    fn working_dir(&self, stage: &Stage, mut change: Change, folder: &str) -> Result<Change> {
        let folder = settings::resolve(stage.working_dir(), folder);
        let path = folder.trim_start_matches('/');
        if !self.files_of(stage)?.join(path).is_dir() {
            let mut files = Files::default();
            files.put(path.into(), files::Content::Folder, None)?;
            change.content = Content::Files(files);
        }
        change.config.config.working_dir = folder;
        Ok(change)
    }

    /// The instruction with its variables replaced, where Docker replaces them.
    fn expanded(&self, stage: &Stage, line: &Line) -> Result<Instruction> {
        let lookup = |name: &str| scope::value(&stage.config, &stage.args, name);
        let word = |word: &str| {
            expand(word, self.escape, &lookup).map_err(|error| refuse::at(self.file, line, &error.to_string()))
        };
        let words = |words: &[String]| words.iter().map(|text| word(text)).collect::<Result<Vec<String>>>();
        let pairs = |pairs: &[(String, String)]| {
            pairs.iter().map(|(name, value)| Ok((word(name)?, word(value)?))).collect::<Result<Vec<_>>>()
        };
        Ok(match &line.instruction {
            Instruction::Env(list) => Instruction::Env(pairs(list)?),
            Instruction::Label(list) => Instruction::Label(pairs(list)?),
            Instruction::Expose(ports) => Instruction::Expose(words(ports)?),
            Instruction::Workdir(folder) => Instruction::Workdir(word(folder)?),
            Instruction::Volume(volumes) => Instruction::Volume(words(volumes)?),
            Instruction::User(user) => Instruction::User(word(user)?),
            Instruction::StopSignal(signal) => Instruction::StopSignal(word(signal)?),
            Instruction::Arg(args) => {
                let expanded =
                    args.iter().map(|(name, value)| Ok((word(name)?, value.as_deref().map(word).transpose()?)));
                Instruction::Arg(expanded.collect::<Result<_>>()?)
            }
            Instruction::Copy(copying) => {
                let sources = copying.sources.iter();
                let source = |source: &String| match copying.document(source) {
                    Some(_) => Ok(source.clone()),
                    None => word(source),
                };
                let mut heredocs = copying.heredocs.clone();
                for heredoc in heredocs.iter_mut().filter(|heredoc| heredoc.expand) {
                    heredoc.content = expand_text(&heredoc.content, self.escape, &lookup)
                        .map_err(|error| refuse::at(self.file, line, &error.to_string()))?;
                }
                Instruction::Copy(Copying {
                    sources: sources.map(source).collect::<Result<_>>()?,
                    target: word(&copying.target)?,
                    heredocs,
                    ..copying.clone()
                })
            }
            other => other.clone(),
        })
    }
}

/// Instructions that only set something.
fn set(stage: &mut Stage, mut change: Change, instruction: Instruction) -> Change {
    let config: &mut RunConfig = &mut change.config.config;
    match instruction {
        Instruction::Env(pairs) => {
            for (name, value) in pairs {
                settings::env(&mut change.config, &name, &value);
            }
        }
        Instruction::Label(pairs) => config.labels.extend(pairs),
        Instruction::Volume(volumes) => config.volumes.extend(volumes.into_iter().filter(|volume| !volume.is_empty())),
        Instruction::User(user) => config.user = user,
        Instruction::StopSignal(signal) => config.stop_signal = Some(signal),
        Instruction::Healthcheck(check) => settings::healthcheck(&mut change.config, &check),
        Instruction::Shell(shell) => config.shell = shell,
        Instruction::OnBuild(trigger) => config.on_build.push(trigger),
        Instruction::Maintainer(author) => change.config.author = Some(author),
        Instruction::Cmd(form) => {
            config.cmd = command(form);
            stage.has_cmd = true;
        }
        Instruction::Entrypoint(form) => {
            config.entrypoint = command(form);
            // The base's arguments were meant for its own program.
            if !stage.has_cmd {
                config.cmd = None;
            }
        }
        _ => {}
    }
    change
}

fn command(form: Form) -> Option<Vec<String>> {
    match form {
        Form::Exec(argv) => Some(argv).filter(|argv| !argv.is_empty()),
        // Only an empty line gets here: others were refused before anything ran.
        Form::Shell(_) => None,
    }
}
