//! The whole path with real models: checks, lanes, queue, batches, deadlines, cancellation.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use wharf_tensor::infer::{CancelToken, Infer, InferErrorKind, InferRequest, TensorView};
use wharf_tensor::{DType, Tensor};

use super::{Batcher, ModelOptions, Models};
use crate::error::ErrorKind;
use crate::model::{Device, Placing, Plan, fixture};

/// Steps of `sleepy.onnx` that no test waits for.
const FOREVER: i64 = i64::MAX / 2;

const PATIENCE: Duration = Duration::from_secs(30);

fn models() -> Models {
    Models::new(fixture::runtime(), None)
}

fn load(name: &str) -> Batcher {
    models().load(name, &fixture::model(name), ModelOptions::default()).unwrap()
}

fn request(inputs: &[(&str, &Tensor)], deadline: Option<Instant>) -> InferRequest {
    let inputs = inputs.iter().map(|(name, tensor)| (name.to_string(), (*tensor).clone())).collect();
    InferRequest { inputs, deadline }
}

fn steps(count: i64) -> Tensor {
    Tensor::from_vec(Vec::new(), vec![count]).unwrap()
}

fn view<'a>(name: &'a str, tensor: &'a Tensor) -> TensorView<'a> {
    TensorView { name, dtype: tensor.dtype(), shape: tensor.shape().to_vec(), data: tensor.data() }
}

async fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited too long");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn in_ms(milliseconds: u64) -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(milliseconds))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_datatype_comes_back_as_it_went() {
    for dtype in DType::ALL {
        let model = load(&format!("typed-{}", dtype.name().to_lowercase()));
        assert_eq!(model.signature().inputs[0].dtype, dtype);
        assert_eq!(model.signature().inputs[0].shape, [None, Some(2)]);
        for rows in [0, 1, 3] {
            let tensor = match dtype.size() {
                Some(size) => {
                    let bytes: Vec<u8> = (0..rows * 2 * size).map(|i| (i * 7 % 251) as u8).collect();
                    let bytes = if dtype == DType::Bool { bytes.iter().map(|b| b & 1).collect() } else { bytes };
                    Tensor::new(dtype, [rows, 2], bytes).unwrap()
                }
                None => {
                    Tensor::from_elements([rows, 2], &["", "zwölf", "x", "y", "z", "\u{1F41F}"][..rows * 2]).unwrap()
                }
            };
            let outputs = model.infer(request(&[("x", &tensor)], None)).await.unwrap();
            assert_eq!(outputs, [("y".into(), tensor.clone())], "{dtype} {rows}");
            // The same from memory that is not aligned.
            let shifted = [&[0u8][..], tensor.data()].concat();
            let view = TensorView { name: "x", dtype, shape: vec![rows, 2], data: &shifted[1..] };
            assert_eq!(model.infer_blocking(&[view], None).unwrap(), outputs, "{dtype} {rows} unaligned");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_outlive_their_session() {
    let model = load("sum");
    let (a, b) =
        (Tensor::from_vec([1, 3], vec![1f32, 2., 3.]).unwrap(), Tensor::from_vec([1, 3], vec![10f32; 3]).unwrap());
    let outputs = model.infer(request(&[("b", &b), ("a", &a)], in_ms(10_000))).await.unwrap();
    drop(model);
    assert_eq!(&*outputs[0].0, "sum");
    assert_eq!(outputs[0].1.values::<f32>().unwrap().as_ref(), [11., 12., 13.]);
    assert_eq!(outputs[1].1.values::<f32>().unwrap().as_ref(), [-9., -8., -7.]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_inputs_are_refused_by_name() {
    let model = load("identity");
    let wrong = Tensor::from_vec([1, 4], vec![0f32; 4]).unwrap();
    let error = model.infer(request(&[("x", &wrong)], None)).await.unwrap_err();
    assert_eq!(error.kind, InferErrorKind::InvalidArgument);
    assert_eq!(error.message, r#"model "identity": input "x" has shape [1, 4], expected [-1, 3]: dimension 1 differs"#);
    let short = TensorView { name: "x", dtype: DType::Fp32, shape: vec![1, 3], data: &[0; 11] };
    let error = model.infer_blocking(&[short], None).unwrap_err();
    assert_eq!(error.message, r#"model "identity": input "x" has 11 bytes, shape [1, 3] of FP32 needs 12"#);

    let bools = load("typed-bool");
    let two = TensorView { name: "x", dtype: DType::Bool, shape: vec![1, 2], data: &[1, 2] };
    let error = bools.infer_blocking(&[two], None).unwrap_err();
    assert_eq!(error.message, r#"model "typed-bool": input "x": BOOL element 1 is 2, expected 0 or 1"#);
    let texts = load("typed-bytes");
    let latin = Tensor::from_elements([1, 2], &[&b"ok"[..], &[0xe9]]).unwrap();
    let error = texts.infer(request(&[("x", &latin)], None)).await.unwrap_err();
    assert_eq!(error.kind, InferErrorKind::InvalidArgument);
    assert!(error.message.contains("BYTES element 1 is not UTF-8"), "{error}");
    assert_eq!(bools.counters().failures.invalid.load(Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_get_their_own_answers() {
    for max_batch in [1, 8] {
        let options = ModelOptions { max_batch, ..ModelOptions::default() };
        let model = models().load("identity", &fixture::model("identity"), options).unwrap();
        let failed = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for task in 0..64u32 {
            let (model, failed) = (model.clone(), failed.clone());
            tasks.spawn(async move {
                for turn in 0..200 {
                    let value = (task * 1000 + turn) as f32;
                    let tensor = Tensor::from_vec([1, 3], vec![value; 3]).unwrap();
                    let answer = if turn % 2 == 0 {
                        model.infer(request(&[("x", &tensor)], in_ms(30_000))).await
                    } else {
                        model.infer_blocking(&[view("x", &tensor)], in_ms(30_000))
                    };
                    match answer {
                        Ok(outputs) => assert_eq!(outputs[0].1, tensor),
                        Err(error) => {
                            assert_eq!(error.kind, InferErrorKind::Unavailable, "{error}");
                            failed.fetch_add(1, Relaxed);
                        }
                    }
                }
            });
        }
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
        let counters = model.counters();
        assert_eq!(counters.requests.load(Relaxed), 64 * 200);
        assert_eq!(counters.batch_elements.load(Relaxed) + failed.load(Relaxed), 64 * 200);
        assert_eq!(counters.failures.unavailable.load(Relaxed), failed.load(Relaxed));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn overlap_opens_one_session_per_core() {
    let model = load("sleepy");
    assert_eq!(model.sessions(), 1);
    let running: Vec<_> = (0..2)
        .map(|_| {
            let model = model.clone();
            tokio::spawn(async move { model.infer(request(&[("steps", &steps(FOREVER))], in_ms(500))).await })
        })
        .collect();
    until(|| model.sessions() == 1 + fixture::runtime().cores()).await;
    // While both run, a third is answered.
    let outputs = model.infer(request(&[("steps", &steps(5))], None)).await.unwrap();
    assert_eq!(outputs[0].1.values::<f32>().unwrap().as_ref(), [5.0]);
    for task in running {
        assert_eq!(task.await.unwrap().unwrap_err().kind, InferErrorKind::DeadlineExceeded);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_sessions_are_opened_than_asked_for() {
    for most in [1, 2] {
        let placing = Placing { sessions: Some(most), ..Placing::default() };
        let options = ModelOptions { placing, ..ModelOptions::default() };
        let model = models().load("sleepy", &fixture::model("sleepy"), options).unwrap();
        let running: Vec<_> = (0..4)
            .map(|_| {
                let model = model.clone();
                tokio::spawn(async move { model.infer(request(&[("steps", &steps(FOREVER))], in_ms(300))).await })
            })
            .collect();
        until(|| model.sessions() == most as usize).await;
        for task in running {
            assert_eq!(task.await.unwrap().unwrap_err().kind, InferErrorKind::DeadlineExceeded);
        }
        assert_eq!(model.sessions(), most as usize);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_stop_what_runs_and_what_waits() {
    let model = load("sleepy");
    let started = Instant::now();
    let error = model.infer(request(&[("steps", &steps(FOREVER))], in_ms(50))).await.unwrap_err();
    assert_eq!(error.kind, InferErrorKind::DeadlineExceeded);
    assert_eq!(error.message, r#"model "sleepy": no answer before the request's deadline"#);
    let error = model.infer_blocking(&[view("steps", &steps(FOREVER))], in_ms(50)).unwrap_err();
    assert_eq!(error.kind, InferErrorKind::DeadlineExceeded);
    assert!(started.elapsed() < PATIENCE);
    let error = model.infer(request(&[("steps", &steps(1))], Some(started))).await.unwrap_err();
    assert_eq!(error.kind, InferErrorKind::DeadlineExceeded, "too late before it began");
    // The session is as good as before.
    let outputs = model.infer(request(&[("steps", &steps(3))], None)).await.unwrap();
    assert_eq!(outputs[0].1.values::<f32>().unwrap().as_ref(), [3.0]);
    assert_eq!(model.counters().failures.expired.load(Relaxed), 3);
}

/// On one thread the model runs on its lane's thread, so that the task can be dropped while it runs.
#[tokio::test(flavor = "current_thread")]
async fn dropped_futures_leave_the_queue_or_stop_the_run() {
    let model = load("sleepy");
    let cores = fixture::runtime().cores();
    let mut tasks = Vec::new();
    // One for each lane, and more that wait.
    for _ in 0..cores + 4 {
        let model = model.clone();
        tasks.push(tokio::spawn(async move { model.infer(request(&[("steps", &steps(FOREVER))], None)).await }));
    }
    until(|| model.sessions() == 1 + cores).await;
    for task in tasks {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    let outputs = model.infer(request(&[("steps", &steps(2))], in_ms(30_000))).await.unwrap();
    assert_eq!(outputs[0].1.values::<f32>().unwrap().as_ref(), [2.0]);
    assert_eq!(model.counters().failures.cancelled.load(Relaxed), cores as u64 + 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_cancels_what_runs_on_the_callers_thread() {
    let model = load("sleepy");
    let token = CancelToken::new();
    let canceller = token.clone();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        canceller.cancel();
    });
    let error = model.infer_blocking_until(&[view("steps", &steps(FOREVER))], None, token.clone()).unwrap_err();
    assert_eq!(error.kind, InferErrorKind::Cancelled);
    let error = model.infer_blocking_until(&[view("steps", &steps(1))], None, token).unwrap_err();
    assert_eq!(error.kind, InferErrorKind::Cancelled, "cancelled before it began");
}

#[tokio::test(flavor = "current_thread")]
async fn a_full_queue_refuses_at_once() {
    let model = load("sleepy");
    let busy = 1 + fixture::runtime().cores();
    let mut tasks = JoinSet::new();
    for _ in 0..busy {
        let model = model.clone();
        tasks.spawn(async move { model.infer(request(&[("steps", &steps(FOREVER))], None)).await });
    }
    until(|| model.sessions() == busy).await;
    let refused = Arc::new(AtomicU64::new(0));
    for _ in 0..70 {
        let (model, refused) = (model.clone(), refused.clone());
        tasks.spawn(async move {
            let answer = model.infer(request(&[("steps", &steps(FOREVER))], None)).await;
            let error = answer.as_ref().unwrap_err();
            assert_eq!(error.kind, InferErrorKind::Unavailable);
            assert_eq!(error.message, r#"model "sleepy": its queue is full (64 elements), try again later"#);
            refused.fetch_add(1, Relaxed);
            answer
        });
    }
    until(|| refused.load(Relaxed) >= 6).await;
    tasks.shutdown().await;
    assert!((6..=8).contains(&refused.load(Relaxed)));
}

#[tokio::test(flavor = "current_thread")]
async fn waiting_requests_are_batched() {
    let options = ModelOptions { max_batch: 16, ..ModelOptions::default() };
    let model = models().load("sum", &fixture::model("sum"), options).unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..48u32 {
        let model = model.clone();
        tasks.spawn(async move {
            let rows = 1 + task as usize % 3;
            let a = Tensor::from_vec([rows, 3], vec![task as f32; rows * 3]).unwrap();
            let answer = model.infer(request(&[("a", &a), ("b", &a)], in_ms(30_000))).await;
            // The queue may be full: these come all at once.
            if let Ok(outputs) = answer {
                assert_eq!(outputs[0].1.shape(), [rows, 3]);
                assert_eq!(outputs[0].1.values::<f32>().unwrap().as_ref(), vec![2.0 * task as f32; rows * 3]);
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let counters = model.counters();
    let (runs, elements) = (counters.executions.load(Relaxed), counters.batch_elements.load(Relaxed));
    assert!(runs < 48, "{runs} runs of {elements} elements");
}

#[test]
fn equal_files_share_their_sessions() {
    let folder = fixture::folder("sharing");
    let copy = folder.join("other-name.onnx");
    fs::copy(fixture::model("identity"), &copy).unwrap();
    let models = models();
    let options = ModelOptions::default();
    let one = models.load("one", &fixture::model("identity"), options.clone()).unwrap();
    let two = models.load("two", &copy, options.clone()).unwrap();
    assert!(std::ptr::eq(one.signature(), two.signature()));
    let batching = models.load("three", &copy, ModelOptions { max_batch: 4, ..options }).unwrap();
    assert!(!std::ptr::eq(one.signature(), batching.signature()));
    let error = two.infer_blocking(&[], None).unwrap_err();
    assert!(error.message.starts_with(r#"model "two": "#), "each under its own name: {error}");
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_that_changed_opens_no_further_sessions() {
    let folder = fixture::folder("changed");
    let path = folder.join("model.onnx");
    fs::copy(fixture::model("sleepy"), &path).unwrap();
    let model = models().load("changing", &path, ModelOptions::default()).unwrap();
    fs::copy(fixture::model("identity"), &path).unwrap();
    let requests: Vec<_> = (0..4)
        .map(|_| {
            let model = model.clone();
            tokio::spawn(async move { model.infer(request(&[("steps", &steps(FOREVER))], in_ms(200))).await })
        })
        .collect();
    for task in requests {
        assert_eq!(task.await.unwrap().unwrap_err().kind, InferErrorKind::DeadlineExceeded);
    }
    assert_eq!(model.sessions(), 1);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn files_that_are_no_model_say_why() {
    let folder = fixture::folder("bad-models");
    let identity = fs::read(fixture::model("identity")).unwrap();
    let cases: [(&str, &[u8], &str); 4] = [
        ("truncated", &identity[..identity.len() / 2], "44 bytes that are cut short or no ONNX file"),
        ("text", b"this is no model at all, it is text", "35 bytes that are cut short or no ONNX file"),
        ("empty", b"", "which is empty"),
        ("pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    ];
    let models = models();
    for (name, bytes, expected) in cases {
        let path = folder.join(format!("{name}.onnx"));
        fs::write(&path, bytes).unwrap();
        let error = models.load(name, &path, ModelOptions::default()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let text = error.chain();
        assert!(text.contains(&format!("{name:?} ({}", path.display())) && text.contains(expected), "{text}");
    }
    let newer = models.load("newer", &fixture::model("newer-opset"), ModelOptions::default()).err().unwrap().chain();
    assert!(newer.contains("lower opset_version"), "{newer}");
    let sequence = models.load("sequence", &fixture::model("sequence"), ModelOptions::default()).err().unwrap().chain();
    assert!(sequence.contains(r#"output "y" is "#) && sequence.contains("zipmap=False"), "{sequence}");
    let missing = models.load("missing", &folder.join("none.onnx"), ModelOptions::default()).err().unwrap();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_preferred_device_that_refuses_is_left_with_its_reason() {
    let plan = Plan { device: Device::Cuda(99), alternatives: vec![Device::Cpu], ..Plan::default() };
    let options = ModelOptions { placing: plan.into(), ..ModelOptions::default() };
    let model = models().load("identity", &fixture::model("identity"), options).unwrap();
    assert_eq!(model.device(), Device::Cpu);
    let fell_back = model.fell_back();
    let [reason] = fell_back.as_slice() else { panic!("{:?}", model.fell_back()) };
    assert!(reason.starts_with("cuda:99: model \"identity\" is to run on cuda:99"), "{reason}");
}

#[test]
fn nodes_that_nobody_counted_are_not_made_up() {
    let model = models().load("sum", &fixture::model("sum"), ModelOptions::default()).unwrap();
    assert_eq!((model.device(), model.placement()), (Device::Cpu, None));
    assert_eq!(model.fell_back(), [""; 0]);
}

#[test]
fn a_tensorrt_that_cannot_be_used_is_left_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    // A GPU of this number exists nowhere, whatever else is installed.
    let plan = Plan { device: Device::TensorRt(99), alternatives: vec![Device::Cpu], ..Plan::default() };
    let options = ModelOptions { placing: plan.into(), ..ModelOptions::default() };
    let models = Models::new(fixture::runtime(), Some(folder.path().to_owned()));
    let model = models.load("identity", &fixture::model("identity"), options).unwrap();
    assert_eq!((model.device(), model.engine()), (Device::Cpu, None));
    let fell_back = model.fell_back();
    let wanted = "tensorrt:99: model \"identity\" is to run on tensorrt:99, which cannot be used: ";
    assert!(fell_back.len() == 1 && fell_back[0].starts_with(wanted), "{fell_back:?}");
}

#[test]
fn a_device_that_is_not_there_is_unmet() {
    for device in [Device::Cuda(0), Device::TensorRt(7)] {
        let options = ModelOptions { placing: Placing::only(device), ..ModelOptions::default() };
        let Err(error) = models().load("identity", &fixture::model("identity"), options) else { continue };
        assert_eq!(error.kind(), ErrorKind::Unmet, "{}", error.chain());
        assert!(error.to_string().contains(&device.to_string()), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn optimised_models_are_kept_and_made_again_when_spoilt() {
    let folder = fixture::folder("cache");
    let load = || {
        Models::new(fixture::runtime(), Some(folder.clone())).load(
            "sum",
            &fixture::model("sum"),
            ModelOptions::default(),
        )
    };
    let entries =
        || -> Vec<_> { fs::read_dir(folder.join("models")).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let model = load().unwrap();
    let [entry] = entries().try_into().unwrap();
    let name = entry.file_name().unwrap().to_str().unwrap().to_string();
    assert!(name.starts_with(&format!("{}-1.", model.sha256())) && name.ends_with(".onnx"), "{name}");
    let good = fs::read(&entry).unwrap();
    fs::write(&entry, "spoilt").unwrap();
    let model = load().unwrap();
    assert_eq!(model.placement(), Some(vec![("CPUExecutionProvider".to_owned(), 2)]));
    assert_eq!(fs::read(&entry).unwrap(), good);
    assert_eq!(entries().len(), 1);
    let a = Tensor::from_vec([1, 3], vec![1f32, 2., 3.]).unwrap();
    let again = load().unwrap();
    for model in [model, again] {
        let outputs = model.infer(request(&[("a", &a), ("b", &a)], None)).await.unwrap();
        assert_eq!(outputs[0].1.values::<f32>().unwrap().as_ref(), [2., 4., 6.]);
    }
    fs::remove_dir_all(&folder).unwrap();
}
