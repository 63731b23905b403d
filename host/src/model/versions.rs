//! The versions of NVIDIA's libraries that an engine is bound to, as the libraries themselves say them: the one ONNX
//! Runtime's TensorRT provider is linked with is asked, opened at run time.

use std::ffi::{CStr, c_int};
use std::path::Path;

use libloading::os::unix::{Library as Opened, RTLD_GLOBAL, RTLD_LAZY};

use super::elf;
use super::engine_cache::Versions;
use super::library::Library;
use super::preflight::clause;

const PROVIDER: &str = "libonnxruntime_providers_tensorrt.so";

/// What the public wheels are linked with, where the provider's own list cannot be read.
const TENSORRT: &str = "libnvinfer.so.10";
const CUDA: &str = "libcudart.so.13";

impl Versions {
    /// Of the TensorRT and the CUDA that sessions of this ONNX Runtime use. The error is one clause: what is missing.
    pub fn of_libraries(onnxruntime: &Library) -> Result<Versions, String> {
        let needed = elf::needed(&onnxruntime.path.with_file_name(PROVIDER)).unwrap_or_default();
        let linked = |start: &str, usual: &str| -> String {
            needed.iter().find(|name| name.starts_with(start)).cloned().unwrap_or_else(|| usual.to_owned())
        };
        Versions::ask(
            Path::new(&linked("libnvinfer.so.", TENSORRT)),
            Path::new(&linked("libcudart.so.", CUDA)),
            &onnxruntime.version,
        )
    }

    /// Of the libraries at these paths, or of these names.
    #[expect(unsafe_code, reason = "C libraries that are opened at run time")]
    pub fn ask(tensorrt: &Path, cuda: &Path, onnxruntime: &str) -> Result<Versions, String> {
        // SAFETY: both are NVIDIA's, whose initialisers ONNX Runtime would run as well, and are never unloaded. The
        // signatures are those of NvInferRuntime.h and cuda_runtime_api.h.
        unsafe {
            let version: unsafe extern "C" fn() -> i32 = symbol(tensorrt, c"getInferLibVersion")?;
            let runtime: unsafe extern "C" fn(*mut c_int) -> c_int = symbol(cuda, c"cudaRuntimeGetVersion")?;
            let mut number = 0;
            let status = runtime(&raw mut number);
            if status != 0 {
                return Err(format!("cudaRuntimeGetVersion fails with error {status}"));
            }
            Ok(Versions {
                tensorrt: tensorrt_version(version()),
                cuda: format!("{}.{}", number / 1000, number % 1000 / 10),
                onnxruntime: onnxruntime.to_owned(),
            })
        }
    }
}

/// From TensorRT 10 on two digits each for minor and patch; before, one for minor: 8.6.1 is 8601.
fn tensorrt_version(number: i32) -> String {
    let ten = 10_000;
    match number {
        new if new >= 10 * ten => format!("{}.{}.{}", new / ten, new % ten / 100, new % 100),
        old => format!("{}.{}.{}", old / 1000, old % 1000 / 100, old % 100),
    }
}

/// A function of a library that stays open.
///
/// # Safety
///
/// The library's initialisers must be fit to run here, and the symbol must be of type `T`.
#[expect(unsafe_code, reason = "C libraries that are opened at run time")]
unsafe fn symbol<T: Copy>(path: &Path, name: &CStr) -> Result<T, String> {
    // SAFETY: the caller's promise.
    unsafe {
        let library = Opened::open(Some(path), RTLD_LAZY | RTLD_GLOBAL).map_err(|error| clause(&error))?;
        let symbol = library.get::<T>(name).map(|symbol| *symbol).map_err(|error| clause(&error));
        std::mem::forget(library);
        symbol
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture;

    #[test]
    fn libraries_say_their_versions() {
        let folder = tempfile::tempdir().unwrap();
        let nvinfer = "int getInferLibVersion(void) { return 101302; }";
        let tensorrt = fixture::shared_object(folder.path(), "libnvinfer.so.10", nvinfer, &[]);
        let cudart = "int cudaRuntimeGetVersion(int *version) { *version = 13020; return 0; }";
        let cuda = fixture::shared_object(folder.path(), "libcudart.so.13", cudart, &[]);
        let versions = Versions::ask(&tensorrt, &cuda, "1.31.1").unwrap();
        assert_eq!(
            versions,
            Versions { tensorrt: "10.13.2".into(), cuda: "13.2".into(), onnxruntime: "1.31.1".into() }
        );
        let absent = Versions::ask(Path::new("libnvinfer.so.0"), &cuda, "1.31.1").unwrap_err();
        assert!(absent.starts_with("libnvinfer.so.0: cannot open shared object file"), "{absent}");
        assert_eq!(tensorrt_version(8601), "8.6.1");
    }
}
