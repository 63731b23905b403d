//! `cargo xtask onnxruntime --gpu [--cuda-libs]`: ONNX Runtime with its CUDA and TensorRT providers, and NVIDIA's
//! libraries they need, in one folder.
//!
//! ONNX Runtime loads its providers from the folder it lies in itself, so they stay together and of one version. What
//! the providers need in turn the system's loader looks for, and it does not look beside them: hence LD_LIBRARY_PATH.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::onnxruntime::VERSION;
use crate::step;
use crate::tree::Tree;
use crate::wheel::Wheel;

const X86: &str = "x86_64";
const ARM: &str = "aarch64";

#[rustfmt::skip]
const PROVIDERS: [Wheel; 2] = [
    wheel("onnxruntime-gpu", VERSION, X86, "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7"),
    wheel("onnxruntime-gpu", VERSION, ARM, "a0f1725c5a6d1ef82d63498b5ebc25e2c90c9560e91dc76db9be4a49162d4d33"),
];

/// cuBLAS, the runtime and cuRAND are needed to load the provider at all; cuDNN by convolutions and by TensorRT; cuFFT,
/// nvrtc and nvJitLink when a model asks for what they do.
#[rustfmt::skip]
const CUDA: [Wheel; 14] = [
    wheel("nvidia-cublas", "13.10.0.20", X86, "dcc6d63884c53d07e267ce7e6feac17b2538cebaafec5db865736c3e28e4dc84"),
    wheel("nvidia-cuda-runtime", "13.5.37", X86, "df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d"),
    wheel("nvidia-curand", "10.4.5.25", X86, "22bb226a857e5888fe6b54ae465fc4371296bcff13a35f79e19691bcf454f529"),
    wheel("nvidia-cudnn-cu13", "9.28.1.4", X86, "a54f205b1db1f2895d99f398754db1369816f0569dd459731f925635cf7b65ec"),
    wheel("nvidia-cufft", "12.5.0.14", X86, "b8be26837a5abad2b5b74f3e92dd29f622a42934b355be0961a48712cbba23ad"),
    wheel("nvidia-cuda-nvrtc", "13.5.37", X86, "86b4d68058807988b7d9af5b44917a0601e9c337f35ccd657bfb3c759ff8d8bc"),
    wheel("nvidia-nvjitlink", "13.5.37", X86, "280d7cb9649704145f074b8dbde500de04ce02d0872e066e20a83c17bcaa93eb"),
    wheel("nvidia-cublas", "13.10.0.20", ARM, "c5f3418c0a845232a8cabc58f6fa52cfae7d8bd3680d94c3907aca710fd48d70"),
    wheel("nvidia-cuda-runtime", "13.5.37", ARM, "de2dc5a7367974228b0a69588a9acc9340d3768bef1bf38bf0801eb08497cd2d"),
    wheel("nvidia-curand", "10.4.5.25", ARM, "07c75d8ba14b627d1a01d2c1bfa1eece88f25d564d3aae7e6b6fb44f7bbec9c1"),
    wheel("nvidia-cudnn-cu13", "9.28.1.4", ARM, "759b6a4919951ed8ec603dec97b96f6a6396c8269b95b3d345526e2471fb433d"),
    wheel("nvidia-cufft", "12.5.0.14", ARM, "091cde103312d6e09366122fe3f67092dcfd94cc9785029d695d6bcffaa76fdf"),
    wheel("nvidia-cuda-nvrtc", "13.5.37", ARM, "36e4fa2a8ada293f5693d308e531c196ab6f91cf7a0ff479bf96a537d43a6096"),
    wheel("nvidia-nvjitlink", "13.5.37", ARM, "893f6f9a55b2720ed94913b5ba3332e972da8c78dfa2863d0244403dbd528ffc"),
];

const ARM_NOTE: &str = "this wheel is for Grace and DGX Spark (compute capability 8.9, 9.0, 12.0, 12.1): it has no TensorRT \
                        provider and no code for a Jetson's GPU (8.7, 11.0). On a Jetson, build ONNX Runtime with \
                        CMAKE_CUDA_ARCHITECTURES=87 (Orin) or 110 (Thor) and name it in ORT_DYLIB_PATH";

const fn wheel(
    package: &'static str,
    version: &'static str,
    architecture: &'static str,
    sha256: &'static str,
) -> Wheel {
    Wheel { package, version, architecture, sha256 }
}

