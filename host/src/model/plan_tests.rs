//! Plans for machines nobody has.

use super::*;
use crate::error::ErrorKind;
use crate::model::fatbin::{Kernel, Kind};
use crate::model::machine::{Driver, Jetson, NvidiaGpu};

fn gpu(index: u32, compute_capability: (u32, u32)) -> NvidiaGpu {
    NvidiaGpu {
        index,
        name: "NVIDIA Test".into(),
        uuid: Some(format!("GPU-{index}{index}")),
        compute_capability: Some(compute_capability),
        memory: None,
    }
}

fn server() -> Machine {
    let gpus = vec![gpu(0, (8, 9)), gpu(1, (8, 9))];
    Machine { architecture: "x86_64".into(), gpus, jetson: None, driver: Driver::Cuda(13, 0) }
}

fn orin() -> Machine {
    let (gpus, jetson) = (vec![gpu(0, (8, 7))], Some(Jetson::default()));
    Machine { architecture: "aarch64".into(), gpus, jetson, driver: Driver::Cuda(12, 6) }
}

fn bare() -> Machine {
    let driver = Driver::Absent("libcuda.so.1: cannot open shared object file".into());
    Machine { architecture: "x86_64".into(), driver, ..Machine::default() }
}

fn without(library: &str) -> Result<(), Vec<Missing>> {
    Err(vec![Missing { library: library.into(), reason: "absent".into(), package: "a package".into() }])
}

fn ready() -> Readiness {
    Readiness::default()
}

/// As `--device` is typed.
fn wish(text: &str) -> Wish {
    let choice = |part: &str| {
        let (word, gpu) = part.split_once(':').map_or((part, None), |(word, gpu)| (word, Some(gpu)));
        match word {
            "cpu" => Choice::Cpu,
            "cuda" => Choice::Cuda(Gpu::parse(gpu).unwrap()),
            _ => Choice::TensorRt(Gpu::parse(gpu).unwrap()),
        }
    };
    if text == "auto" { Wish::Auto } else { Wish::List(text.split(',').map(choice).collect()) }
}

fn decide(typed: &str, strictness: Strictness, machine: &Machine, readiness: &Readiness) -> Result<Plan, Vec<String>> {
    plan(&wish(typed), strictness, machine, &|| readiness)
}

use Strictness::{Prefer, Require};

#[test]
fn auto_takes_the_best_a_machine_has() {
    let cuda = decide("auto", Prefer, &server(), &ready()).unwrap();
    assert_eq!((cuda.device, cuda.providers), (Device::Cuda(0), vec![Provider::Cuda]));
    assert_eq!((cuda.alternatives, cuda.fell_back), (vec![Device::Cpu], vec![]));

    let jetson = decide("auto", Prefer, &orin(), &ready()).unwrap();
    assert_eq!((jetson.device, jetson.providers), (Device::TensorRt(0), vec![Provider::TensorRt, Provider::Cuda]));
    assert_eq!(jetson.alternatives, [Device::Cuda(0), Device::Cpu]);

    for strictness in [Prefer, Require] {
        let cpu = decide("auto", strictness, &bare(), &ready()).unwrap();
        assert_eq!((cpu.device, cpu.fell_back), (Device::Cpu, vec![]), "nothing was lost, nothing is said");
    }
}

#[test]
fn a_preferred_device_that_is_missing_leaves_its_reason() {
    let lacking = Readiness { cuda: without("libcublas.so.13"), ..ready() };
    let plan = decide("cuda:1", Prefer, &server(), &lacking).unwrap();
    assert_eq!((plan.device, plan.providers), (Device::Cpu, vec![]));
    assert_eq!(plan.fell_back, ["cuda:1: missing: libcublas.so.13 (absent), which is in a package"]);

    let lacking = Readiness { tensorrt: without("libnvinfer.so.10"), ..ready() };
    let plan = decide("auto", Prefer, &orin(), &lacking).unwrap();
    assert_eq!(plan.device, Device::Cuda(0));
    assert_eq!(plan.fell_back, ["tensorrt: missing: libnvinfer.so.10 (absent), which is in a package"]);
}

