//! Where a stage begins, and what `--from` names: nothing, an earlier stage, or an image of the store or a registry.

use std::path::PathBuf;

use super::driver::Build;
use super::expand::expand;
use super::files::{Content, Files};
use super::instruction::Step as Line;
use super::refuse;
use super::stage::Stage;
use crate::error::{Error, ErrorKind, Result};
use crate::image::layers::ARTIFACT_FILE;
use crate::image::manifest::media;
use crate::image::{History, Image, ImageConfig, Reference};

/// The image without anything.
const SCRATCH: &str = "scratch";

impl Build<'_> {
    /// The stage that a FROM begins.
    pub fn begin(&mut self, line: &Line, image: &str, flag: Option<&str>) -> Result<Stage> {
        let word = |word: &str| {
            expand(word, self.escape, &|name| self.arguments.global(name))
                .map_err(|error| refuse::at(self.file, line, &error.to_string()))
        };
        let image = word(image)?;
        let flag = flag.map(word).transpose()?.filter(|flag| !flag.is_empty());
        if image.is_empty() {
            return Err(refuse::at(self.file, line, "base name should not be blank"));
        }
        if image == SCRATCH {
            let (os, architecture) = match &flag {
                Some(flag) => parts(flag)?,
                None => self.platform,
            };
            let (os, architecture) = (os.to_owned(), architecture.to_owned());
            let stage = Stage::new(ImageConfig { os, architecture, ..ImageConfig::default() }, Vec::new())?;
            self.say(" ---> \n");
            return Ok(stage);
        }
        let mut stage = match self.stage(&image) {
            Some(stage) => Stage { args: Default::default(), has_cmd: false, ..stage.clone() },
            None => {
                let image = self.image(line, &image)?;
                self.upon(&image)?
            }
        };
        self.say(&format!(" ---> {}\n", stage.id.short()));
        self.triggers(&mut stage)?;
        Ok(stage)
    }

    /// An earlier stage by its name.
    fn stage(&self, name: &str) -> Option<&Stage> {
        let name = name.to_ascii_lowercase();
        self.stages.iter().rev().find(|stage| stage.name.as_ref() == Some(&name))
    }

    /// The files that `COPY --from` means.
    pub fn source(&self, line: &Line, from: &str) -> Result<PathBuf> {
        let numbered = || self.stages.get(from.parse::<usize>().ok()?);
        if let Some(stage) = self.stage(from).or_else(numbered) {
            return self.files_of(stage);
        }
        if from.parse::<usize>().is_ok() || from.is_empty() {
            let text = format!("invalid from flag value {from}: there is no such stage before this one");
            return Err(refuse::at(self.file, line, &text));
        }
        let image = self.image(line, from)?;
        self.images.rootfs(&image.id)
    }

    /// An image of the store, asked for from its registry if it must be.
    fn image(&self, line: &Line, name: &str) -> Result<Image> {
        let found = self.images.find(name);
        let is_absent = found.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound);
        if !is_absent && (found.is_err() || !self.options.pull) {
            return found.map_err(|error| refuse::at(self.file, line, &error.chain()));
        }
        let reference = name.parse::<Reference>().map_err(|error| refuse::at(self.file, line, &error.to_string()))?;
        let reference = reference.or_latest();
        if let Some(reason) = refuse::base(&reference) {
            return found.map_err(|_| refuse::at(self.file, line, &reason));
        }
        let progress = |progress| {
            if !self.options.quiet {
                (self.progress)(progress);
            }
        };
        match (self.hooks.pull(&reference, &progress), found) {
            (Ok(()), _) => self.images.find(name),
            (Err(error), Ok(found)) => {
                self.say(&format!("[Warning] cannot pull {reference}, so the stored one is used: {}\n", error.chain()));
                Ok(found)
            }
            (Err(error), Err(_)) => {
                let reason = format!(
                    "{reference} is not in the store, and it cannot be pulled. Pull, load or build it first; or write \
                     FROM scratch, and COPY in a component (*.wasm) and its models"
                );
                let text = refuse::at(self.file, line, &reason).to_string();
                Err(Error::new(error.kind(), text).because(error))
            }
        }
    }

    fn upon(&self, image: &Image) -> Result<Stage> {
        let layers = self.images.layers_of(&image.id)?;
        let mut stage = if layers.iter().any(|layer| media::is_wasm(&layer.blob.media_type)) {
            self.unbare(image)?
        } else {
            Stage { id: image.id.clone(), ..Stage::new(image.config.clone(), layers)? }
        };
        stage.base = Some(image.id.clone());
        Ok(stage)
    }

    /// A bare component, which has no file system, as an image that has one.
    fn unbare(&self, image: &Image) -> Result<Stage> {
        let mut files = Files::default();
        let file = self.images.rootfs(&image.id)?.join(ARTIFACT_FILE);
        files.put(ARTIFACT_FILE.into(), Content::File(file), None)?;
        let layer = files.layer(&files.digest()?, self.images.blobs())?;
        let (os, architecture) = self.platform;
        let mut config = ImageConfig {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            created: image.config.created.clone(),
            author: image.config.author.clone(),
            config: image.config.config.clone(),
            ..ImageConfig::default()
        };
        config.rootfs.diff_ids.push(layer.diff_id.clone());
        let created_by = format!("COPY {ARTIFACT_FILE} /");
        config.history.push(History { created: config.created.clone(), created_by, ..History::default() });
        Stage::new(config, vec![layer])
    }
}

/// A platform's operating system and architecture; a variant of that means nothing to Wasm.
pub fn parts(platform: &str) -> Result<(&str, &str)> {
    let parts = platform.split_once('/').map(|(os, rest)| (os, rest.split('/').next().unwrap_or(rest)));
    parts.filter(|(os, architecture)| !os.is_empty() && !architecture.is_empty()).ok_or_else(|| {
        let text = format!("platform {platform:?} is not os/architecture: write wasi/wasm, or leave it out");
        Error::new(ErrorKind::InvalidArgument, text)
    })
}
