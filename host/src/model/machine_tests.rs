//! Machines made of a few files.

use super::*;

fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn no_driver() -> Result<driver::Answer, String> {
    Err("no driver".into())
}

#[test]
fn a_jetson_is_known_by_any_of_three_signs() {
    let release = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: x\n";
    let compatible = "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0";
    let model = "NVIDIA Jetson AGX Orin Developer Kit\0";
    let all = root(&[
        ("etc/nv_tegra_release", release),
        ("sys/devices/soc0/family", "Tegra\n"),
        ("proc/device-tree/compatible", compatible),
        ("proc/device-tree/model", model),
    ]);
    let jetson = Jetson::detect(all.path()).unwrap();
    assert_eq!(jetson.to_string(), "NVIDIA Jetson AGX Orin Developer Kit (tegra234), L4T 36.4.3 (JetPack 6.1 or 6.2)");

    let only_release = Jetson::detect(root(&[("etc/nv_tegra_release", release)]).path()).unwrap();
    assert_eq!(only_release.to_string(), "Jetson, L4T 36.4.3 (JetPack 6.1 or 6.2)");
    let thor = Jetson { release: Some("39.1".into()), ..Jetson::default() };
    assert_eq!(thor.to_string(), "Jetson, L4T 39.1 (JetPack 7.2)");
    let newer = Jetson { release: Some("36.40".into()), ..Jetson::default() };
    assert_eq!(newer.to_string(), "Jetson, L4T 36.40");
    let only_family = Jetson::detect(root(&[("sys/devices/soc0/family", "tegra264\n")]).path()).unwrap();
    assert_eq!(only_family, Jetson::default());
    let thor = "nvidia,p3971-0089+p3834-0008\0nvidia,tegra264\0";
    let only_tree = Jetson::detect(root(&[("proc/device-tree/compatible", thor)]).path()).unwrap();
    assert_eq!(only_tree.soc.as_deref(), Some("tegra264"));
}

#[test]
fn other_arm_machines_are_no_jetson() {
    let grace = root(&[
        ("sys/devices/soc0/family", "jep106:036b\n"),
        ("proc/device-tree/compatible", "nvidia,grace\0"),
        ("proc/device-tree/model", "something\0"),
    ]);
    assert_eq!(Jetson::detect(grace.path()), None);
}

#[test]
fn without_the_drivers_library_the_kernels_files_name_the_gpus() {
    let information = "Model: \t\t NVIDIA L4\nIRQ:   \t\t 71\nGPU UUID: \t GPU-0a1b2c3d-0000-0000-0000-000000000001\n";
    let files = root(&[("proc/driver/nvidia/gpus/0000:01:00.0/information", information)]);
    let machine = Machine::detect_below(files.path(), "x86_64", &no_driver);
    assert_eq!(machine.gpus.len(), 1);
    assert_eq!(machine.gpus[0].to_string(), "0 (NVIDIA L4, GPU-0a1b2c3d-0000-0000-0000-000000000001)");
    assert_eq!(machine.driver, Driver::Absent("no driver".into()));

    let only_node = root(&[("dev/nvidia1", "")]);
    assert_eq!(Machine::detect_below(only_node.path(), "x86_64", &no_driver).gpus[0].index, 1);
    assert!(Machine::detect_below(root(&[]).path(), "x86_64", &no_driver).gpus.is_empty());
    assert!(Machine::detect_below(root(&[("dev/nvhost-gpu", "")]).path(), "aarch64", &no_driver).gpus.is_empty());
    let orin = root(&[("etc/nv_tegra_release", ""), ("dev/nvhost-gpu", "")]);
    assert_eq!(Machine::detect_below(orin.path(), "aarch64", &no_driver).gpus[0].to_string(), "0 (the board's own)");
}

#[test]
fn why_no_gpu_can_be_used_says_what_to_do() {
    let why = |files: &[(&str, &str)]| {
        Machine::detect_below(root(files).path(), "aarch64", &no_driver).can_run_cuda().unwrap_err()
    };
    assert_eq!(
        why(&[]),
        "no NVIDIA GPU: no driver; install NVIDIA's driver, and where the host itself is in a container, start it with \
         --gpus all"
    );
    assert_eq!(
        why(&[("dev/nvidia0", "")]),
        "the NVIDIA driver does not answer: no driver; where the host itself is in a container, start it with --gpus all"
    );
    assert_eq!(
        why(&[("etc/nv_tegra_release", "# R36 (release), REVISION: 4.3")]),
        "the GPU of this Jetson, L4T 36.4.3 (JetPack 6.1 or 6.2) cannot be used: no driver; in a container, start the \
         host with --runtime nvidia"
    );
    let answer = || Ok(driver::Answer { cuda: (13, 0), gpus: vec![] });
    let none = Machine::detect_below(root(&[]).path(), "x86_64", &answer).can_run_cuda().unwrap_err();
    assert!(none.starts_with("no NVIDIA GPU: the driver says that there is none;"), "{none}");
}

#[test]
fn another_roots_driver_is_looked_for_below_it() {
    let root = root(&[("etc/nv_tegra_release", "# R36 (release), REVISION: 4.3")]);
    let machine = Machine::detect_at(root.path());
    let Driver::Absent(reason) = &machine.driver else { panic!("{machine:?}") };
    assert_eq!(*reason, format!("libcuda.so.1: no such library below {}", root.path().display()));
    assert!(library_folders(Path::new("/")).is_empty());
}

#[test]
fn gpus_are_found_by_number_and_uuid() {
    let gpu = |index, uuid: &str| NvidiaGpu {
        index,
        name: "NVIDIA L4".into(),
        uuid: Some(uuid.into()),
        compute_capability: Some((8, 9)),
        memory: Some(24 << 30),
    };
    let machine = Machine { gpus: vec![gpu(0, "GPU-aa01"), gpu(1, "GPU-aa02")], ..Machine::default() };
    let find = |text: Option<&str>| machine.find(&Gpu::parse(text).unwrap());
    assert_eq!(find(None).unwrap().index, 0);
    assert_eq!(find(Some("1")).unwrap().index, 1);
    assert_eq!(find(Some("GPU-aa02")).unwrap().index, 1);
    assert_eq!(find(Some("MIG-aa02")).unwrap().index, 1);
    assert_eq!(find(Some("GPU-aa")).unwrap_err(), "several GPUs have a UUID that starts with GPU-aa");
    assert_eq!(
        find(Some("2")).unwrap_err(),
        "there is no GPU 2; there are 0 (NVIDIA L4, sm_89, 24576 MiB, GPU-aa01), 1 (NVIDIA L4, sm_89, 24576 MiB, \
         GPU-aa02)"
    );
    assert_eq!(Machine::default().find(&Gpu::Any).unwrap_err(), "this machine has no NVIDIA GPU");
}
