//! Machines made of a few files: what `WHARF_SYSROOT` and `--onnxruntime` name in tests. Their driver and their libraries
//! are stubs made by the system's `cc`: they answer what is asked before a model is loaded, and run nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::guests;
use super::host::Scratch;

/// Two GPUs, as `libcuda.so.1` tells of them.
pub const FIRST: &str = "0 (NVIDIA L4, sm_89, 16384 MiB, GPU-28292a2b-2c2d-2e2f-3031-323334353637)";
pub const SECOND: &str = "1 (NVIDIA H100, sm_90, 16384 MiB, GPU-292a2b2c-2d2e-2f30-3132-333435363738)";

const DRIVER: &str = r#"
#include <string.h>
#include <stddef.h>
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *v) { *v = 13010; return 0; }
int cuDeviceGetCount(int *n) { *n = 2; return 0; }
int cuDeviceGet(int *d, int i) { *d = 40 + i; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, d == 40 ? "NVIDIA L4" : "NVIDIA H100", n); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = d == 40 ? (a == 75 ? 8 : 9) : (a == 75 ? 9 : 0); return 0; }
int cuDeviceTotalMem_v2(size_t *b, int d) { *b = 1ull << 34; return 0; }
int cuDeviceGetUuid_v2(unsigned char *u, int d) { for (int i = 0; i < 16; i++) u[i] = d + i; return 0; }
"#;

/// Code for `sm_90a` alone, as nvcc packs it: a container's head, an entry's head, 8 bytes of nothing.
const FOR_H100: &str = r#"
const struct { unsigned magic; unsigned short version, head; unsigned long size;
         unsigned short kind, unknown; unsigned entry; unsigned long code; unsigned zeros[3], architecture, more[2];
         unsigned long flags; unsigned long rest[2]; unsigned long nothing; }
fatbin __attribute__((section(".nv_fatbin"), used, aligned(8))) =
    { 0xba55ed50, 1, 16, 72, 2, 0x101, 64, 8, { 0 }, 90, { 0 }, 0x108011, { 0 }, 0 };
"#;

/// The files of a machine; gone when dropped.
pub struct Machine {
    pub root: Scratch,
    /// A copy of ONNX Runtime with what lies beside it, for `--onnxruntime`.
    pub onnxruntime: Scratch,
}

impl Machine {
    /// No GPU, no driver.
    pub fn bare() -> Machine {
        Machine { root: Scratch::new(), onnxruntime: Scratch::new() }.with_core()
    }

    /// Two GPUs with a driver that answers. ONNX Runtime is the CPU's, with a CUDA provider beside it that looks complete:
    /// whoever opens a model on a GPU is refused by ONNX Runtime itself.
    pub fn with_gpus() -> Machine {
        let machine = Machine::bare();
        machine.library(&machine.folder(), "libcuda.so.1", DRIVER, &[]);
        machine.library(&machine.onnxruntime.0, "libonnxruntime_providers_shared.so", "int nothing;", &[]);
        machine.library(&machine.onnxruntime.0, "libonnxruntime_providers_cuda.so", "int nothing;", &[]);
        machine
    }

    /// The provider has code for the second GPU only.
    pub fn for_the_second_gpu_only(self) -> Machine {
        self.library(&self.onnxruntime.0, "libonnxruntime_providers_cuda.so", FOR_H100, &[]);
        self
    }

    /// The provider is linked with a cuBLAS that is not there.
    pub fn without_cublas(self) -> Machine {
        let cublas = self.library(&self.onnxruntime.0, "libcublas.so.99", "int nothing;", &[]);
        self.library(&self.onnxruntime.0, "libonnxruntime_providers_cuda.so", "int nothing;", &["libcublas.so.99"]);
        fs::remove_file(cublas).unwrap();
        self
    }

    /// An Orin's own files, as a container without NVIDIA's runtime sees them.
    pub fn jetson() -> Machine {
        let machine = Machine::bare();
        for (file, text) in [
            ("etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n"),
            ("proc/device-tree/compatible", "nvidia,p3737-0000+p3701-0005\0nvidia,tegra234\0"),
            ("proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0"),
        ] {
            let path = machine.root.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        machine
    }

    /// For `wharf` and its host.
    pub fn flags(&self) -> [&str; 2] {
        ["--onnxruntime", self.onnxruntime.0.to_str().unwrap()]
    }

    /// Where the loader would look for libraries.
    fn folder(&self) -> PathBuf {
        let folder = self.root.0.join("usr/lib64");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// A copy, not a link: the providers are looked for beside the file itself.
    fn with_core(self) -> Machine {
        let core = guests::library();
        let here = self.onnxruntime.0.join(core.file_name().unwrap());
        if fs::hard_link(&core, &here).is_err() {
            fs::copy(&core, &here).unwrap();
        }
        self
    }

    /// Made of C, and linked with others of the same folder.
    fn library(&self, folder: &Path, name: &str, source: &str, needs: &[&str]) -> PathBuf {
        let (path, code) = (folder.join(name), self.root.0.join("stub.c"));
        fs::write(&code, source).unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-Wl,--no-as-needed", "-o"]).arg(&path).arg(&code);
        cc.arg(format!("-Wl,-soname,{name}")).arg("-L").arg(folder);
        cc.args(needs.iter().map(|need| format!("-l:{need}")));
        assert!(cc.status().expect("a C compiler (cc) is needed for this test").success());
        path
    }
}
