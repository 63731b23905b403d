//! What becomes of a model that is to run on TensorRT, with sessions that know only where they run and builds that end
//! when the test says so.

use std::collections::VecDeque;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use wharf_tensor::DType;
use wharf_tensor::infer::TensorSpec;

use super::*;
use crate::model::engine_cache::Versions;
use crate::model::lanes::Work;
use crate::model::machine::NvidiaGpu;
use crate::model::open::Opened;
use crate::model::plan::Placing;
use crate::model::store::{LoadedModel, ModelStore};

const PATIENCE: Duration = Duration::from_secs(20);
const ON_CUDA: Device = Device::Cuda(0);
const ON_TENSORRT: Device = Device::TensorRt(0);

/// Where it runs. Sessions that are open are counted.
struct Session {
    device: Device,
    open: Arc<AtomicUsize>,
}

impl Session {
    fn new(device: Device, open: &Arc<AtomicUsize>) -> Session {
        open.fetch_add(1, SeqCst);
        Session { device, open: open.clone() }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.open.fetch_sub(1, SeqCst);
    }
}

/// Told to the one who asked.
struct Job(mpsc::Sender<Result<Device, String>>);

impl Work<Session> for Job {
    fn run(self, session: &mut Session) {
        self.0.send(Ok(session.device)).unwrap();
    }
}

#[derive(Default)]
struct Fifo(VecDeque<Job>);

impl Backlog<Session> for Fifo {
    type Work = Job;

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn next(&mut self, _: Instant) -> Option<Job> {
        self.0.pop_front()
    }

    fn refuse(&mut self, reason: &str) {
        self.0.drain(..).for_each(|job| job.0.send(Err(reason.to_owned())).unwrap());
    }
}

/// What the opener did, and what it is to do.
struct Script {
    /// `cuda:0`, `tensorrt:0 build`, `tensorrt:0`.
    done: Mutex<Vec<String>>,
    /// A word for each build: what is in its engine, or why it fails.
    builds: Mutex<mpsc::Receiver<Result<&'static str, &'static str>>>,
    refusing: Mutex<Vec<Device>>,
    no_target: bool,
    /// Of the one input.
    shape: Vec<Option<usize>>,
    /// By device, those of TensorRT first.
    open: [Arc<AtomicUsize>; 2],
}

struct Fake(Arc<Script>);

impl Opener for Fake {
    type Session = Session;

    fn cores(&self) -> usize {
        1
    }

    fn optimised(&self, _: &Path, _: &Source, _: Device) -> Option<PathBuf> {
        None
    }

    fn open(&self, recipe: &Recipe, source: &Source) -> Result<Opened<Session>> {
        let (script, device) = (&self.0, recipe.device);
        if script.refusing.lock().unwrap().contains(&device) {
            return Err(Error::new(ErrorKind::Unmet, format!("{device} is out of order")));
        }
        if let Device::TensorRt(_) = device {
            let engine = recipe.tensorrt.engine_cache.as_ref().unwrap().join("graph.engine");
            match fs::read_to_string(&engine).ok().as_deref() {
                None => {
                    script.done.lock().unwrap().push(format!("{device} build"));
                    // As if it were killed half-way, until it is told how it ends.
                    fs::write(engine.with_extension("half"), "half").unwrap();
                    let word = script.builds.lock().unwrap().recv_timeout(PATIENCE).expect("a word for this build");
                    let content = word.map_err(|reason| Error::new(ErrorKind::Failed, reason))?;
                    fs::write(engine, content).unwrap();
                }
                Some("spoilt") => return Err(Error::invalid("could not deserialize engine")),
                Some(_) => script.done.lock().unwrap().push(device.to_string()),
            }
        } else {
            script.done.lock().unwrap().push(device.to_string());
        }
        let session = Session::new(device, &script.open[usize::from(!matches!(device, Device::TensorRt(_)))]);
        Ok(Opened { session, signature: Arc::new(self.signature(recipe, source)?), placement: None })
    }

    fn open_narrow(&self, _: &Recipe, _: &Arc<Signature>) -> Result<Session> {
        Err(Error::invalid("one core has no narrow lanes"))
    }

