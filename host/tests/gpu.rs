//! Models on a device, beside the CPU and beside plain ONNX Runtime: are the answers the same, what ran where, how fast is
//! it, and does unloading leave anything? `cargo xtask test-gpu` says which device (`WHARF_TEST_DEVICE`), brings a
//! MobileNetV2-shaped model (`WHARF_TEST_MODELS`) and wants the speed judged (`WHARF_TEST_SPEED=1`; 0: only measured).
//! Without these the device is the CPU, so that this file itself is tested everywhere.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

#[path = "gpu/memory.rs"]
mod memory;
#[path = "gpu/plain.rs"]
mod plain;
#[path = "gpu/subject.rs"]
mod subject;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memory::Probe;
use plain::Plain;
use subject::{Subject, subjects};
use wharf::batch::{Batcher, ModelOptions, Models};
use wharf::model::closeness::Difference;
use wharf::model::{Device, Placing};

/// Of the largest output. Both compute in 32-bit floats (TF32 is off) and add up in another order.
const TOLERANCE: f64 = 1e-3;
/// Of plain ONNX Runtime's runs per second.
const LEAST_SPEED: f64 = 0.95;
/// Short ones in turn, so that a slow moment of the machine falls on both.
const PAIRS: usize = 21;
const TURN: Duration = Duration::from_millis(150);
const LOADS: usize = 100;

/// One at a time: they measure.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn device() -> Device {
    let word = std::env::var("WHARF_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    let (kind, number) = word.split_once(':').unwrap_or((&word, "0"));
    let gpu = number.parse().expect("WHARF_TEST_DEVICE: a number after the colon");
    match kind {
        "cpu" => Device::Cpu,
        "cuda" => Device::Cuda(gpu),
        "tensorrt" => Device::TensorRt(gpu),
        _ => panic!("WHARF_TEST_DEVICE is {word}: write cpu, cuda[:N] or tensorrt[:N]"),
    }
}

/// On this device or not at all.
fn load(models: &Models, subject: &Subject, device: Device, cuda_graph: bool) -> Batcher {
    let mut placing = Placing::only(device);
    placing.cuda.cuda_graph = cuda_graph;
    let options = ModelOptions { placing, ..ModelOptions::default() };
    let model = models.load(&subject.name, &subject.path, options);
    let model = model.unwrap_or_else(|error| panic!("{} on {device}: {}", subject.name, error.chain()));
    assert_eq!((model.device(), model.fell_back()), (device, vec![]), "{}", subject.name);
    model
}

fn models() -> Models {
    Models::new(plain::runtime(), None)
}

#[test]
fn answers_are_those_of_the_cpu() {
    let _alone = alone();
    let device = device();
    // A second store: the first would give the same sessions for the same device.
    let (models, references) = (models(), models());
    for subject in subjects() {
        let reference = load(&references, &subject, Device::Cpu, false);
        for graph in [false, true] {
            let model = load(&models, &subject, device, graph);
            // Again after another batch, since buffers are kept; and none of it is left in the next answer.
            for (batch, seed) in [(1, 1), (4, 2), (1, 3), (1, 1)] {
                let inputs = subject.inputs(&reference, batch, seed);
                let expected = subject.ask(&reference, &inputs);
                let actual = subject.ask(&model, &inputs);
                assert_eq!(expected.len(), actual.len());
                for ((name, expected), (_, actual)) in expected.iter().zip(&actual) {
                    let difference = Difference::between(expected, actual).unwrap_or_else(|e| panic!("{name}: {e}"));
                    let what = format!("{} on {device}, graph {graph}, batch {batch}, {name}", subject.name);
                    println!("  {what}: differs by {difference}");
                    assert!(difference.relative() <= TOLERANCE, "{what}: {difference}, allowed is {TOLERANCE:e}");
                    let magnitude = Difference::between(expected, expected).unwrap().magnitude;
                    assert!(magnitude > 0., "{what}: an answer of zeros compares nothing");
                }
            }
        }
    }
}

