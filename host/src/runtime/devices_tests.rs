//! Choices on machines nobody has.

use super::*;
use crate::model::machine::{Driver, Jetson, NvidiaGpu};

fn machine(gpus: u32, jetson: bool) -> Machine {
    let gpu = |index| NvidiaGpu {
        index,
        name: "NVIDIA Test".into(),
        uuid: Some(format!("GPU-{index}{index}")),
        ..NvidiaGpu::default()
    };
    let driver = if gpus > 0 { Driver::Cuda(13, 0) } else { Driver::Absent("no driver".into()) };
    Machine { jetson: jetson.then(Jetson::default), gpus: (0..gpus).map(gpu).collect(), driver, ..Machine::default() }
}

/// With all libraries there.
fn devices(machine: Machine) -> Arc<Devices> {
    Arc::new(Devices { machine, readiness: OnceLock::from(Readiness::default()), ..Devices::default() })
}

fn wish(list: &str, required: bool) -> DeviceWish {
    DeviceWish { list: (!list.is_empty()).then(|| list.parse().unwrap()), required, ..DeviceWish::default() }
}

fn configured(instances: Option<Instances>) -> Option<ModelConfig> {
    instances.map(|instances| ModelConfig { instances: Some(instances), ..ModelConfig::default() })
}

/// The plan for a model called `eyes`, as `first,next,…`, and what was not to be had.
fn placed(own: &DeviceWish, gpus: Option<Gpus>, instances: Option<Instances>, on: Machine) -> Result<String, String> {
    let config = configured(instances);
    let choices = Choices::new(own, &DeviceWish::default(), gpus.as_ref(), &devices(on));
    let placing = choices.and_then(|choices| choices.of_model("eyes", config.as_ref()));
    let plan = placing.map_err(|error| error.to_string())?.plan;
    let mut all = vec![plan.device.to_string()];
    all.extend(plan.alternatives.iter().map(ToString::to_string));
    all.extend(plan.fell_back.iter().map(|reason| format!("not {reason}")));
    Ok(all.join(","))
}

fn choices(list: &str, required: bool, gpus: Option<Gpus>, on: Machine) -> Result<String, String> {
    placed(&wish(list, required), gpus, None, on)
}

fn some(list: &[&str]) -> Option<Gpus> {
    Some(Gpus::Devices(list.iter().map(|one| (*one).to_owned()).collect()))
}

#[test]
fn lists_come_to_devices() {
    let (none, two, jetson) = (machine(0, false), machine(2, false), machine(1, true));
    let of = |list: &str, on: &Machine| choices(list, false, None, on.clone()).unwrap();
    assert_eq!([of("", &none), of("auto", &two), of("", &jetson)], ["cpu", "cuda:0,cpu", "tensorrt:0,cuda:0,cpu"]);
    assert_eq!(
        [of("cuda:1", &two), of("cuda:GPU-11", &two), of("cpu,cuda", &two)],
        ["cuda:1,cpu", "cuda:1,cpu", "cpu,cuda:0"]
    );
    assert_eq!(choices("cuda", true, None, two).unwrap(), "cuda:0");
    assert_eq!(choices("cuda,cpu", true, None, none.clone()).unwrap().split(',').next(), Some("cpu"));
    let refused = choices("cuda:0,tensorrt", true, None, none).unwrap_err();
    assert!(refused.starts_with("the required device cannot be used: cuda:0: no NVIDIA GPU"), "{refused}");
    assert!(refused.contains("tensorrt: no NVIDIA GPU") && refused.contains("wharf doctor"), "{refused}");
}

#[test]
fn a_gpu_that_is_preferred_and_not_there_leaves_its_reason() {
    for wanted in ["cuda:7", "cuda:GPU-77"] {
        let fell_back = choices(wanted, false, None, machine(2, false)).unwrap();
        assert!(fell_back.starts_with(&format!("cpu,not {wanted}: ")), "{fell_back}");
        assert!(fell_back.contains("there are 0 (NVIDIA Test, GPU-00), 1 (NVIDIA Test, GPU-11)"), "{fell_back}");
        let refused = choices(wanted, true, None, machine(2, false)).unwrap_err();
        assert!(refused.starts_with(&format!("the required device cannot be used: {wanted}: ")), "{refused}");
    }
    assert_eq!(choices("cuda:7,cuda:1", true, None, machine(2, false)).unwrap().split(',').next(), Some("cuda:1"));
}