    fn signature(&self, _: &Recipe, _: &Source) -> Result<Signature> {
        let input = TensorSpec { name: "x".into(), dtype: DType::Fp32, shape: self.0.shape.clone() };
        Ok(Signature { platform: "", inputs: vec![input], outputs: vec![] })
    }

    fn prove(&self, _: &mut Session, recipe: &Recipe, _: &Signature, _: Option<&Profile>) -> Result<()> {
        let engine = recipe.tensorrt.engine_cache.as_ref().unwrap().join("graph.engine");
        match fs::read_to_string(engine).unwrap().as_str() {
            "lame" => Err(Error::new(ErrorKind::Failed, "it does not run")),
            "panicking" => panic!("as the test wants it"),
            _ => Ok(()),
        }
    }

    fn target(&self, index: u32) -> Result<Target, String> {
        if self.0.no_target {
            return Err("libnvinfer.so.10: cannot open".to_owned());
        }
        let gpu = NvidiaGpu { index, name: "Orin".into(), compute_capability: Some((8, 7)), ..NvidiaGpu::default() };
        let versions = Versions { tensorrt: "10.3.0".into(), cuda: "12.6".into(), onnxruntime: "1.31.1".into() };
        Ok(Target { gpu, versions })
    }
}

type Model = Arc<LoadedModel<Fifo, Session>>;

/// A host with one model file.
struct Host {
    script: Arc<Script>,
    store: ModelStore<Fifo, Fake>,
    builds: mpsc::Sender<Result<&'static str, &'static str>>,
    folder: Arc<TempDir>,
}

impl Host {
    fn new() -> Host {
        Host::with(&[None, Some(3)], |_| {})
    }

    fn with(shape: &[Option<usize>], change: impl FnOnce(&mut Script)) -> Host {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        fs::write(folder.path().join("digits.onnx"), "weights").unwrap();
        Host::on(folder, shape, change)
    }

    fn on(folder: Arc<TempDir>, shape: &[Option<usize>], change: impl FnOnce(&mut Script)) -> Host {
        let (builds, told) = mpsc::channel();
        let mut script = Script {
            done: Mutex::default(),
            builds: Mutex::new(told),
            refusing: Mutex::default(),
            no_target: false,
            shape: shape.to_vec(),
            open: Default::default(),
        };
        change(&mut script);
        let script = Arc::new(script);
        let store = ModelStore::of(Fake(script.clone()), Some(folder.path().join("cache")));
        Host { script, store, builds, folder }
    }

    /// Another process on the same cache.
    fn again(&self) -> Host {
        Host::on(self.folder.clone(), &self.script.shape, |_| {})
    }

    fn load(&self) -> Model {
        self.load_as("").unwrap()
    }

    fn load_as(&self, queue: &str) -> Result<Model> {
        let alternatives = vec![ON_CUDA, Device::Cpu];
        let plan = Plan { device: ON_TENSORRT, alternatives, ..Plan::default() };
        let mut placing = Placing::from(plan);
        placing.tensorrt.max_batch = 4;
        let path = self.folder.path().join("digits.onnx");
        self.store.load("digits", &path, &placing, queue, Arc::new(|_| Fifo::default()))
    }

    fn done(&self) -> Vec<String> {
        self.script.done.lock().unwrap().clone()
    }

    /// Sessions open now, on TensorRT and elsewhere.
    fn open(&self) -> (usize, usize) {
        (self.script.open[0].load(SeqCst), self.script.open[1].load(SeqCst))
    }

    fn kept(&self) -> Vec<PathBuf> {
        let cache = self.folder.path().join("cache");
        engine_cache::list(&cache).iter().filter_map(|kept| engine_cache::find(&cache, &kept.key)).collect()
    }
}

fn lanes(model: &Model, shape: &[usize]) -> Arc<Lanes<Session, Fifo>> {
    model.lanes([("x", shape)].into_iter())
}

/// Where a request of this shape runs, or why not.
fn ask(model: &Model, shape: &[usize]) -> Result<Device, String> {
    wait_in(&lanes(model, shape)).recv_timeout(PATIENCE).unwrap()
}

