//! Which compose files, in which folder, with which variables.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::environment;
use crate::compose::document::overlay;
use crate::compose::project::{Choice, Project};
use crate::compose::{variables, yaml};
use crate::error::{Error, ErrorKind, Result};

const USUAL: &[&str] = &["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
/// Laid over the usual file where they are beside it.
const OVERRIDES: &[&str] =
    &["compose.override.yaml", "compose.override.yml", "docker-compose.override.yaml", "docker-compose.override.yml"];

#[derive(Debug, Default, Args)]
pub struct Files {
    /// A compose file, - for stdin; later ones lie over earlier ones [env: COMPOSE_FILE] [default: compose.yaml or
    /// docker-compose.yml, here or in a folder above]
    #[arg(short, long)]
    file: Vec<PathBuf>,
    /// Name of the project [env: COMPOSE_PROJECT_NAME] [default: the folder's]
    #[arg(short, long)]
    project_name: Option<String>,
    /// Services of this profile too; * for all [env: COMPOSE_PROFILES]
    #[arg(long)]
    profile: Vec<String>,
    /// File of variables [default: .env beside the compose file]
    #[arg(long)]
    env_file: Vec<PathBuf>,
    /// What relative paths start from [default: the first file's folder]
    #[arg(long)]
    project_directory: Option<PathBuf>,
}

impl Files {
    /// This one, whatever `COMPOSE_FILE` says.
    pub fn only(path: &Path) -> Files {
        Files { file: vec![path.to_owned()], ..Files::default() }
    }

    pub fn read(&self, named: &[String]) -> Result<Project> {
        let paths = self.paths()?;
        let folder = match &self.project_directory {
            Some(folder) => folder.clone(),
            None => paths.first().and_then(|path| path.parent()).unwrap_or(Path::new("")).to_owned(),
        };
        let folder = std::path::absolute(if folder.as_os_str().is_empty() { Path::new(".") } else { &folder })
            .map_err(|error| Error::invalid(format!("cannot tell where {} is", folder.display())).because(error))?;
        let written = self.variables(&folder)?;
        let lookup = |name: &str| environment::variable(name).or_else(|| written.get(name).cloned());
        let mut document = Value::Null;
        for path in &paths {
            let next = load(path)?;
            document = if document.is_null() { next } else { overlay(document, next, &[])? };
        }
        let own = document["name"].as_str().map(str::to_owned);
        let name = match self.project_name.clone().or_else(|| lookup(environment::COMPOSE_PROJECT_NAME)).or(own) {
            Some(name) => checked(name)?,
            None => named_after(&folder),
        };
        let mut profiles: BTreeSet<String> = self.profile.iter().cloned().collect();
        let more = lookup(environment::COMPOSE_PROFILES).unwrap_or_default();
        profiles.extend(more.split(',').filter(|profile| !profile.is_empty()).map(str::to_owned));
        Project::read(document, Choice { name: &name, folder: &folder, profiles: &profiles, named }, &lookup)
    }

    fn paths(&self) -> Result<Vec<PathBuf>> {
        if !self.file.is_empty() {
            return Ok(self.file.clone());
        }
        if let Some(listed) = environment::variable(environment::COMPOSE_FILE).filter(|listed| !listed.is_empty()) {
            return Ok(listed.split(':').map(PathBuf::from).collect());
        }
        let here = std::path::absolute(self.project_directory.as_deref().unwrap_or(Path::new(".")))
            .map_err(|error| Error::invalid("cannot tell which folder this is").because(error))?;
        for folder in here.ancestors() {
            if let Some(path) = USUAL.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
                let over = OVERRIDES.iter().map(|name| folder.join(name)).find(|path| path.is_file());
                return Ok(std::iter::once(path).chain(over).collect());
            }
        }
        let looked = USUAL.join(", ");
        let message = format!("no compose file here or in a folder above: looked for {looked}; or use -f");
        Err(Error::new(ErrorKind::NotFound, message))
    }

    fn variables(&self, folder: &Path) -> Result<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        let usual = folder.join(".env");
        let paths = if self.env_file.is_empty() && usual.is_file() { vec![usual] } else { self.env_file.clone() };
        for path in paths {
            let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
            let set = variables::from_file(&text).into_iter();
            all.extend(set.filter_map(|(name, value)| Some((name, value?))));
        }
        Ok(all)
    }
}

fn load(path: &Path) -> Result<Value> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    let text = text.map_err(|error| unreadable(path, error))?;
    let value =
        yaml::read(&text).map_err(|error| Error::invalid(format!("cannot read {}", path.display())).because(error))?;
    // An empty file says nothing, and nothing lies over nothing.
    Ok(if value.is_null() { json!({}) } else { value })
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot read {}", path.display())).because(error)
}

fn checked(name: String) -> Result<String> {
    let letter = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    if name.starts_with(letter) && name.chars().all(|one| letter(one) || matches!(one, '-' | '_')) {
        return Ok(name);
    }
    Err(Error::invalid(format!(
        "{name:?} is no name of a project: small letters, digits, - and _, a letter or digit first"
    )))
}

fn named_after(folder: &Path) -> String {
    let name = folder.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String =
        name.chars().filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')).collect();
    let name = name.trim_start_matches(['-', '_']);
    if name.is_empty() { "default".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_projects() {
        for (folder, name) in [("/srv/My App.2", "myapp2"), ("/srv/_x", "x"), ("/", "default"), ("/a/b-c_d", "b-c_d")] {
            assert_eq!(named_after(Path::new(folder)), name);
        }
        assert!(checked("ok-1".to_owned()).is_ok());
        for wrong in ["", "-x", "Big", "a b"] {
            assert!(checked(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
