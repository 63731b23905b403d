//! Preflight over libraries made by `cc`.

use super::*;
use crate::model::fatbin::Kind;
use crate::model::fixture::shared_object;

const NOTHING: &str = "int nothing;";

/// A folder with stubs of the CUDA libraries of a name nobody else has (`tag` stands for the version), and of the
/// providers that need them.
fn providers(tag: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let names = [format!("libcublas.so.{tag}"), format!("libcudart.so.{tag}"), format!("libnvinfer.so.{tag}")];
    for name in &names {
        shared_object(folder.path(), name, NOTHING, &[]);
    }
    shared_object(folder.path(), SHARED, NOTHING, &[]);
    shared_object(folder.path(), CUDA, NOTHING, &[&names[0], &names[1]]);
    shared_object(folder.path(), TENSORRT, NOTHING, &[&names[1], &names[2]]);
    let core = folder.path().join("libonnxruntime.so.1.31.1");
    (folder, core)
}

#[test]
fn what_a_provider_needs_is_read_from_it() {
    let (folder, _) = providers("77");
    assert_eq!(needs(&folder.path().join(CUDA), CUDA_NEEDS), ["libcudart.so.77", "libcublas.so.77"]);
    assert_eq!(needs(&folder.path().join("none.so"), &["libcuda.so.1"]), ["libcuda.so.1"]);
    std::fs::write(folder.path().join(CUDA), "version https://git-lfs.github.com/spec/v1").unwrap();
    assert_eq!(needs(&folder.path().join(CUDA), &["libcuda.so.1"]), ["libcuda.so.1"]);
}

#[test]
fn libraries_in_a_folder_that_was_given_serve() {
    let (folder, core) = providers("78");
    let found = Readiness::check(&core, &[folder.path().to_path_buf()]);
    assert_eq!((&found.cuda, &found.tensorrt), (&Ok(()), &Ok(())));
    // Without any code for a GPU.
    assert_eq!(found.built_for, []);
}

#[test]
fn every_missing_library_is_named_with_its_package() {
    let (folder, core) = providers("79");
    std::fs::remove_file(folder.path().join("libcublas.so.79")).unwrap();
    std::fs::remove_file(folder.path().join("libnvinfer.so.79")).unwrap();
    let found = Readiness::check(&core, &[folder.path().to_path_buf()]);
    let missing = found.cuda.unwrap_err();
    assert_eq!(
        missing[0].to_string(),
        "libcublas.so.79 (libcublas.so.79: cannot open shared object file: No such file or directory), which is in the \
         wheel nvidia-cublas or the package libcublas-13-0"
    );
    assert_eq!(missing.len(), 1);
    let missing = found.tensorrt.unwrap_err();
    assert_eq!(missing[0].package, "the package libnvinfer79 of NVIDIA's repository");
}

#[test]
fn a_library_that_another_needs_is_the_one_named() {
    let folder = tempfile::tempdir().unwrap();
    shared_object(folder.path(), "libcublasLt.so.80", NOTHING, &[]);
    shared_object(folder.path(), "libcublas.so.80", NOTHING, &["libcublasLt.so.80"]);
    std::fs::remove_file(folder.path().join("libcublasLt.so.80")).unwrap();
    let folders = [folder.path().to_path_buf()];
    let missing = missing_libraries(&["libcublas.so.80".to_owned()], &|name| open(name, &folders));
    assert_eq!(missing[0].library, "libcublasLt.so.80");
}

#[test]
fn without_providers_the_wheel_and_its_needs_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Readiness::check(&folder.path().join("libonnxruntime.so"), &[]).cuda.unwrap_err();
    let names: Vec<&str> = missing.iter().map(|missing| missing.library.as_str()).collect();
    assert!(names.starts_with(&[SHARED, CUDA]), "{names:?}");
    assert!(missing[1].package.contains("onnxruntime-gpu==1.31.1"), "{}", missing[1]);
}

#[test]
fn kernels_fit_gpus_of_their_own_generation() {
    let kernel = |major, minor| Kernel { major, minor, kind: Kind::Machine };
    let exactly = |major, minor| Kernel { major, minor, kind: Kind::Exact };
    // The public wheels of 1.31.1. The one for aarch64 suits no Jetson.
    let x86 = vec![kernel(7, 5), kernel(8, 0), kernel(8, 6), kernel(8, 9), exactly(9, 0), exactly(12, 0)];
    let arm = vec![kernel(8, 9), exactly(9, 0), exactly(12, 0), exactly(12, 1)];
    let x86 = Readiness { built_for: x86, ..Readiness::default() };
    let arm = Readiness { built_for: arm, ..Readiness::default() };
    let gpu = |major, minor| NvidiaGpu { compute_capability: Some((major, minor)), ..NvidiaGpu::default() };
    for fits in [gpu(7, 5), gpu(8, 0), gpu(8, 9), gpu(9, 0), gpu(12, 0)] {
        x86.suits(&fits).unwrap();
    }
    for misfit in [gpu(7, 0), gpu(10, 0), gpu(10, 3), gpu(12, 1)] {
        x86.suits(&misfit).unwrap_err();
    }
    arm.suits(&gpu(12, 1)).unwrap();
    arm.suits(&gpu(11, 0)).unwrap_err();
    assert_eq!(
        arm.suits(&gpu(8, 7)).unwrap_err(),
        "ONNX Runtime's CUDA provider here has code for sm_89, sm_90a, sm_120a, sm_121a only, and GPU 0 is sm_87: use \
         an ONNX Runtime that was built with CMAKE_CUDA_ARCHITECTURES=87"
    );
    Readiness::default().suits(&gpu(8, 7)).unwrap();
}