fn wait_in(lanes: &Lanes<Session, Fifo>) -> mpsc::Receiver<Result<Device, String>> {
    let (answer, answers) = mpsc::channel();
    lanes.with_queue(|queue| queue.0.push_back(Job(answer)));
    answers
}

fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited too long");
        thread::yield_now();
    }
}

fn is_building(model: &Model) -> bool {
    matches!(model.engine(), Some(EngineState::Building { .. }))
}

fn ready(model: &Model) {
    until(|| !is_building(model));
    assert_eq!(model.engine(), Some(EngineState::Ready));
}

fn failed(model: &Model) -> String {
    until(|| !is_building(model));
    let Some(EngineState::Failed(reason)) = model.engine() else { panic!("{:?}", model.engine()) };
    reason
}

const INSIDE: &[usize] = &[4, 3];
const OUTSIDE: &[usize] = &[5, 3];

#[test]
fn cuda_serves_until_the_engine_is_ready_and_what_has_begun_ends_there() {
    let host = Host::new();
    let model = host.load();
    assert_eq!((model.device(), is_building(&model), ask(&model, INSIDE)), (ON_CUDA, true, Ok(ON_CUDA)));
    // One request runs and one waits, over the switch.
    let old = lanes(&model, INSIDE);
    let mut running = None;
    until(|| {
        running = old.claim();
        running.is_some()
    });
    let waiting = wait_in(&old);
    host.builds.send(Ok("engine")).unwrap();
    ready(&model);
    assert_eq!((model.device(), ask(&model, INSIDE)), (ON_TENSORRT, Ok(ON_TENSORRT)));
    assert!(waiting.try_recv().is_err() && model.fell_back().is_empty());
    assert_eq!(running.as_mut().unwrap().session().unwrap().device, ON_CUDA);
    drop(running);
    assert_eq!(waiting.recv_timeout(PATIENCE).unwrap(), Ok(ON_CUDA));
    assert_eq!(host.open().1, 1);
    drop(old);
    until(|| host.open() == (1, 0));
    assert_eq!(host.done(), ["cuda:0", "tensorrt:0 build", "tensorrt:0"]);

    // From now on the engine is opened at once, by whoever comes.
    let next = host.again();
    let model = next.load();
    assert_eq!((model.device(), model.engine()), (ON_TENSORRT, Some(EngineState::Ready)));
    assert_eq!(next.done(), ["tensorrt:0"]);
}

#[test]
fn shapes_outside_of_the_profile_go_to_sessions_that_are_opened_for_them() {
    let host = Host::new();
    let model = host.load();
    host.builds.send(Ok("engine")).unwrap();
    ready(&model);
    until(|| host.open() == (1, 0));
    assert_eq!(
        [ask(&model, OUTSIDE), ask(&model, INSIDE), ask(&model, OUTSIDE)],
        [Ok(ON_CUDA), Ok(ON_TENSORRT), Ok(ON_CUDA)]
    );
    assert_eq!(host.done(), ["cuda:0", "tensorrt:0 build", "tensorrt:0", "cuda:0"]);
    assert_eq!((host.open(), model.device()), ((1, 1), ON_TENSORRT));
}

#[test]
fn sessions_that_a_shape_has_needed_before_the_switch_stay() {
    let host = Host::new();
    let model = host.load();
    assert_eq!(ask(&model, OUTSIDE), Ok(ON_CUDA));
    host.builds.send(Ok("engine")).unwrap();
    ready(&model);
    assert_eq!((ask(&model, OUTSIDE), ask(&model, INSIDE)), (Ok(ON_CUDA), Ok(ON_TENSORRT)));
    assert_eq!(host.done(), ["cuda:0", "tensorrt:0 build", "tensorrt:0"]);
}

#[test]
fn sessions_beside_the_engine_that_do_not_open_say_why_and_are_tried_again() {
    let host = Host::new();
    let model = host.load();
    host.builds.send(Ok("engine")).unwrap();
    ready(&model);
    host.script.refusing.lock().unwrap().extend([ON_CUDA, Device::Cpu]);
    assert_eq!(ask(&model, OUTSIDE), Err("cuda:0: cuda:0 is out of order; cpu: cpu is out of order".to_owned()));
    assert_eq!(ask(&model, INSIDE), Ok(ON_TENSORRT));
    host.script.refusing.lock().unwrap().clear();
    assert_eq!(ask(&model, OUTSIDE), Ok(ON_CUDA));
}

