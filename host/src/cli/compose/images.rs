//! `wharf compose build`, `wharf compose pull`: the images of a project.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::project::Work;
use crate::cli::build::{self, Recipe};
use crate::cli::table;
use crate::cli::transfer::{self, Show};
use crate::compose::project::Service;
use crate::compose::quantities::plain;
use crate::error::{Error, Result};

/// Build the services' images
#[derive(Debug, Args)]
pub struct Build {
    /// Run every step again
    #[arg(long)]
    no_cache: bool,
    /// Pull base images even if they are here
    #[arg(long)]
    pull: bool,
    /// Print the images' ids only
    #[arg(short, long)]
    quiet: bool,
    /// NAME=VALUE for an ARG of every image
    #[arg(long)]
    build_arg: Vec<String>,
    pub services: Vec<String>,
}

/// Pull the services' images
#[derive(Debug, Args)]
pub struct Pull {
    #[arg(short, long)]
    quiet: bool,
    pub services: Vec<String>,
}

impl Build {
    pub async fn execute(self, work: Work) -> Result<()> {
        let chosen = work.project.chosen(&self.services, false);
        for service in work.project.services.values().filter(|service| chosen.contains(&service.name)) {
            if let Some(written) = service.keys.get("build") {
                let mut recipe = work.recipe(service, written);
                recipe.no_cache |= self.no_cache;
                recipe.pull |= self.pull;
                recipe.show = if self.quiet { Show::Nothing } else { Show::Stdout };
                recipe.arguments.extend(self.build_arg.iter().cloned());
                work.build(service, written, &recipe).await?;
            } else if !self.quiet {
                table::say(&format!("{} uses an image, skipping", service.name));
            }
        }
        Ok(())
    }
}

impl Pull {
    pub async fn execute(self, work: Work) -> Result<()> {
        let chosen = work.project.chosen(&self.services, false);
        let services = work.project.services.values().filter(|service| chosen.contains(&service.name));
        let show = if self.quiet { Show::Nothing } else { Show::Stdout };
        for service in services.filter(|service| !service.keys.contains_key("build")) {
            transfer::pull(&work.client, &work.project.image(service), show).await?;
        }
        Ok(())
    }
}

impl Work {
    /// Every image that the chosen services need; `rebuild` also those that are here. Its progress goes to stderr:
    /// stdout is for what was asked for, a command's output or the services' log.
    pub async fn make_images(&self, chosen: &BTreeSet<String>, rebuild: bool) -> Result<()> {
        for service in self.project.services.values().filter(|service| chosen.contains(&service.name)) {
            let image = self.project.image(service);
            let policy = service.text("pull_policy").unwrap_or("missing");
            let here = self.found(&format!("/images/{image}/json")).await?.is_some();
            match service.keys.get("build") {
                Some(written) if rebuild || !here || policy == "build" => {
                    self.build(service, written, &self.recipe(service, written)).await?;
                }
                Some(_) => {}
                None if policy == "always" || (!here && policy != "never") => {
                    transfer::pull_aside(&self.client, &image).await?;
                }
                None => {}
            }
        }
        Ok(())
    }

    fn recipe(&self, service: &Service, written: &Value) -> Recipe {
        let context = PathBuf::from(plain(&written["context"]));
        let pairs = |key: &str| {
            let all = written[key].as_object().into_iter().flatten();
            all.map(|(name, value)| format!("{name}={}", plain(value))).collect()
        };
        let more = written["tags"].as_array().into_iter().flatten().map(plain);
        Recipe {
            tags: std::iter::once(self.project.image(service)).chain(more).collect(),
            dockerfile: written["dockerfile"].as_str().map(|file| context.join(file)),
            arguments: pairs("args"),
            labels: pairs("labels"),
            no_cache: written["no_cache"] == true,
            pull: written["pull"] == true,
            show: Show::Stderr,
            target: written["target"].as_str().map(str::to_owned),
            platform: service.text("platform").map(str::to_owned),
        }
    }

    async fn build(&self, service: &Service, written: &Value, recipe: &Recipe) -> Result<()> {
        if recipe.show != Show::Nothing {
            table::say(&format!("Building {}", service.name));
        }
        build::build(&self.client, Path::new(&plain(&written["context"])), recipe).await.map_err(|error| {
            Error::new(error.kind(), format!("service {} failed to build", service.name)).because(error.chain())
        })
    }
}
