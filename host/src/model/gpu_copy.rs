//! Copies between the host's memory and a GPU's, for buffers at fixed addresses, which ONNX Runtime has no call for. Done
//! by NVIDIA's driver, opened at run time: nothing is linked. It must never know what is copied.

use std::ffi::{c_int, c_uint, c_void};
use std::path::Path;

use super::driver::{checked, open, symbol};

/// The driver's library, as its versions of all years call it.
const DRIVER: &str = "libcuda.so.1";

type Init = unsafe extern "C" fn(c_uint) -> c_int;
type GetDevice = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
type Retain = unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int;
type Release = unsafe extern "C" fn(c_int) -> c_int;
type SetCurrent = unsafe extern "C" fn(*mut c_void) -> c_int;
type ToDevice = unsafe extern "C" fn(u64, *const c_void, usize) -> c_int;
type ToHost = unsafe extern "C" fn(*mut c_void, u64, usize) -> c_int;

/// The right to copy to and from one GPU, on the thread that made it (a CUDA context is current on one thread).
pub(super) struct GpuCopy {
    device: c_int,
    release: Release,
    to_device: ToDevice,
    to_host: ToHost,
    /// Not `Send`.
    _here: std::marker::PhantomData<*const ()>,
}

impl GpuCopy {
    /// For the GPU of this number, as CUDA counts them. Joins the context that ONNX Runtime's provider uses (the primary
    /// one). The error is one clause.
    pub(super) fn new(gpu: u32) -> Result<GpuCopy, String> {
        GpuCopy::through(Path::new(DRIVER), gpu)
    }

    #[expect(unsafe_code, reason = "a C library that is opened at run time")]
    fn through(driver: &Path, gpu: u32) -> Result<GpuCopy, String> {
        let gpu = c_int::try_from(gpu).map_err(|_| format!("there is no GPU {gpu}"))?;
        // SAFETY: the driver's initialisers are meant to run in any process. The signatures are those of cuda.h, unchanged
        // since CUDA 4; results are written to places of the right type; the library is never unloaded.
        unsafe {
            let library = open(driver)?;
            let init: Init = symbol(library, c"cuInit")?;
            let get: GetDevice = symbol(library, c"cuDeviceGet")?;
            let retain: Retain = symbol(library, c"cuDevicePrimaryCtxRetain")?;
            let release: Release = symbol(library, c"cuDevicePrimaryCtxRelease_v2")?;
            let set_current: SetCurrent = symbol(library, c"cuCtxSetCurrent")?;
            let to_device: ToDevice = symbol(library, c"cuMemcpyHtoD_v2")?;
            let to_host: ToHost = symbol(library, c"cuMemcpyDtoH_v2")?;
            checked("cuInit", init(0))?;
            let (mut device, mut context) = (0, std::ptr::null_mut());
            checked("cuDeviceGet", get(&raw mut device, gpu))?;
            checked("cuDevicePrimaryCtxRetain", retain(&raw mut context, device))?;
            let copy = GpuCopy { device, release, to_device, to_host, _here: std::marker::PhantomData };
            checked("cuCtxSetCurrent", set_current(context))?;
            Ok(copy)
        }
    }

    /// Returns when the bytes are there.
    ///
    /// # Safety
    ///
    /// `length` bytes at `to` are allocated on this GPU, `length` bytes at `from` on the host; nobody writes to either.
    #[expect(unsafe_code, reason = "addresses of another device")]
    pub(super) unsafe fn to_device(&self, to: *mut c_void, from: *const c_void, length: usize) -> Result<(), String> {
        // SAFETY: the caller's promise.
        checked("cuMemcpyHtoD", unsafe { (self.to_device)(to as u64, from, length) })
    }

    /// Returns when the bytes are there.
    ///
    /// # Safety
    ///
    /// As for [`GpuCopy::to_device`], with the sides exchanged.
    #[expect(unsafe_code, reason = "addresses of another device")]
    pub(super) unsafe fn to_host(&self, to: *mut c_void, from: *const c_void, length: usize) -> Result<(), String> {
        // SAFETY: the caller's promise.
        checked("cuMemcpyDtoH", unsafe { (self.to_host)(to, from as u64, length) })
    }
}

impl Drop for GpuCopy {
    #[expect(unsafe_code, reason = "a C library that is opened at run time")]
    fn drop(&mut self) {
        // SAFETY: retained once, by `through`.
        unsafe { (self.release)(self.device) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture;

    const STUB: &str = r#"
#include <string.h>
#include <stddef.h>
static int retained;
int cuInit(unsigned flags) { return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return i > 1 ? 101 : 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { *c = &retained; retained++; return 0; }
int cuDevicePrimaryCtxRelease_v2(int d) { retained--; return 0; }
int cuCtxSetCurrent(void *c) { return c == &retained ? 0 : 201; }
int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t n) { memcpy((void *)to, from, n); return n > 8 ? 1 : 0; }
int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t n) { memcpy(to, (void *)from, n); return 0; }
int left(void) { return retained; }
"#;

    #[test]
    #[expect(unsafe_code, reason = "the stub's GPU memory is the host's")]
    fn bytes_go_there_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = fixture::shared_object(folder.path(), "libcuda-copy.so", STUB, &[]);
        let copy = GpuCopy::through(&path, 1).unwrap();
        let (there, mut device, mut back) = ([1u8, 2, 3, 4], [0u8; 9], [0u8; 4]);
        // SAFETY: all three are longer than what is copied.
        unsafe {
            copy.to_device(device.as_mut_ptr().cast(), there.as_ptr().cast(), 4).unwrap();
            copy.to_host(back.as_mut_ptr().cast(), device.as_ptr().cast(), 4).unwrap();
            let failed = copy.to_device(device.as_mut_ptr().cast(), device.as_ptr().cast(), 9).unwrap_err();
            assert_eq!(failed, "cuMemcpyHtoD failed with 1");
        }
        assert_eq!(back, there);
        drop(copy);
        // SAFETY: its true signature.
        let left = unsafe {
            libloading::Library::new(&path).unwrap().get::<unsafe extern "C" fn() -> c_int>(c"left").unwrap()()
        };
        assert_eq!(left, 0, "a context is left");
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = fixture::shared_object(folder.path(), "libcuda-copy-two.so", STUB, &[]);
        assert_eq!(GpuCopy::through(&path, 7).err().unwrap(), "cuDeviceGet failed with 101");
        let empty = fixture::shared_object(folder.path(), "libcuda-copy-none.so", "int x;", &[]);
        assert_eq!(GpuCopy::through(&empty, 0).err().unwrap(), "the driver's library lacks cuInit");
        let missing = GpuCopy::through(Path::new("libcuda-of-nobody.so.1"), 0).err().unwrap();
        assert!(missing.contains("cannot open shared object file"), "{missing}");
    }
}
