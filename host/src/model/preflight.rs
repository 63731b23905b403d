//! Whether a GPU provider of ONNX Runtime can be loaded here: every library it needs is opened, and what is missing is
//! named together with the package that has it. ONNX Runtime itself names the first missing file only.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY};
use regex_lite::Regex;

use super::elf;
use super::fatbin::{self, Kernel};
use super::machine::NvidiaGpu;

/// The providers the host can ask for, as ONNX Runtime names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    TensorRt,
    Cuda,
    Cpu,
}

impl Provider {
    /// As sessions report it.
    pub fn name(self) -> &'static str {
        match self {
            Provider::TensorRt => "TensorrtExecutionProvider",
            Provider::Cuda => "CUDAExecutionProvider",
            Provider::Cpu => "CPUExecutionProvider",
        }
    }
}

/// A library that could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// E.g. `libcublas.so.13`.
    pub library: String,
    /// The loader's own words.
    pub reason: String,
    /// What to install.
    pub package: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}), which is in {}", self.library, self.reason, self.package)
    }
}

/// What preflight found. `Ok` means that every library the provider is linked with opens, not that a GPU answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    pub cuda: Result<(), Vec<Missing>>,
    pub tensorrt: Result<(), Vec<Missing>>,
    /// Opened only when first used: cuDNN by convolutions, cuFFT by Fourier transforms.
    pub later: Vec<Missing>,
    /// What the CUDA provider's kernels were compiled for; empty where that cannot be read.
    pub built_for: Vec<Kernel>,
}

impl Default for Readiness {
    fn default() -> Self {
        Readiness { cuda: Ok(()), tensorrt: Ok(()), later: Vec::new(), built_for: Vec::new() }
    }
}

const SHARED: &str = "libonnxruntime_providers_shared.so";
const CUDA: &str = "libonnxruntime_providers_cuda.so";
const TENSORRT: &str = "libonnxruntime_providers_tensorrt.so";

/// What the public wheels are linked with, in the order in which they need each other. Used where the provider's own
/// list cannot be read because the provider is not there.
const CUDA_NEEDS: &[&str] =
    &["libcuda.so.1", "libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10"];
const TENSORRT_NEEDS: &[&str] = &[
    "libcudart.so.13",
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libcudnn.so.9",
    "libnvinfer.so.10",
    "libnvonnxparser.so.10",
];

impl Readiness {
    /// Look at the providers beside `core` (`libonnxruntime.so…`). Libraries in `folders` are preferred to the system's
    /// and stay open, so that ONNX Runtime finds them: the way for CUDA wheels unpacked anywhere. Opening hundreds of
    /// megabytes takes its time: not for an asynchronous thread.
    pub fn check(core: &Path, folders: &[PathBuf]) -> Readiness {
        let beside = core.parent().unwrap_or(Path::new("."));
        let open = |library: &str| open(library, folders);
        let mut cuda = missing_files(beside, &[SHARED, CUDA]);
        cuda.extend(missing_libraries(&needs(&beside.join(CUDA), CUDA_NEEDS), &open));
        let mut tensorrt = missing_files(beside, &[SHARED, TENSORRT]);
        tensorrt.extend(missing_libraries(&needs(&beside.join(TENSORRT), TENSORRT_NEEDS), &open));
        let later = match cuda.is_empty() {
            true => missing_libraries(&["libcudnn.so.9".to_owned()], &open),
            false => Vec::new(),
        };
        let built_for = fatbin::kernels(&beside.join(CUDA)).unwrap_or_default();
        let verdict = |missing: Vec<Missing>| if missing.is_empty() { Ok(()) } else { Err(missing) };
        Readiness { cuda: verdict(cuda), tensorrt: verdict(tensorrt), later, built_for }
    }