#[test]
fn gpus_are_required() {
    let (none, two, jetson) = (machine(0, false), machine(2, false), machine(1, true));
    assert_eq!(choices("", false, Some(Gpus::All), two.clone()).unwrap(), "cuda:0");
    assert_eq!(choices("", false, Some(Gpus::All), jetson).unwrap(), "tensorrt:0,cuda:0");
    assert_eq!(choices("", false, some(&["GPU-11"]), two.clone()).unwrap(), "cuda:1");
    assert_eq!(choices("tensorrt,cpu", false, some(&["1"]), two.clone()).unwrap(), "tensorrt:1");
    assert_eq!(choices("cpu", false, some(&["1"]), two.clone()).unwrap(), "cuda:1");
    // Numbers count what the container is given.
    assert_eq!(choices("cuda:0", false, some(&["1"]), two.clone()).unwrap(), "cuda:1");
    assert_eq!(choices("cuda:1", false, some(&["1", "0"]), two.clone()).unwrap(), "cuda:0");
    for (list, words) in
        [("cuda:1", "there is no GPU 1 among the 1 given, which are"), ("cuda:GPU-00", "not among the 1 GPUs")]
    {
        let refused = choices(list, false, some(&["1"]), two.clone()).unwrap_err();
        assert!(refused.starts_with(NO_DRIVER) && refused.contains(words), "{refused}");
    }
    for (gpus, on, words) in [
        (Some(Gpus::All), &none, "[[gpu]]: no NVIDIA GPU: no driver; install NVIDIA's driver"),
        (Some(Gpus::Count(3)), &two, "[[gpu]]: 3 GPUs are asked for, and this machine has 2"),
        (some(&["0", "7"]), &two, "[[gpu]]: there is no GPU 7; there are 0 (NVIDIA Test, GPU-00), 1 ("),
        (some(&["L4"]), &two, "[[gpu]]: \"L4\" is neither a GPU's number nor its UUID"),
    ] {
        let refused = choices("", false, gpus, on.clone()).unwrap_err();
        assert!(refused.starts_with(NO_DRIVER) && refused.contains(words), "{refused}");
    }
}

#[test]
fn a_gpu_whose_libraries_are_missing_is_refused_with_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let core = folder.path().join("libonnxruntime.so.1.31.1");
    let devices = Arc::new(Devices { machine: machine(1, false), core, ..Devices::default() });
    let none = DeviceWish::default();
    let refused = Choices::new(&none, &none, Some(&Gpus::All), &devices).unwrap_err().to_string();
    assert!(refused.starts_with(NO_DRIVER), "{refused}");
    assert!(refused.contains("missing: libonnxruntime_providers_shared.so"), "{refused}");
    assert!(refused.contains("the wheel onnxruntime-gpu==1.31.1"), "{refused}");
}

#[test]
fn a_model_may_have_its_own_wish() {
    let two = || machine(2, false);
    let mut own = wish("cuda:0", false);
    own.models.insert("eyes".into(), "cuda:1".parse().unwrap());
    assert_eq!(placed(&own, None, None, two()).unwrap(), "cuda:1,cpu");
    own.models.insert("eyes".into(), "cpu".parse().unwrap());
    assert_eq!(placed(&own, None, None, two()).unwrap(), "cpu");
    own.models.remove("eyes");
    assert_eq!(placed(&own, None, None, two()).unwrap(), "cuda:0,cpu");
    own.gpu_memory = Some(1 << 30);
    let choices = Choices::new(&own, &DeviceWish::default(), None, &devices(two())).unwrap();
    let placing = choices.of_model("eyes", None).unwrap();
    assert_eq!((placing.cuda.memory_limit, placing.tensorrt.workspace), (Some(1 << 30), Some(1 << 30)));
    assert!(!placing.cuda.cuda_graph);
    let config = ModelConfig { cuda_graph: Some(true), ..ModelConfig::default() };
    assert!(choices.of_model("eyes", Some(&config)).unwrap().cuda.cuda_graph);
    own.cuda_graph = Some(false);
    let choices = Choices::new(&own, &DeviceWish::default(), None, &devices(two())).unwrap();
    assert!(!choices.of_model("eyes", Some(&config)).unwrap().cuda.cuda_graph);
}

