//! A build from its first line to its names: stages one after the other, then the image.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::files::Workspace;
use super::ignore::Ignore;
use super::instruction::{Instruction, Step as Line};
use super::parse::{self, Dockerfile};
use super::scope::{Arguments, EPOCH};
use super::stage::{self, Stage};
use super::{BuildHooks, BuildOptions, expand, origin, refuse, settings, wasm};
use crate::error::{Error, Result};
use crate::image::manifest::{Descriptor, Manifest, media};
use crate::image::{Digest, Image, Images, Progress, steps, store, tree};

const DOCKERFILE: &str = "Dockerfile";
const PLATFORM: &str = "wasi/wasm";

/// A build under way.
pub struct Build<'a> {
    pub images: &'a Images,
    pub context: &'a Path,
    pub options: &'a BuildOptions,
    pub hooks: &'a dyn BuildHooks,
    pub progress: &'a (dyn Fn(Progress) + Send + Sync),
    /// The Dockerfile's path in the context.
    pub file: &'a str,
    pub escape: char,
    /// Operating system and architecture.
    pub platform: (&'a str, &'a str),
    pub ignore: Ignore,
    pub arguments: Arguments,
    pub workspace: Workspace,
    /// What new steps say of when they were done; RFC 3339.
    pub created: String,
    /// Stages that are done.
    pub stages: Vec<Stage>,
    /// Keys of the steps that were done or known.
    pub records: Vec<Digest>,
}

impl Images {
    /// Build the image that `context`, an unpacked folder, describes, and give it its names. Only then is it there: a
    /// build that fails leaves no image.
    pub fn build(
        &self,
        context: &Path,
        options: &BuildOptions,
        hooks: &dyn BuildHooks,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Image> {
        let file = if options.dockerfile.is_empty() { DOCKERFILE } else { &options.dockerfile };
        let plan = plan(read(context, file)?, options)?;
        let platform =
            origin::parts(options.platform.as_deref().filter(|platform| !platform.is_empty()).unwrap_or(PLATFORM))?;
        // Blobs and records of steps have no name yet.
        let _hold = self.hold();
        let mut build = Build {
            images: self,
            context,
            options,
            hooks,
            progress,
            file,
            escape: plan.escape,
            platform,
            ignore: Ignore::read(context, file),
            arguments: Arguments::new(&options.args, platform),
            workspace: Workspace::make(&self.inner.work)?,
            created: created(&options.args),
            stages: Vec::new(),
            records: Vec::new(),
        };
        let last = build.all(&plan.steps)?;
        build.finish(&last)
    }
}

fn read(context: &Path, file: &str) -> Result<Dockerfile> {
    let missing = || Error::invalid(format!("Cannot locate specified Dockerfile: {file}"));
    let relative = tree::inside(Path::new(file.trim_start_matches('/'))).map_err(|_| missing())?;
    let root = context.canonicalize().map_err(|_| missing())?;
    let path = root.join(relative).canonicalize().ok().filter(|path| path.starts_with(&root));
    let text = path.and_then(|path| fs::read(path).ok()).ok_or_else(missing)?;
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::invalid(format!("the Dockerfile ({file}) cannot be empty")));
    }
    parse::parse(file, &String::from_utf8_lossy(&text))
}

/// What is built: everything up to the target, and the labels that were asked for.
fn plan(mut dockerfile: Dockerfile, options: &BuildOptions) -> Result<Dockerfile> {
    if let Some(target) = options.target.as_deref().filter(|target| !target.is_empty()) {
        let end = end_of(&dockerfile.steps, target)
            .ok_or_else(|| Error::invalid(format!("target stage {target:?} could not be found")))?;
        dockerfile.steps.truncate(end);
    }
    refuse::check(&dockerfile.file, &dockerfile.steps)?;
    let Some(at) = dockerfile.steps.last().map(|step| step.at) else { return Ok(dockerfile) };
    for (name, value) in &options.labels {
        let text = format!("LABEL {name}={value}");
        let instruction =
            Instruction::Label(vec![(literal(name, dockerfile.escape), literal(value, dockerfile.escape))]);
        dockerfile.steps.push(Line { at, text, instruction });
    }
    Ok(dockerfile)
}

/// A word that means itself.
fn literal(word: &str, escape: char) -> String {
    format!("'{}'", word.replace('\'', &format!("'{escape}''")))
}

/// Where the stage of that name, or number, ends.
fn end_of(steps: &[Line], target: &str) -> Option<usize> {
    let starts: Vec<(usize, Option<&String>)> = steps
        .iter()
        .enumerate()
        .filter_map(|(at, step)| match &step.instruction {
            Instruction::From { name, .. } => Some((at, name.as_ref())),
            _ => None,
        })
        .collect();
    let named = starts.iter().position(|(_, name)| name.is_some_and(|name| name.eq_ignore_ascii_case(target)));
    let number = named.or_else(|| target.parse().ok()).filter(|number| *number < starts.len())?;
    Some(starts.get(number + 1).map_or(steps.len(), |(at, _)| *at))
}