#[test]
fn what_ran_where_is_known() {
    let _alone = alone();
    let device = device();
    let models = models();
    for subject in subjects() {
        let model = load(&models, &subject, device, false);
        let ran = Plain::profiled(&subject, device);
        println!("  {} on {device}: placed {:?}, ran {ran:?}", subject.name, model.placement());
        assert!(!ran.is_empty(), "{}: no node ran", subject.name);
        let nodes =
            |provider: &str| ran.iter().filter(|(name, _)| name.starts_with(provider)).map(|(_, n)| n).sum::<usize>();
        match device {
            Device::Cpu => assert_eq!(nodes("CPU"), nodes("")),
            _ => {
                let placed = model.placement().expect("ONNX Runtime from 1.24 on records where nodes go");
                let on_gpu =
                    placed.iter().filter(|(provider, _)| !provider.starts_with("CPU")).map(|(_, n)| n).sum::<usize>();
                assert!(on_gpu > 0, "{}: no node on {device}: {placed:?}", subject.name);
                assert!(nodes("CUDA") + nodes("Tensorrt") > 0, "{}: no node ran on {device}: {ran:?}", subject.name);
            }
        }
    }
}

#[test]
fn it_is_as_fast_as_plain_onnx_runtime() {
    let _alone = alone();
    let device = device();
    let wanted = std::env::var("WHARF_TEST_SPEED").ok();
    let judged = wanted.as_deref() == Some("1");
    let (pairs, turn) = if wanted.is_some() { (PAIRS, TURN) } else { (3, Duration::from_millis(5)) };
    let models = models();
    let mut slow = Vec::new();
    for subject in subjects() {
        let mut plain = Plain::open(&subject, device);
        let (model, graph) = (load(&models, &subject, device, false), load(&models, &subject, device, true));
        let inputs = subject.inputs(&model, 1, 7);
        let ours = |model: &Batcher| rate(turn, || drop(subject.ask(model, &inputs)));
        // Algorithms are chosen, memory is allocated, clocks rise.
        let (warm, _, _) = (rate(turn, || plain.run(&inputs)), ours(&model), ours(&graph));
        assert!(warm > 0.);
        let (mut ratios, mut graphs, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        for pair in 0..pairs {
            // Who begins changes.
            let (first, second);
            if pair % 2 == 0 {
                first = rate(turn, || plain.run(&inputs));
                second = ours(&model);
            } else {
                second = ours(&model);
                first = rate(turn, || plain.run(&inputs));
            }
            ratios.push(second / first);
            graphs.push(ours(&graph) / first);
            rates.push(second);
        }
        let (ratio, graph, rate) = (median(&mut ratios), median(&mut graphs), median(&mut rates));
        let (least, most) = (ratios.first().unwrap(), ratios.last().unwrap());
        println!(
            "  {} on {device}: {rate:.0} runs/s, ratio to plain ONNX Runtime {ratio:.3} ({least:.2} to {most:.2} in {pairs} \
             pairs); asked for a CUDA graph {graph:.3}",
            subject.name
        );
        if ratio < LEAST_SPEED {
            slow.push(format!("{} {ratio:.3}", subject.name));
        }
    }
    if judged {
        assert!(slow.is_empty(), "slower than {LEAST_SPEED} of plain ONNX Runtime: {}", slow.join(", "));
    }
}

/// Per second.
fn rate(turn: Duration, mut run: impl FnMut()) -> f64 {
    let started = Instant::now();
    let mut runs = 0.;
    loop {
        run();
        runs += 1.;
        let taken = started.elapsed();
        if taken >= turn {
            return runs / taken.as_secs_f64();
        }
    }
}

/// Of an odd number of values, which are sorted by it.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn a_hundred_loads_leave_nothing() {
    let _alone = alone();
    let device = device();
    let models = models();
    let probe = Probe::of(device);
    let subjects = subjects();
    let cycle = |turn: usize| {
        let subject = &subjects[turn % subjects.len()];
        let model = load(&models, subject, device, turn.is_multiple_of(3));
        subject.ask(&model, &subject.inputs(&model, 1, 5));
    };
    // What stays by design is there after some: the CUDA context, cuBLAS's and cuDNN's own, the allocator's.
    (0..3 * subjects.len()).for_each(cycle);
    let before = probe.used();
    (0..LOADS).for_each(cycle);
    let after = probe.used();
    println!("  {LOADS} loads and unloads on {device}: {} before, {} after, in MiB", before >> 20, after >> 20);
    let (left, allowed) = (after.saturating_sub(before), probe.allowed());
    assert!(left <= allowed, "{LOADS} loads leave {} MiB, allowed are {}", left >> 20, allowed >> 20);
    let held: Vec<Batcher> = subjects.iter().map(|subject| load(&models, subject, device, false)).collect();
    let more = probe.used().saturating_sub(after);
    println!("  {} models held: {} MiB more", held.len(), more >> 20);
    // A process has room in memory it was given before.
    assert!(
        device == Device::Cpu || more > 0,
        "{} models on {device} take no memory: the probe sees nothing",
        held.len()
    );
}