#[test]
fn a_required_device_that_is_missing_is_an_error_that_says_why() {
    assert_eq!(
        decide("cuda", Require, &bare(), &ready()).unwrap_err(),
        [
            "cuda: no NVIDIA GPU: libcuda.so.1: cannot open shared object file; install NVIDIA's driver, and where the host \
          itself is in a container, start it with --gpus all"
        ]
    );
    let refused = decide("tensorrt,cuda:5", Require, &server(), &Readiness { tensorrt: without("x"), ..ready() });
    let refused = refused.unwrap_err();
    assert_eq!(refused[0], "tensorrt: missing: x (absent), which is in a package");
    assert!(refused[1].starts_with("cuda:5: there is no GPU 5; there are 0 (NVIDIA Test"), "{refused:?}");
    let lacking = Readiness { cuda: without("y"), ..ready() };
    decide("auto", Require, &server(), &lacking).unwrap_err();
    assert_eq!(decide("cuda,cpu", Require, &server(), &lacking).unwrap().device, Device::Cpu);
}

#[test]
fn a_gpu_without_its_driver_is_told_from_no_gpu() {
    let silent = Machine { driver: Driver::Absent("no library".into()), ..server() };
    let plan = decide("auto", Prefer, &silent, &ready()).unwrap();
    assert_eq!(plan.device, Device::Cpu);
    assert_eq!(
        plan.fell_back,
        [
            "cuda: the NVIDIA driver does not answer: no library; where the host itself is in a container, start it with \
          --gpus all"
        ]
    );
    let board = Machine { driver: Driver::Absent("no library".into()), gpus: vec![], ..orin() };
    let plan = decide("auto", Prefer, &board, &ready()).unwrap();
    assert_eq!(plan.fell_back.len(), 2);
    assert!(plan.fell_back[0].ends_with("start the host with --runtime nvidia"), "{:?}", plan.fell_back);
}

#[test]
fn gpus_mean_whatever_the_machine_does_best_with_them() {
    let readiness = ready();
    let of = |gpu: Gpu, machine: &Machine| plan(&Wish::Accelerated(gpu), Require, machine, &|| &readiness);
    let second = of(Gpu::Uuid("GPU-11".into()), &server()).unwrap();
    assert_eq!((second.device, second.alternatives), (Device::Cuda(1), vec![]));
    assert_eq!(of(Gpu::Any, &orin()).unwrap().device, Device::TensorRt(0));
    let refused = of(Gpu::Any, &bare()).unwrap_err();
    assert!(refused[0].starts_with("cuda: no NVIDIA GPU: "), "{refused:?}");
}

#[test]
fn libraries_are_not_opened_where_no_gpu_is_in_question() {
    for (typed, machine) in [("cpu", server()), ("auto", bare()), ("cuda:1", bare()), ("cuda:7,cpu", server())] {
        let plan = plan(&wish(typed), Prefer, &machine, &|| unreachable!("{typed}")).unwrap();
        assert_eq!(plan.device, Device::Cpu);
    }
}

#[test]
fn what_refuses_when_it_is_used_is_left_for_the_next() {
    let first = decide("auto", Prefer, &orin(), &ready()).unwrap();
    let second = first.next("engine build failed").unwrap();
    assert_eq!(
        (second.device, &second.fell_back[..]),
        (Device::Cuda(0), &["tensorrt:0: engine build failed".into()][..])
    );
    let third = second.next("out of memory").unwrap();
    assert_eq!((third.device, third.fell_back.len()), (Device::Cpu, 2));
    assert_eq!(third.next("never"), None);
    assert_eq!(decide("cuda", Require, &server(), &ready()).unwrap().next("refused"), None);

    let last = decide("tensorrt,cuda", Require, &orin(), &ready()).unwrap().next("no engine").unwrap();
    let error = last.refused(Error::new(ErrorKind::Unmet, "out of memory"));
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Unmet, "tensorrt:0: no engine; then cuda:0"));
}

#[test]
fn a_gpu_that_the_library_has_no_code_for_is_not_used() {
    let kernel = Kernel { major: 9, minor: 0, kind: Kind::Exact };
    let readiness = Readiness { built_for: vec![kernel], ..ready() };
    let plan = decide("auto", Prefer, &server(), &readiness).unwrap();
    assert_eq!(plan.device, Device::Cpu);
    assert!(plan.fell_back[0].contains("has code for sm_90a only, and GPU 0 is sm_89"), "{:?}", plan.fell_back);
}