#[test]
fn fixed_shapes_need_no_profile() {
    let host = Host::with(&[Some(1), Some(3)], |_| {});
    let model = host.load();
    host.builds.send(Ok("engine")).unwrap();
    ready(&model);
    assert_eq!(ask(&model, &[1, 3]), Ok(ON_TENSORRT));
}

#[test]
fn a_build_that_fails_leaves_the_model_on_cuda_and_says_why() {
    let host = Host::new();
    let model = host.load();
    host.builds.send(Err("out of memory")).unwrap();
    assert_eq!(failed(&model), "out of memory");
    assert_eq!((model.device(), ask(&model, INSIDE), ask(&model, OUTSIDE)), (ON_CUDA, Ok(ON_CUDA), Ok(ON_CUDA)));
    assert_eq!(model.fell_back(), ["tensorrt:0: out of memory"]);
    assert_eq!(host.kept(), [] as [PathBuf; 0]);
    assert_eq!(model.engine().unwrap().to_string(), "failed: out of memory");
    // The next load tries again.
    let next = host.again();
    let model = next.load();
    next.builds.send(Ok("engine")).unwrap();
    ready(&model);
}

#[test]
fn an_engine_that_opens_and_does_not_run_is_not_switched_to() {
    for (engine, reason) in [("lame", "it does not run"), ("panicking", "making its engine panicked")] {
        let host = Host::new();
        let model = host.load();
        host.builds.send(Ok(engine)).unwrap();
        assert_eq!((failed(&model).as_str(), ask(&model, INSIDE)), (reason, Ok(ON_CUDA)));
    }
}

#[test]
fn two_who_need_one_engine_build_it_once() {
    let host = Host::new();
    let other = host.again();
    // In one process with queues of their own, and in another process.
    let models = [host.load(), host.load_as("max_batch=8").unwrap(), other.load()];
    until(|| host.done().iter().chain(&other.done()).any(|done| done.ends_with("build")));
    host.builds.send(Ok("engine")).unwrap();
    other.builds.send(Ok("engine")).unwrap();
    models.iter().for_each(ready);
    let builds = host.done().into_iter().chain(other.done()).filter(|done| done.ends_with("build")).count();
    assert_eq!(builds, 1);
    let shared = host.load();
    assert!(Arc::ptr_eq(&shared, &models[0]), "one who comes later shares all of it");
}

#[test]
fn a_model_unloaded_meanwhile_leaves_a_whole_engine_or_none() {
    let host = Host::new();
    let first = host.load();
    until(|| host.done().len() == 2);
    // It waits for the first's build, and is gone before its turn.
    fs::write(host.folder.path().join("digits.onnx"), "other weights").unwrap();
    drop(host.load());
    drop(first);
    until(|| host.open() == (0, 0));
    assert_eq!(host.kept(), [] as [PathBuf; 0]);
    host.builds.send(Ok("engine")).unwrap();
    until(|| !host.kept().is_empty());
    // The lock is free again when all that was to be built is built.
    let model = host.load();
    host.builds.send(Ok("engine of the others")).unwrap();
    ready(&model);
    assert_eq!(host.kept().len(), 2);
    let builds = host.done().iter().filter(|done| done.ends_with("build")).count();
    assert_eq!(builds, 2, "{:?}", host.done());
}

#[test]
fn weights_that_change_before_the_build_begins_get_no_engine() {
    let host = Host::new();
    let _first = host.load();
    until(|| host.done().len() == 2);
    // It waits for the first's build. Its weights lie in a file beside it.
    fs::write(host.folder.path().join("digits.onnx"), b"\x0a\x08location\x12\x07weights").unwrap();
    fs::write(host.folder.path().join("weights"), "one").unwrap();
    let model = host.load();
    fs::write(host.folder.path().join("weights"), "two").unwrap();
    host.builds.send(Ok("engine")).unwrap();
    assert_eq!(failed(&model), "the weights of model \"digits\" have changed since it was loaded");
    assert_eq!(host.kept().len(), 1);
}

