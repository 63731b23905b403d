//! One stage of a build: its image so far, and the steps that change it. A step whose outcome is known is not done
//! again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::driver::Build;
use super::files::Files;
use super::instruction::Step as Line;
use super::refuse;
use crate::error::{Error, ErrorKind, Result};
use crate::image::layers::Layer;
use crate::image::steps::{self, Step};
use crate::image::{Digest, History, ImageConfig, RunConfig};

/// A stage's image so far.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Lower case.
    pub name: Option<String>,
    pub config: ImageConfig,
    pub layers: Vec<Layer>,
    /// Digest of the configuration: the image's id if this were all.
    pub id: Digest,
    /// The image it began with.
    pub base: Option<Digest>,
    /// Values of its ARGs.
    pub args: BTreeMap<String, String>,
    /// Its CMD is its own, not the base's.
    pub has_cmd: bool,
}

/// What a step does to an image.
pub struct Change {
    pub config: ImageConfig,
    /// The step as the image's history tells it.
    pub told: String,
    pub content: Content,
}

pub enum Content {
    Nothing,
    Files(Files),
    /// Files are what a tool will make of those of the stage.
    Tool {
        argv: Vec<String>,
        environment: Vec<(String, String)>,
    },
}

/// Everything that a step's outcome depends on.
#[derive(Serialize)]
struct Key<'a> {
    parent: &'a Digest,
    told: &'a str,
    author: Option<&'a str>,
    config: &'a RunConfig,
    layer: Option<&'a Digest>,
    argv: &'a [String],
    environment: &'a [(String, String)],
}

impl Stage {
    pub fn new(config: ImageConfig, layers: Vec<Layer>) -> Result<Stage> {
        let id = id(&config)?;
        let (args, has_cmd) = (BTreeMap::new(), false);
        Ok(Stage { name: None, config, layers, id, base: None, args, has_cmd })
    }

    pub fn working_dir(&self) -> &str {
        match self.config.config.working_dir.as_str() {
            "" => "/",
            folder => folder,
        }
    }
}

/// What an image with this configuration is called.
fn id(config: &ImageConfig) -> Result<Digest> {
    Ok(Digest::of(&json(config)?))
}

pub fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| Error::new(ErrorKind::Failed, "cannot write what an image is made of").because(error))
}

impl Build<'_> {
    /// The stage's files, read-only.
    pub fn files_of(&self, stage: &Stage) -> Result<PathBuf> {
        self.images.inner.layers.file_system(&stage.layers)
    }

    /// Do a step, or take its known outcome.
    pub fn step(&mut self, stage: &mut Stage, line: &Line) -> Result<()> {
        let change = self.change(stage, line)?;
        let layer = match &change.content {
            Content::Files(files) => Some(files.digest()?),
            _ => None,
        };
        let key = key(&stage.id, &change, layer.as_ref())?;
        match self.known(&key) {
            Some(step) => {
                self.say(" ---> Using cache\n");
                (stage.config, stage.layers) = (step.config, step.layers);
            }
            None => {
                let layer = self.layer(stage, &change, layer)?;
                self.commit(stage, change, layer);
                let step =
                    Step { config: stage.config.clone(), layers: stage.layers.clone(), images: Default::default() };
                steps::write(&self.images.inner.steps, &key, &step)?;
            }
        }
        stage.id = id(&stage.config)?;
        self.records.push(key);
        self.workspace.clear()?;
        self.say(&format!(" ---> {}\n", stage.id.short()));
        Ok(())
    }

    fn known(&self, key: &Digest) -> Option<Step> {
        if self.options.no_cache {
            return None;
        }
        let step = steps::read(&self.images.inner.steps, key)?;
        step.layers.iter().all(|layer| self.images.blobs().has(&layer.blob.digest)).then_some(step)
    }

    fn layer(&self, stage: &Stage, change: &Change, digest: Option<Digest>) -> Result<Option<Layer>> {
        let blobs = self.images.blobs();
        match (&change.content, digest) {
            (Content::Files(files), Some(digest)) if !files.is_empty() => Ok(Some(files.layer(&digest, blobs)?)),
            (Content::Tool { argv, environment }, _) => {
                let files = self.run(stage, argv, environment)?;
                if files.is_empty() { Ok(None) } else { Ok(Some(files.layer(&files.digest()?, blobs)?)) }
            }
            _ => Ok(None),
        }
    }

    fn commit(&self, stage: &mut Stage, change: Change, layer: Option<Layer>) {
        stage.config = change.config;
        stage.config.created = Some(self.created.clone());
        stage.config.history.push(History {
            created: Some(self.created.clone()),
            created_by: change.told,
            author: stage.config.author.clone().unwrap_or_default(),
            comment: String::new(),
            empty_layer: layer.is_none(),
        });
        if let Some(layer) = layer {
            stage.config.rootfs.diff_ids.push(layer.diff_id.clone());
            stage.layers.push(layer);
        }
    }

    /// Steps that the stage's base wants to be done by whoever builds upon it.
    pub fn triggers(&mut self, stage: &mut Stage) -> Result<()> {
        let triggers = std::mem::take(&mut stage.config.config.on_build);
        if triggers.is_empty() {
            return Ok(());
        }
        let plural = if triggers.len() == 1 { "" } else { "s" };
        self.say(&format!("# Executing {} build trigger{plural}\n", triggers.len()));
        let lines = triggers.iter().map(|text| super::parse::trigger(text)).collect::<Result<Vec<Line>>>()?;
        refuse::check("ONBUILD", &lines)?;
        for line in &lines {
            self.step(stage, line)?;
        }
        Ok(())
    }
}

fn key(parent: &Digest, change: &Change, layer: Option<&Digest>) -> Result<Digest> {
    let (argv, environment): (&[String], &[(String, String)]) = match &change.content {
        Content::Tool { argv, environment } => (argv, environment),
        _ => (&[], &[]),
    };
    let author = change.config.author.as_deref();
    let key = Key { parent, told: &change.told, author, config: &change.config.config, layer, argv, environment };
    Ok(Digest::of(&json(&key)?))
}
