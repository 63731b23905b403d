//! The temporary folder of one run: models for the native server, targets for `wharf serve`, pictures.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::{models, picture};

/// Where the guests come from: `<guests>/hello/hello.wasm`, `<guests>/digits/digits.wasm` and its models.
#[derive(Clone, Debug)]
pub struct Guests(pub PathBuf);

impl Guests {
    pub fn has_digits(&self) -> bool {
        self.0.join("digits/models/digits.onnx").exists()
    }
}

pub struct Stage {
    folder: PathBuf,
}

impl Stage {
    /// Write everything that needs no guest.
    pub fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("wharf-bench-{}", std::process::id()));
        let stage = Self { folder };
        write_fixtures(&stage.folder)?;
        Ok(stage)
    }

    /// Models of the native server.
    pub fn models(&self) -> PathBuf {
        self.folder.join("models")
    }

    /// A data folder for a `wharf serve`: its cache survives from start to start within this run.
    pub fn data(&self, name: &str) -> PathBuf {
        self.folder.join("data").join(name)
    }

    pub fn photo(&self) -> Result<Vec<u8>> {
        read(&self.folder.join("photo.jpg"))
    }

    pub fn digit(&self) -> Result<Vec<u8>> {
        read(&self.folder.join("digit.jpg"))
    }

    /// The hello target: the guest, and the two models the benchmark makes.
    pub fn hello(&self, guests: &Guests) -> Result<PathBuf> {
        let target = self.folder.join("hello");
        create(&target.join("models"))?;
        copy(&guests.0.join("hello/hello.wasm"), &target.join("hello.wasm"))?;
        for model in ["tensor.onnx", "mobilenet.onnx"] {
            copy(&self.models().join(model), &target.join("models").join(model))?;
        }
        Ok(target)
    }

    /// A copy of the digits target under another name.
    pub fn digits(&self, guests: &Guests, name: &str) -> Result<PathBuf> {
        let (source, target) = (guests.0.join("digits"), self.folder.join(name));
        create(&target.join("models"))?;
        copy(&source.join("digits.wasm"), &target.join("digits.wasm"))?;
        copy(&source.join("models/digits.onnx"), &target.join("models/digits.onnx"))?;
        Ok(target)
    }

    /// What `wharf build` makes an image of: the guest `component` (a path below the guests' folder) as the
    /// entry point, and its `models`.
    pub fn context(&self, guests: &Guests, component: &str, models: &[&str]) -> Result<PathBuf> {
        let component = Path::new(component);
        let program = component.file_name().context("a component has a file name")?;
        let target = self.folder.join("context").join(component.with_extension(""));
        create(&target.join("models"))?;
        copy(&guests.0.join(component), &target.join(program))?;
        let program = program.to_string_lossy();
        let mut dockerfile = format!("FROM scratch\nCOPY {program} /\n");
        for model in models {
            let model = Path::new(model);
            let name = model.file_name().context("a model has a file name")?;
            copy(&guests.0.join(model), &target.join("models").join(name))?;
            dockerfile += &format!("COPY models/{0} /models/{0}\n", name.to_string_lossy());
        }
        dockerfile += &format!("EXPOSE 5000\nENTRYPOINT [\"/{program}\"]\n");
        write(&target.join("Dockerfile"), dockerfile.as_bytes())?;
        Ok(target)
    }

    /// Give the native server the digits model too.
    pub fn add_digits_model(&self, guests: &Guests) -> Result<()> {
        copy(&guests.0.join("digits/models/digits.onnx"), &self.models().join("digits.onnx"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What cannot be removed is in the system's temporary folder, where it is somebody else's job.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The models and pictures the benchmark makes for itself.
pub fn write_fixtures(folder: &Path) -> Result<()> {
    let models = folder.join("models");
    create(&models)?;
    write(&models.join("tensor.onnx"), &models::near_free())?;
    write(&models.join("mobilenet.onnx"), &models::mobilenet())?;
    write(&folder.join("photo.jpg"), &picture::photo()?)?;
    write(&folder.join("digit.jpg"), &picture::digit()?)
}

fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create folder {}", folder.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = std::fs::copy(from, to);
    copied.map(drop).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}