#[test]
fn a_spoilt_engine_is_built_again() {
    let host = Host::new();
    let model = host.load();
    host.builds.send(Ok("engine")).unwrap();
    ready(&model);
    let [engine] = host.kept().try_into().unwrap();
    fs::write(engine.join("graph.engine"), "spoilt").unwrap();
    let next = host.again();
    let model = next.load();
    assert_eq!((model.device(), ask(&model, INSIDE)), (ON_CUDA, Ok(ON_CUDA)));
    next.builds.send(Ok("engine")).unwrap();
    ready(&model);
    assert_eq!(fs::read_to_string(engine.join("graph.engine")).unwrap(), "engine");
    assert_eq!(next.done(), ["cuda:0", "tensorrt:0 build", "tensorrt:0"]);
}

#[test]
fn a_host_killed_while_it_builds_leaves_no_engine() {
    let host = Host::new();
    let model = host.load();
    until(|| host.done().len() == 2);
    // As the files are when nobody cleans up any more.
    let cache = host.folder.path().join("cache");
    let (left, copy) = (cache.join("tensorrt"), host.folder.path().join("after"));
    copy_all(&left, &copy.join("tensorrt"));
    host.builds.send(Err("killed")).unwrap();
    failed(&model);
    fs::remove_dir_all(&cache).unwrap();
    fs::rename(&copy, &cache).unwrap();
    let next = host.again();
    let model = next.load();
    assert!(next.kept().is_empty());
    next.builds.send(Ok("engine")).unwrap();
    ready(&model);
    let [engine] = next.kept().try_into().unwrap();
    assert!(engine.join("graph.engine").exists());
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => copy_all(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

#[test]
fn an_engine_beside_the_model_is_taken_in_and_is_its_own() {
    let host = Host::new();
    let model = host.load();
    host.builds.send(Ok("brought")).unwrap();
    ready(&model);
    let cache = host.folder.path().join("cache");
    let kept = engine_cache::list(&cache);
    let file = File::create(host.folder.path().join("digits.orin.engine")).unwrap();
    engine_archive::export(&kept[0].key, &engine_cache::find(&cache, &kept[0].key).unwrap(), file).unwrap();
    fs::remove_dir_all(&cache).unwrap();

    let next = host.again();
    let model = next.load();
    assert_eq!((model.device(), next.done()), (ON_TENSORRT, vec!["tensorrt:0".to_owned()]));
    drop(model);
    // One who brings the model and not the engine does not run on it.
    fs::remove_file(host.folder.path().join("digits.orin.engine")).unwrap();
    let other = host.again();
    let model = other.load();
    assert_eq!(model.device(), ON_CUDA);
    other.builds.send(Ok("own")).unwrap();
    ready(&model);
}

#[test]
fn what_cannot_have_an_engine_says_why() {
    let host = Host::with(&[None, None], |_| {});
    let model = host.load();
    assert!(failed(&model).starts_with("dimension 1 of input \"x\" is open"), "{:?}", model.engine());
    assert_eq!((model.device(), host.done()), (ON_CUDA, vec!["cuda:0".to_owned()]));
}

#[test]
fn a_tensorrt_that_is_not_here_is_left_with_its_reason() {
    let host = Host::with(&[None, Some(3)], |script| script.no_target = true);
    let model = host.load();
    assert_eq!((model.device(), model.engine()), (ON_CUDA, None));
    assert_eq!(
        model.fell_back(),
        ["tensorrt:0: model \"digits\" is to run on tensorrt:0, which cannot be used: libnvinfer.so.10: cannot open"]
    );
}

#[test]
fn the_cpu_serves_where_cuda_does_not() {
    let host = Host::with(&[None, Some(3)], |script| script.refusing = Mutex::new(vec![ON_CUDA]));
    let model = host.load();
    assert_eq!((model.device(), model.fell_back()), (Device::Cpu, vec!["cuda:0: cuda:0 is out of order".to_owned()]));
    host.builds.send(Ok("engine")).unwrap();
    ready(&model);
    assert_eq!((ask(&model, INSIDE), model.fell_back().len()), (Ok(ON_TENSORRT), 0));
}
