//! What NVIDIA's driver says, through `libcuda.so.1` opened at run time: nothing is linked. CUDA is asked first because
//! its numbering is what `cuda:N` means; NVML counts by bus and does not know `CUDA_VISIBLE_DEVICES`, so it only
//! explains why CUDA does not answer.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};

use libloading::Library;

use super::machine::{NvidiaGpu, library_folders};

/// What a driver that works says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The newest CUDA it runs: (major, minor).
    pub cuda: (u32, u32),
    pub gpus: Vec<NvidiaGpu>,
}

/// Ask the driver of the machine whose files lie below `root`. The error is one clause.
pub fn ask(root: &Path) -> Result<Answer, String> {
    let reason = match library(root, "libcuda.so.1").and_then(|path| ask_cuda(&path)) {
        Ok(answer) => return Ok(answer),
        Err(reason) => reason,
    };
    match library(root, "libnvidia-ml.so.1").and_then(|path| ask_nvml(&path)) {
        Ok(names) if !names.is_empty() => Err(format!("{reason}, although NVML sees {}", names.join(", "))),
        _ => Err(reason),
    }
}

/// What to open: of this machine, the name, which the loader knows to find.
fn library(root: &Path, name: &str) -> Result<PathBuf, String> {
    let folders = library_folders(root);
    if folders.is_empty() {
        return Ok(name.into());
    }
    let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.exists());
    found.ok_or_else(|| format!("{name}: no such library below {}", root.display()))
}

const SUCCESS: c_int = 0;
const MAJOR: c_int = 75;
const MINOR: c_int = 76;

type Init = unsafe extern "C" fn(c_uint) -> c_int;
type GetInt = unsafe extern "C" fn(*mut c_int) -> c_int;
type GetDevice = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
type GetName = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;
type GetUuid = unsafe extern "C" fn(*mut [u8; 16], c_int) -> c_int;
type GetAttribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;
type GetMemory = unsafe extern "C" fn(*mut usize, c_int) -> c_int;

/// The CUDA driver API of the library at `path`.
#[expect(unsafe_code, reason = "a C library that is opened at run time")]
pub fn ask_cuda(path: &Path) -> Result<Answer, String> {
    // SAFETY: the driver's initialisers are meant to run in any process. The signatures are those of cuda.h, unchanged
    // since CUDA 3.2 (`_v2` names included); every buffer is as long as is said, and the library is never unloaded,
    // which CUDA does not support.
    unsafe {
        let library = open(path)?;
        let init: Init = symbol(library, c"cuInit")?;
        let version: GetInt = symbol(library, c"cuDriverGetVersion")?;
        let count: GetInt = symbol(library, c"cuDeviceGetCount")?;
        let device: GetDevice = symbol(library, c"cuDeviceGet")?;
        let name: GetName = symbol(library, c"cuDeviceGetName")?;
        let attribute: GetAttribute = symbol(library, c"cuDeviceGetAttribute")?;
        let memory: GetMemory = symbol(library, c"cuDeviceTotalMem_v2")?;
        let uuid: Option<GetUuid> =
            symbol(library, c"cuDeviceGetUuid_v2").or_else(|_| symbol(library, c"cuDeviceGetUuid")).ok();
        checked("cuInit", init(0))?;
        let mut number = 0;
        checked("cuDriverGetVersion", version(&raw mut number))?;
        let cuda = (unsigned(number / 1000), unsigned(number % 1000 / 10));
        checked("cuDeviceGetCount", count(&raw mut number))?;
        let mut gpus = Vec::new();
        for index in 0..number {
            let mut handle = 0;
            checked("cuDeviceGet", device(&raw mut handle, index))?;
            let mut text = [0 as c_char; 256];
            checked("cuDeviceGetName", name(text.as_mut_ptr(), 255, handle))?;
            let (mut major, mut minor, mut bytes, mut id) = (0, 0, 0, [0; 16]);
            let capable = attribute(&raw mut major, MAJOR, handle) == SUCCESS
                && attribute(&raw mut minor, MINOR, handle) == SUCCESS;
            let has_memory = memory(&raw mut bytes, handle) == SUCCESS;
            let has_uuid = uuid.is_some_and(|uuid| uuid(&raw mut id, handle) == SUCCESS);
            gpus.push(NvidiaGpu {
                index: unsigned(index),
                name: CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned(),
                uuid: has_uuid.then(|| printed(&id)),
                compute_capability: capable.then_some((unsigned(major), unsigned(minor))),
                memory: has_memory.then_some(bytes as u64),
            });
        }
        Ok(Answer { cuda, gpus })
    }
}

type NvmlInit = unsafe extern "C" fn() -> c_int;
type NvmlCount = unsafe extern "C" fn(*mut c_uint) -> c_int;
type NvmlHandle = unsafe extern "C" fn(c_uint, *mut *mut c_void) -> c_int;
type NvmlText = unsafe extern "C" fn(*mut c_void, *mut c_char, c_uint) -> c_int;