/// Fetches what is missing; returns the folder.
pub fn folder(tree: &Tree, cuda_libs: bool) -> Result<PathBuf> {
    let architecture = std::env::consts::ARCH;
    let folder = tree.layout().join("lib-gpu");
    let provider = PROVIDERS.iter().find(|wheel| wheel.architecture == architecture).with_context(|| {
        format!("ONNX Runtime {VERSION} with GPU providers is published for {X86} and {ARM}, not for {architecture}")
    })?;
    place(tree, provider, &folder, is_onnxruntime)?;
    for wheel in CUDA.iter().filter(|wheel| cuda_libs && wheel.architecture == architecture) {
        place(tree, wheel, &folder, is_library)?;
    }
    if architecture == ARM {
        step::note(ARM_NOTE);
    }
    step::note(usage(&folder, cuda_libs));
    Ok(folder)
}

/// Puts a wheel's libraries into the folder, unless its mark says that they are there.
fn place(tree: &Tree, wheel: &Wheel, folder: &Path, wanted: fn(&Path) -> bool) -> Result<()> {
    let mark = folder.join(format!(".{}-{}", wheel.package, wheel.version));
    if mark.exists() {
        step::note(format_args!("{} {} is there", wheel.package, wheel.version));
        return Ok(());
    }
    let scratch = tree.target().join(format!("{}-{}", wheel.package, std::process::id()));
    let unpacked = wheel.unpack(&scratch, folder, wanted);
    // Best effort: a scratch folder left behind costs space only.
    let _ = fs::remove_dir_all(&scratch);
    unpacked?;
    // Last: it says that everything before it was written.
    fs::write(&mark, wheel.sha256).with_context(|| format!("cannot write {}", mark.display()))
}

/// The core and its providers; not the Python binding.
fn is_onnxruntime(file: &Path) -> bool {
    file.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("libonnxruntime"))
}

/// NVIDIA's wheels keep their libraries in folders called `lib`, and headers elsewhere.
fn is_library(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = file.parent().and_then(Path::file_name);
    folder.is_some_and(|folder| folder == "lib") && (name.ends_with(".so") || name.contains(".so."))
}

fn usage(folder: &Path, cuda_libs: bool) -> String {
    let folder = folder.display();
    let run = format!("wharf serve --onnxruntime {folder} --device cuda");
    if cuda_libs {
        return format!(
            "to use it:  LD_LIBRARY_PATH={folder} {run}\n    (or write the folder into a file of /etc/ld.so.conf.d and \
             run ldconfig; NVIDIA's driver 580 or newer brings libcuda.so.1)"
        );
    }
    format!(
        "to use it:  {run}\n    CUDA 13's cuBLAS, runtime and cuRAND and cuDNN 9 must be where the system's loader looks: \
         install them, or run this again with --cuda-libs"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_architectures_have_the_same_wheels() {
        let of = |architecture: &str| -> Vec<_> {
            let all = PROVIDERS.iter().chain(&CUDA).filter(|wheel| wheel.architecture == architecture);
            all.map(|wheel| (wheel.package, wheel.version)).collect()
        };
        assert_eq!(of(X86), of(ARM));
        assert!(PROVIDERS.iter().chain(&CUDA).all(|wheel| wheel.sha256.len() == 64));
    }

    #[test]
    fn only_libraries_are_taken() {
        assert!(is_library(Path::new("x/nvidia/cu13/lib/libcublas.so.13")));
        assert!(!is_library(Path::new("x/nvidia/cu13/include/cublas.h")));
        assert!(!is_library(Path::new("x/nvidia/cu13/lib/libcudart_static.a")));
        assert!(is_onnxruntime(Path::new("x/onnxruntime/capi/libonnxruntime_providers_cuda.so")));
        assert!(!is_onnxruntime(Path::new("x/onnxruntime/capi/onnxruntime_pybind11_state.so")));
    }

    #[test]
    fn what_to_do_with_it_is_said() {
        let folder = Path::new("/opt/ort");
        assert!(
            usage(folder, true).contains("LD_LIBRARY_PATH=/opt/ort wharf serve --onnxruntime /opt/ort --device cuda")
        );
        assert!(usage(folder, false).contains("--cuda-libs"));
    }
}