#[test]
fn instance_groups_mean_what_triton_means() {
    let group = |kind, gpu| Some(Instances { kind, gpu, count: Some(2) });
    let (none, two) = (DeviceWish::default(), || machine(2, false));
    assert_eq!(placed(&none, None, group(Kind::Cpu, None), two()).unwrap(), "cpu");
    assert_eq!(placed(&none, None, group(Kind::Gpu, None), two()).unwrap(), "cuda:0");
    assert_eq!(placed(&none, None, group(Kind::Gpu, Some(1)), two()).unwrap(), "cuda:1");
    assert_eq!(placed(&none, None, group(Kind::Auto, Some(1)), two()).unwrap(), "cuda:1,cpu");
    assert_eq!(placed(&none, None, group(Kind::Auto, None), machine(0, false)).unwrap(), "cpu");
    let refused = placed(&none, None, group(Kind::Gpu, None), machine(0, false)).unwrap_err();
    assert!(refused.starts_with("the required device cannot be used: cuda: no NVIDIA GPU"), "{refused}");
    assert!(refused.ends_with("model \"eyes\" asks for it in its config.pbtxt, which --device overrules"), "{refused}");
    // Whoever starts the container knows the machine.
    assert_eq!(placed(&wish("cuda:1", false), None, group(Kind::Cpu, None), two()).unwrap(), "cuda:1,cpu");
    assert_eq!(placed(&none, some(&["1"]), group(Kind::Gpu, Some(0)), two()).unwrap(), "cuda:1");
    assert_eq!(placed(&none, Some(Gpus::All), group(Kind::Cpu, None), two()).unwrap(), "cpu");
    let choices = Choices::new(&none, &none, None, &devices(two())).unwrap();
    assert_eq!(choices.of_model("eyes", configured(group(Kind::Cpu, None)).as_ref()).unwrap().sessions, Some(2));
}

#[test]
fn a_model_that_asks_for_tensorrt_gets_it_before_cuda() {
    let of = |own: &DeviceWish, kind: Option<Kind>, on: Machine| {
        let instances = kind.map(|kind| Instances { kind, gpu: None, count: None });
        let tensorrt =
            Some(crate::container::tensorrt::TensorRtWish { precision: "fp16".parse().ok(), ..Default::default() });
        let config = ModelConfig { instances, tensorrt, largest_batch: 8, ..ModelConfig::default() };
        let choices = Choices::new(own, &DeviceWish::default(), None, &devices(on)).unwrap();
        choices.of_model("eyes", Some(&config))
    };
    let (none, one) = (DeviceWish::default(), machine(1, false));
    let placing = of(&none, None, one.clone()).unwrap();
    assert_eq!(placing.plan.device.to_string(), "tensorrt:0");
    assert_eq!(placing.plan.alternatives.iter().map(ToString::to_string).collect::<Vec<_>>(), ["cuda:0", "cpu"]);
    assert_eq!((placing.tensorrt.fp16, placing.tensorrt.max_batch), (true, 8));
    // A group for GPUs requires one, a group for the CPU is for the CPU, and the container has the first word.
    assert!(of(&none, Some(Kind::Gpu), machine(0, false)).is_err());
    assert_eq!(of(&none, Some(Kind::Cpu), one.clone()).unwrap().plan.device.to_string(), "cpu");
    assert_eq!(of(&wish("cuda", false), None, one).unwrap().plan.device.to_string(), "cuda:0");
    assert_eq!(of(&none, None, machine(0, false)).unwrap().plan.device.to_string(), "cpu");
}