/// The GPUs' names as NVML knows them.
#[expect(unsafe_code, reason = "a C library that is opened at run time")]
fn ask_nvml(path: &Path) -> Result<Vec<String>, String> {
    // SAFETY: the signatures are those of nvml.h; the buffer is as long as is said; handles are used between init and
    // shutdown only.
    unsafe {
        let library = open(path)?;
        let init: NvmlInit = symbol(library, c"nvmlInit_v2")?;
        let shutdown: NvmlInit = symbol(library, c"nvmlShutdown")?;
        let count: NvmlCount = symbol(library, c"nvmlDeviceGetCount_v2")?;
        let handle: NvmlHandle = symbol(library, c"nvmlDeviceGetHandleByIndex_v2")?;
        let name: NvmlText = symbol(library, c"nvmlDeviceGetName")?;
        checked("nvmlInit_v2", init())?;
        let mut number = 0;
        let mut names = Vec::new();
        if count(&raw mut number) == SUCCESS {
            for index in 0..number {
                let (mut device, mut text) = (std::ptr::null_mut(), [0 as c_char; 96]);
                if handle(index, &raw mut device) == SUCCESS && name(device, text.as_mut_ptr(), 95) == SUCCESS {
                    names.push(CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned());
                }
            }
        }
        shutdown();
        Ok(names)
    }
}

/// Open a library and keep it for ever.
#[expect(unsafe_code, reason = "a C library that is opened at run time")]
pub(super) unsafe fn open(path: &Path) -> Result<&'static Library, String> {
    // SAFETY: the caller vouches for the library's initialisers.
    let library = unsafe { Library::new(path) }.map_err(|error| super::preflight::clause(&error))?;
    Ok(Box::leak(Box::new(library)))
}

#[expect(unsafe_code, reason = "a C library that is opened at run time")]
pub(super) unsafe fn symbol<T: Copy>(library: &'static Library, name: &CStr) -> Result<T, String> {
    // SAFETY: the caller names the symbol's true signature.
    unsafe { library.get::<T>(name) }
        .map(|symbol| *symbol)
        .map_err(|_| format!("the driver's library lacks {}", name.to_string_lossy()))
}

pub(super) fn checked(call: &str, status: c_int) -> Result<(), String> {
    match status {
        SUCCESS => Ok(()),
        // The two that people meet.
        100 => Err(format!("{call} says that there is no CUDA device (100)")),
        803 => Err(format!("{call} says that the driver's library and kernel module do not fit (803): reboot")),
        _ => Err(format!("{call} failed with {status}")),
    }
}

fn unsigned(number: c_int) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// As `nvidia-smi -L` prints it.
fn printed(id: &[u8; 16]) -> String {
    let mut text = String::from("GPU-");
    for (index, byte) in id.iter().enumerate() {
        if [4, 6, 8, 10].contains(&index) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture;

    const STUB: &str = r#"
#include <string.h>
#include <stddef.h>
int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int *v) { *v = 13010; return 0; }
int cuDeviceGetCount(int *n) { *n = 2; return 0; }
int cuDeviceGet(int *d, int i) { *d = 40 + i; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, d == 40 ? "NVIDIA L4" : "NVIDIA A2", n); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : d == 40 ? 9 : 6; return 0; }
int cuDeviceTotalMem_v2(size_t *b, int d) { *b = 1ull << 34; return 0; }
int cuDeviceGetUuid_v2(unsigned char *u, int d) { for (int i = 0; i < 16; i++) u[i] = d + i; return 0; }
"#;

    #[test]
    fn a_driver_is_asked_through_its_library() {
        let folder = tempfile::tempdir().unwrap();
        let path = fixture::shared_object(folder.path(), "libcuda.so.1", &STUB.replace("INIT", "0"), &[]);
        let answer = ask_cuda(&path).unwrap();
        assert_eq!(answer.cuda, (13, 1));
        let gpus: Vec<String> = answer.gpus.iter().map(NvidiaGpu::to_string).collect();
        assert_eq!(
            gpus,
            [
                "0 (NVIDIA L4, sm_89, 16384 MiB, GPU-28292a2b-2c2d-2e2f-3031-323334353637)",
                "1 (NVIDIA A2, sm_86, 16384 MiB, GPU-292a2b2c-2d2e-2f30-3132-333435363738)"
            ]
        );
    }

    #[test]
    fn a_driver_that_does_not_answer_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = fixture::shared_object(folder.path(), "libcuda-none.so", &STUB.replace("INIT", "100"), &[]);
        assert_eq!(ask_cuda(&path).unwrap_err(), "cuInit says that there is no CUDA device (100)");
        let empty = fixture::shared_object(folder.path(), "libcuda-empty.so", "int x;", &[]);
        assert_eq!(ask_cuda(&empty).unwrap_err(), "the driver's library lacks cuInit");
        let missing = ask_cuda(Path::new("libcuda-of-nobody.so.1")).unwrap_err();
        assert!(missing.starts_with("libcuda-of-nobody.so.1: cannot open shared object file"), "{missing}");
    }
}