    /// What the CUDA provider has code for: `sm_75, sm_80`; empty where that is not known.
    pub fn code(&self) -> String {
        self.built_for.iter().map(Kernel::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Whether the CUDA provider has code for this GPU; `Ok` where that is not known. The error is one clause.
    pub fn suits(&self, gpu: &NvidiaGpu) -> Result<(), String> {
        let Some(capability) = gpu.compute_capability else { return Ok(()) };
        if self.built_for.is_empty() || self.built_for.iter().any(|kernel| kernel.runs_on(capability)) {
            return Ok(());
        }
        Err(format!(
            "ONNX Runtime's CUDA provider here has code for {} only, and GPU {} is {}: use an ONNX Runtime that was \
             built with CMAKE_CUDA_ARCHITECTURES={}{}",
            self.code(),
            gpu.index,
            gpu.architecture().unwrap_or_default(),
            capability.0,
            capability.1
        ))
    }
}

/// The provider's own libraries are not opened but looked at: their initialisers expect ONNX Runtime around them.
fn missing_files(folder: &Path, names: &[&str]) -> Vec<Missing> {
    let absent = names.iter().filter_map(|name| {
        let path = folder.join(name);
        let reason = match elf::is_library(&path) {
            Ok(true) => return None,
            Ok(false) => format!("{} is no shared library", path.display()),
            Err(error) => format!("{}: {error}", path.display()),
        };
        Some(Missing { library: (*name).to_owned(), reason, package: package(name) })
    });
    absent.collect()
}

/// The libraries of NVIDIA's that a provider is linked with: its own list, since builds for other CUDA versions need
/// other names.
fn needs(provider: &Path, usual: &[&str]) -> Vec<String> {
    let Ok(mut names) = elf::needed(provider) else { return usual.iter().map(|name| (*name).to_owned()).collect() };
    names.retain(|name| name.starts_with("libcu") || name.starts_with("libnv"));
    // Those that others need first, so that a folder's own are opened before the system's are looked for.
    let rank = |name: &String| {
        ["libcuda.", "libcudart.", "libcublasLt.", "libcublas."].iter().position(|first| name.starts_with(first))
    };
    names.sort_by_key(|name| rank(name).unwrap_or(usize::MAX));
    names
}

fn missing_libraries(names: &[String], open: &dyn Fn(&str) -> Result<(), String>) -> Vec<Missing> {
    static ABSENT: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^([^:/ ]+): cannot open shared object file").ok());
    let mut missing: Vec<Missing> = Vec::new();
    for name in names {
        let Err(reason) = open(name) else { continue };
        // The loader names the file that is absent, which may be one that this one needs.
        let absent = ABSENT.as_ref().and_then(|absent| absent.captures(&reason)?.get(1)).map(|name| name.as_str());
        let library = absent.unwrap_or(name).to_owned();
        if !missing.iter().any(|other| other.library == library) {
            missing.push(Missing { package: package(&library), reason, library });
        }
    }
    missing
}

/// Open a library for good: whoever asks is about to use it.
#[expect(unsafe_code, reason = "whether a library loads is found out by loading it")]
fn open(name: &str, folders: &[PathBuf]) -> Result<(), String> {
    let given = folders.iter().map(|folder| folder.join(name)).find(|path| path.exists());
    let path = given.unwrap_or_else(|| name.into());
    // SAFETY: NVIDIA's libraries, whose initialisers ONNX Runtime would run as well.
    let library = unsafe { Library::open(Some(&path), RTLD_LAZY | RTLD_GLOBAL) }.map_err(|error| clause(&error))?;
    std::mem::forget(library);
    Ok(())
}

/// The loader's words. `libloading` adds its own only to what has none.
pub(super) fn clause(error: &libloading::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

/// The packages that have a library: pip's wheel, then Debian's and Ubuntu's package from NVIDIA's repository.
fn package(library: &str) -> String {
    let major = library.split(".so.").nth(1).and_then(|version| version.split('.').next()).unwrap_or("");
    // CUDA's own libraries carry CUDA's version, except those that count for themselves.
    let cuda = |wheel: &str, apt: &str| match major {
        "12" => format!("the wheel {wheel}-cu12 or the package {apt}-12-6"),
        _ => format!("the wheel {wheel} or the package {apt}-13-0"),
    };
    match library.split(".so").next().unwrap_or(library) {
        "libonnxruntime_providers_tensorrt" if cfg!(target_arch = "aarch64") => {
            "no public wheel for aarch64: it takes an ONNX Runtime built with --use_tensorrt".to_owned()
        }
        name if name.starts_with("libonnxruntime_") => {
            "the wheel onnxruntime-gpu==1.31.1, whose libraries must lie together".to_owned()
        }
        "libcuda" => {
            "NVIDIA's driver, branch 580 or later for CUDA 13 (a container gets it by --gpus all, on a Jetson by \
             --runtime nvidia)"
                .to_owned()
        }
        "libcudart" => cuda("nvidia-cuda-runtime", "cuda-cudart"),
        "libcublas" | "libcublasLt" => cuda("nvidia-cublas", "libcublas"),
        "libcurand" => "the wheel nvidia-curand or the package libcurand-13-0".to_owned(),
        "libcufft" => "the wheel nvidia-cufft or the package libcufft-13-0".to_owned(),
        name if name.starts_with("libcudnn") => {
            "the wheel nvidia-cudnn-cu13 or the package libcudnn9-cuda-13".to_owned()
        }
        name if name.starts_with("libnvinfer") => format!("the package libnvinfer{major} of NVIDIA's repository"),
        "libnvonnxparser" => format!("the package libnvonnxparsers{major} of NVIDIA's repository"),
        _ => "a package that we do not know".to_owned(),
    }
}

#[cfg(test)]
#[path = "preflight_tests.rs"]
mod tests;