fn created(args: &BTreeMap<String, String>) -> String {
    let fixed = args.get(EPOCH).and_then(|seconds| seconds.parse().ok());
    let fixed = fixed.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    fixed.map_or_else(store::now, |time| time.to_string())
}

impl Build<'_> {
    /// Text as clients print it.
    pub fn say(&self, text: &str) {
        if !self.options.quiet {
            (self.progress)(Progress::Stream(text.to_owned()));
        }
    }

    fn all(&mut self, lines: &[Line]) -> Result<Stage> {
        let mut current: Option<Stage> = None;
        for (number, line) in lines.iter().enumerate() {
            self.say(&format!("Step {}/{} : {}", number + 1, lines.len(), line.text));
            self.say("\n");
            match (&line.instruction, &mut current) {
                (Instruction::From { image, platform, name }, _) => {
                    self.stages.extend(current.take());
                    let stage = self.begin(line, image, platform.as_deref())?;
                    current = Some(Stage { name: name.clone(), ..stage });
                }
                (Instruction::Arg(args), None) => self.declare(line, args)?,
                (_, Some(stage)) => self.step(stage, line)?,
                // The parser lets nothing else come before the first FROM.
                (_, None) => {}
            }
        }
        let unused = self.arguments.unused();
        if !unused.is_empty() {
            self.say(&format!("[Warning] One or more build-args [{}] were not consumed\n", unused.join(" ")));
        }
        current.ok_or_else(|| Error::invalid("No image was generated. Is your Dockerfile empty?"))
    }

    fn declare(&mut self, line: &Line, args: &[(String, Option<String>)]) -> Result<()> {
        for (name, default) in args {
            let default =
                default.as_deref().map(|word| expand::expand(word, self.escape, &|name| self.arguments.global(name)));
            let default = default.transpose().map_err(|error| refuse::at(self.file, line, &error.to_string()))?;
            self.arguments.declare_global(name, default);
        }
        Ok(())
    }

    /// Everything is on disk before the image gets its names.
    fn finish(&self, stage: &Stage) -> Result<Image> {
        if stage.base.is_none() && stage.config.history.is_empty() {
            return Err(Error::invalid("No image was generated. Is your Dockerfile empty?"));
        }
        self.compile_ahead(stage);
        if stage.base.as_ref() == Some(&stage.id) {
            // Nothing was done to the base: it only gets more names.
            for tag in &self.options.tags {
                self.images.tag(&stage.id, tag)?;
            }
            return self.images.find(stage.id.as_str());
        }
        let config = stage::json(&stage.config)?;
        let size = config.len() as u64;
        let id = self.images.blobs().put(&config)?;
        let folder = &self.images.inner.steps;
        for key in &self.records {
            if let Some(mut step) = steps::read(folder, key).filter(|step| !step.images.contains(&id)) {
                step.images.insert(id.clone());
                steps::write(folder, key, &step)?;
            }
        }
        let layers = stage.layers.iter().map(|layer| layer.blob.clone()).collect();
        let manifest = stage::json(&Manifest::new(Descriptor::new(media::CONFIG, id, size), layers))?;
        self.images.commit_manifest(&manifest, media::MANIFEST, &self.options.tags, stage.base.as_ref())
    }

    /// Compile what the image starts, so that its first start is fast. An image that cannot be compiled is an image all
    /// the same: starting it says why.
    fn compile_ahead(&self, stage: &Stage) {
        let config = &stage.config.config;
        let program = config.entrypoint.as_ref().or(config.cmd.as_ref()).and_then(|argv| argv.first());
        let probe = config.healthcheck.as_ref().and_then(|check| match &check.test[..] {
            [kind, program, ..] if kind == "CMD" => Some(program),
            _ => None,
        });
        for command in [program, probe].into_iter().flatten() {
            if let Err(error) = self.compile(stage, command) {
                self.say(&format!("[Warning] {command} cannot be compiled ahead: {}\n", error.chain()));
            }
        }
    }

    fn compile(&self, stage: &Stage, command: &str) -> Result<()> {
        // `path#export` names what to start in it.
        let path = settings::resolve(stage.working_dir(), command.split('#').next().unwrap_or(command));
        let root = self.files_of(stage)?;
        let within = |root: &Path| {
            let root = root.canonicalize().ok()?;
            root.join(path.trim_start_matches('/')).canonicalize().ok().filter(|whole| whole.starts_with(&root))
        };
        match within(&root).filter(|whole| wasm::is_component(whole) || wasm::is_core_module(whole)) {
            Some(whole) => self.hooks.precompile(&whole),
            None => Ok(()),
        }
    }
}
