//! Whole builds, with hooks that only pretend to know Wasm and registries.

mod copying;

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{BuildHooks, BuildOptions, RunStep};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Digest, Image, Images, Progress, Reference, Removed, Use, durable, layers};

const MODULE: &[u8] = b"\0asm\x01\0\0\0 module";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0 component";

/// Tools: `touch PATH…`, `rm PATH…`, `env NAME PATH` (its value into a file), `fail CODE`.
#[derive(Default)]
struct Pretending {
    compiled: Mutex<Vec<String>>,
    ran: AtomicUsize,
    refuses_to_compile: bool,
}

impl BuildHooks for Pretending {
    fn componentise(&self, wasm: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok((wasm == MODULE).then(|| COMPONENT.to_vec()))
    }

    fn precompile(&self, wasm: &Path) -> Result<()> {
        let name = wasm.file_name().unwrap().to_string_lossy().into_owned();
        self.compiled.lock().unwrap().push(name);
        if self.refuses_to_compile { Err(Error::invalid("too new")) } else { Ok(()) }
    }

    fn run(&self, step: RunStep<'_>, line: &dyn Fn(&str)) -> Result<i32> {
        self.ran.fetch_add(1, Ordering::Relaxed);
        line(&format!("in {}", step.working_dir));
        let words: Vec<&str> = step.argv.iter().skip(1).map(String::as_str).collect();
        let whole = |path: &str| step.root.join(path.trim_start_matches('/'));
        match &words[..] {
            ["touch", paths @ ..] => paths.iter().for_each(|path| fs::write(whole(path), *path).unwrap()),
            ["rm", paths @ ..] => {
                for path in paths {
                    durable::remove(&whole(path));
                }
            }
            ["env", name, path] => {
                let value = step.environment.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
                fs::write(whole(path), value.unwrap_or("unset")).unwrap();
            }
            ["fail", code] => return Ok(code.parse().unwrap()),
            _ => {}
        }
        Ok(0)
    }

    fn pull(&self, reference: &Reference, _: &(dyn Fn(Progress) + Send + Sync)) -> Result<()> {
        Err(Error::new(ErrorKind::NotFound, format!("{reference} is unknown")))
    }
}

struct Bench {
    folder: tempfile::TempDir,
    images: Images,
    hooks: Pretending,
}

impl Bench {
    fn new(files: &[(&str, &str)]) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let images = Images::open(&folder.path().join("store")).unwrap();
        let bench = Bench { folder, images, hooks: Pretending::default() };
        fs::create_dir(bench.context()).unwrap();
        bench.write("app.wasm", MODULE);
        for (path, content) in files {
            bench.write(path, content.as_bytes());
        }
        bench
    }

    fn context(&self) -> std::path::PathBuf {
        self.folder.path().join("context")
    }

    fn write(&self, path: &str, content: &[u8]) {
        let whole = self.context().join(path);
        fs::create_dir_all(whole.parent().unwrap()).unwrap();
        fs::write(whole, content).unwrap();
    }

    fn options(&self, options: &BuildOptions) -> (Result<Image>, String) {
        let told = Mutex::new(String::new());
        let progress = |progress| match progress {
            Progress::Stream(text) => told.lock().unwrap().push_str(&text),
            other => panic!("{other:?}"),
        };
        let image = self.images.build(&self.context(), options, &self.hooks, &progress);
        (image, told.into_inner().unwrap())
    }

    fn build(&self, dockerfile: &str) -> (Image, String) {
        self.write("Dockerfile", dockerfile.as_bytes());
        let (image, told) = self.options(&tagged("app"));
        (image.unwrap_or_else(|error| panic!("{}\n{told}", error.chain())), told)
    }

    fn fails(&self, dockerfile: &str) -> String {
        self.write("Dockerfile", dockerfile.as_bytes());
        self.options(&BuildOptions::default()).0.unwrap_err().chain()
    }

    /// Paths in the image; files with their content if it is text.
    fn files(&self, image: &Image) -> Vec<String> {
        let root = self.images.rootfs(&image.id).unwrap();
        let show = |path: &std::path::PathBuf| match fs::read_to_string(root.join(path)) {
            Ok(text) if !text.starts_with('\0') => format!("{}={text}", path.display()),
            _ => path.display().to_string(),
        };
        crate::image::tree::walk(&root).unwrap().iter().map(show).collect()
    }
}

fn tagged(name: &str) -> BuildOptions {
    BuildOptions { tags: vec![name.parse().unwrap()], ..BuildOptions::default() }
}

fn pairs(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const PLAIN: &str = "FROM scratch\nCOPY app.wasm /\nCOPY models /models\nEXPOSE 5000\nENTRYPOINT [\"/app.wasm\"]\n";

#[test]
fn a_service_and_its_models_become_an_image() {
    let bench = Bench::new(&[("models/digits.onnx", "weights"), ("models/v/1.onnx", "more")]);
    let (image, told) = bench.build(PLAIN);
    assert_eq!(
        bench.files(&image),
        ["app.wasm", "models", "models/digits.onnx=weights", "models/v", "models/v/1.onnx=more"]
    );
    let root = bench.images.rootfs(&image.id).unwrap();
    assert_eq!(fs::read(root.join("app.wasm")).unwrap(), COMPONENT);
    assert_eq!(*bench.hooks.compiled.lock().unwrap(), ["app.wasm"]);
    let config = &image.config;
    assert_eq!((config.os.as_str(), config.architecture.as_str()), ("wasi", "wasm"));
    assert!(config.config.exposed_ports.contains("5000/tcp"));
    assert_eq!(config.config.entrypoint.as_deref(), Some(&["/app.wasm".to_owned()][..]));
    let history: Vec<_> = config.history.iter().map(|step| (step.created_by.as_str(), step.empty_layer)).collect();
    assert_eq!(
        history,
        [
            ("COPY app.wasm /", false),
            ("COPY models /models", false),
            ("EXPOSE 5000", true),
            ("ENTRYPOINT [\"/app.wasm\"]", true)
        ]
    );
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[..3], ["Step 1/5 : FROM scratch", " ---> ", "Step 2/5 : COPY app.wasm /"]);
    assert_eq!(*lines.last().unwrap(), format!(" ---> {}", image.id.short()));
    assert_eq!((image.tags, image.parent), (vec!["app:latest".to_owned()], None));
    assert_eq!(durable::entries(&bench.images.inner.work).unwrap().len(), 0);
}

#[test]
fn steps_are_known_in_sequence_until_one_differs() {
    let bench = Bench::new(&[("models/a.onnx", "1"), ("models/b.onnx", "2")]);
    let (first, _) = bench.build(PLAIN);
    let (second, told) = bench.build(PLAIN);
    assert_eq!((second.id, told.matches("Using cache").count()), (first.id.clone(), 4));
    bench.write("models/b.onnx", b"3");
    let (third, told) = bench.build(PLAIN);
    assert_eq!(told.matches("Using cache").count(), 1, "{told}");
    assert_ne!(third.id, first.id);
    let (changed, told) = bench.build(&PLAIN.replace("/\nCOPY", "/\nENV A=1\nCOPY"));
    assert_eq!(told.matches("Using cache").count(), 1, "{told}");
    assert_eq!(changed.config.rootfs.diff_ids, third.config.rootfs.diff_ids);
    let (_, told) = bench.options(&BuildOptions { no_cache: true, ..tagged("app") });
    assert!(!told.contains("Using cache"));
}

#[test]
fn known_steps_outlive_the_collector_and_go_with_their_image() {
    let bench = Bench::new(&[("models/a.onnx", "1")]);
    let (image, _) = bench.build(PLAIN);
    bench.images.collect_garbage().unwrap();
    assert_eq!(bench.build(PLAIN).1.matches("Using cache").count(), 4);
    let removed = bench.images.remove("app", false, true, &|_| Use::None).unwrap();
    assert!(removed.contains(&Removed::Deleted(image.id)));
    for folder in [&bench.images.inner.steps, bench.images.blobs().folder(), &bench.images.inner.layers.folder] {
        assert_eq!(durable::entries(folder).unwrap().len(), 0, "{}", folder.display());
    }
    bench.build(PLAIN);
}

#[test]
fn the_same_input_makes_the_same_image() {
    let options = BuildOptions { args: pairs(&[("SOURCE_DATE_EPOCH", "1700000000")]), ..tagged("app") };
    let mut ids: Vec<Digest> = Vec::new();
    for order in [["models/a", "models/b"], ["models/b", "models/a"]] {
        let bench = Bench::new(&order.map(|path| (path, "x")));
        bench.write("Dockerfile", PLAIN.as_bytes());
        let image = bench.options(&options).0.unwrap();
        assert_eq!(image.config.created.as_deref(), Some("2023-11-14T22:13:20Z"));
        ids.push(image.id);
    }
    assert_eq!(ids[0], ids[1]);
    let layers: Vec<_> = (0..2).map(|_| Bench::new(&[("models/a", "x")]).build(PLAIN).0.config.rootfs).collect();
    assert_eq!(layers[0], layers[1]);
}

#[test]
fn stages_lend_their_files() {
    let bench = Bench::new(&[("a", "1"), ("b", "2")]);
    let text = "ARG BASE=one\nFROM scratch AS One\nCOPY a /x/\nENV K=v\nENTRYPOINT [\"/e.wasm\"]\nCMD [\"c\"]\n\
         FROM scratch\nCOPY --from=one /x /y\nCOPY --from=0 x/a /z\n\
         FROM ${BASE} AS last\nCOPY --from=1 /y/* /l/\nENTRYPOINT [\"/l.wasm\"]\n";
    let (image, told) = bench.build(text);
    assert_eq!(bench.files(&image), ["l", "l/a=1", "x", "x/a=1"]);
    assert_eq!((image.config.config.env, image.config.config.cmd), (vec!["K=v".to_owned()], None));
    assert!(told.contains("Step 1/12 : ARG BASE=one\nStep 2/12 : FROM scratch AS One\n"), "{told}");
    for (target, files) in [("ONE", vec!["x", "x/a=1"]), ("1", vec!["y", "y/a=1", "z=1"])] {
        let (image, told) = bench.options(&BuildOptions { target: Some(target.into()), ..tagged("part") });
        assert_eq!(bench.files(&image.unwrap()), files, "{told}");
    }
    let error = bench.options(&BuildOptions { target: Some("x".into()), ..tagged("part") }).0.unwrap_err();
    assert_eq!(error.to_string(), "target stage \"x\" could not be found");
}

#[test]
fn images_are_built_upon() {
    let bench = Bench::new(&[("a", "1")]);
    let (base, _) = bench.build("FROM scratch\nCOPY a /a\nONBUILD COPY app.wasm /\n");
    bench.images.tag(&base.id, &"base:1".parse().unwrap()).unwrap();
    let (image, told) = bench.build("FROM base:1\nENV A=1\n");
    assert!(told.contains("# Executing 1 build trigger\n"));
    assert_eq!(bench.files(&image), ["a=1", "app.wasm"]);
    assert_eq!((image.parent, image.config.config.on_build.len()), (Some(base.id.clone()), 0));
    let (copied, _) = bench.build("FROM scratch\nCOPY --from=base:1 /a /b\n");
    assert_eq!(bench.files(&copied), ["b=1"]);
    let (same, _) = bench.build(&format!("FROM {}\n", copied.id));
    assert_eq!((same.id, same.parent), (copied.id, None));
}

#[test]
fn a_bare_component_is_built_upon_as_a_file_system() {
    use crate::image::manifest::{Descriptor, Manifest, media};
    let bench = Bench::new(&[("a", "1")]);
    let blobs = bench.images.blobs();
    let config = blobs.put(br#"{"architecture":"wasm","os":"wasip2","layerDigests":[]}"#).unwrap();
    let layer = blobs.put(COMPONENT).unwrap();
    let layer = Descriptor::new(media::WASM[0], layer, COMPONENT.len() as u64);
    let manifest = Manifest::new(Descriptor::new(media::WASM_CONFIG, config, 0), vec![layer]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    bench.images.commit_manifest(&manifest, media::MANIFEST, &["bare".parse().unwrap()], None).unwrap();
    let (image, _) = bench.build("FROM bare\nCOPY a /\n");
    assert_eq!(bench.files(&image), ["a=1", "app.wasm"]);
    assert_eq!(image.config.config.entrypoint, Some(vec!["/app.wasm".to_owned()]));
}

#[test]
fn tools_change_files_and_the_change_is_a_layer() {
    let bench = Bench::new(&[("keep", "k"), ("gone", "g"), ("folder/x", "x")]);
    let text = "FROM scratch\nCOPY app.wasm keep gone /\nCOPY folder /folder\nWORKDIR /folder\n\
         RUN [\"/app.wasm\", \"rm\", \"/gone\", \"/folder\"]\nRUN [\"/app.wasm\", \"touch\", \"/new\"]\n\
         RUN [\"/app.wasm\"]\n";
    let (image, told) = bench.build(text);
    assert_eq!(bench.files(&image), ["app.wasm", "keep=k", "new=/new"]);
    assert!(told.contains("\nin /folder\n"), "{told}");
    let made: Vec<bool> = image.config.history.iter().map(|step| !step.empty_layer).collect();
    assert_eq!(made, [true, true, false, true, true, false]);
    let layers = bench.images.layers_of(&image.id).unwrap();
    assert!(layers.iter().all(|layer: &layers::Layer| layer.blob.size < 10_000));
    bench.build(text);
    assert_eq!(bench.hooks.ran.load(Ordering::Relaxed), 3);
}

#[test]
fn a_tool_that_fails_fails_the_build() {
    let bench = Bench::new(&[]);
    let text = bench.fails("FROM scratch\nCOPY app.wasm /\nRUN [\"/app.wasm\", \"fail\", \"3\"]\n");
    assert_eq!(text, "The command '/app.wasm fail 3' returned a non-zero code: 3");
    assert!(bench.images.list().unwrap().is_empty());
    assert_eq!(durable::entries(&bench.images.inner.work).unwrap().len(), 0);
}

#[test]
fn arguments_reach_words_and_tools() {
    let bench = Bench::new(&[]);
    let text = "ARG NAME=x\nFROM scratch\nCOPY app.wasm /\nARG NAME\nARG V=1\nENV E=${V}!\nLABEL l=$E \"m n\"='$V'\n\
         RUN [\"/app.wasm\", \"env\", \"V\", \"/v\"]\nWORKDIR /$NAME\nUSER ${U:-me}\n";
    let (image, _) = bench.build(text);
    assert_eq!(bench.files(&image)[1..], ["v=1", "x"]);
    let config = &image.config.config;
    assert_eq!((config.env.join(","), config.user.as_str()), ("E=1!".to_owned(), "me"));
    assert_eq!(config.labels, pairs(&[("l", "1!"), ("m n", "$V")]));
    let args = pairs(&[("V", "2"), ("NAME", "y"), ("LOST", "1"), ("AWAY", "1"), ("HTTP_PROXY", "p")]);
    let labels = pairs(&[("asked", "it's $V")]);
    let (image, told) = bench.options(&BuildOptions { args, labels, ..tagged("app") });
    let image = image.unwrap();
    assert_eq!(bench.files(&image)[1..], ["v=2", "y"]);
    assert_eq!(image.labels()["asked"], "it's $V");
    assert!(told.contains("[Warning] One or more build-args [AWAY LOST] were not consumed\n"), "{told}");
    assert!(told.contains("/11 : LABEL asked=it's $V\n"), "{told}");
    assert!(!told.contains("HTTP_PROXY"));
}

#[test]
fn what_needs_linux_is_refused_before_anything_runs() {
    let bench = Bench::new(&[]);
    for (text, message) in [
        ("FROM python:3.7\n", "Dockerfile:1:1: FROM python:3.7: python:3.7 is not in the store"),
        ("FROM scratch\nRUN apt-get update\n", "Dockerfile:2:1: RUN apt-get update: a Wasm image has no shell"),
        ("FROM scratch\nRUN /a.wasm x\n", "Write the exec form: RUN [\"/a.wasm\",\"x\"]"),
        ("FROM scratch\nCMD a b\n", "Write the exec form: CMD [\"a\",\"b\"]"),
        ("FROM localhost:5/x\n", "localhost:5/x:latest is not in the store, and it cannot be pulled"),
        ("FROM scratch\nFOO\n", "dockerfile parse error on line 2: unknown instruction: FOO (Dockerfile:2:1)"),
        ("FROM scratch\nEXPOSE http\n", "Invalid containerPort: http"),
        ("FROM scratch\n", "No image was generated. Is your Dockerfile empty?"),
        ("  \n", "the Dockerfile (Dockerfile) cannot be empty"),
        ("COPY a /\n", "begin with FROM scratch"),
    ] {
        let found = bench.fails(text);
        assert!(found.contains(message), "{text}: {found}");
    }
    let named = |dockerfile: &str| BuildOptions { dockerfile: dockerfile.into(), ..BuildOptions::default() };
    for path in ["Dockerfile.cpu", "../Dockerfile", "."] {
        let error = bench.options(&named(path)).0.unwrap_err();
        assert_eq!(error.to_string(), format!("Cannot locate specified Dockerfile: {path}"));
    }
    bench.write("docker/Dockerfile.cpu", PLAIN.replace("COPY models /models\n", "").as_bytes());
    assert!(bench.options(&named("docker/Dockerfile.cpu")).0.is_ok());
}

#[test]
fn quiet_builds_say_nothing_and_warnings_are_no_errors() {
    let mut bench = Bench::new(&[]);
    bench.hooks.refuses_to_compile = true;
    let (image, told) = bench.build("FROM scratch\nCOPY app.wasm /\nWORKDIR /\nCMD [\"app.wasm\"]\n");
    assert!(told.ends_with("[Warning] app.wasm cannot be compiled ahead: too new\n"), "{told}");
    let (again, told) = bench.options(&BuildOptions { quiet: true, ..tagged("app") });
    assert_eq!((again.unwrap().id, told.as_str()), (image.id, ""));
    let platform = |platform: &str| BuildOptions { platform: Some(platform.into()), ..tagged("other") };
    assert_eq!(bench.options(&platform("linux/arm64")).0.unwrap().config.os, "linux");
    assert!(bench.options(&platform("wasm")).0.is_err());
}

#[test]
fn two_builds_of_one_name_leave_one_whole_image() {
    let bench = Bench::new(&[("models/a", "1")]);
    bench.write("Dockerfile", PLAIN.as_bytes());
    bench.write("Other", PLAIN.replace("5000", "6000").as_bytes());
    let built: Vec<Digest> = std::thread::scope(|scope| {
        let build = |file: &'static str| {
            let options = BuildOptions { dockerfile: file.into(), ..tagged("app") };
            let bench = &bench;
            scope.spawn(move || bench.options(&options).0.unwrap().id)
        };
        let running: Vec<_> = ["Dockerfile", "Other", "Dockerfile", "Other"].map(build).into();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let image = bench.images.find("app").unwrap();
    assert!(built.contains(&image.id));
    assert_eq!(bench.files(&image), ["app.wasm", "models", "models/a=1"]);
    bench.images.collect_garbage().unwrap();
    assert_eq!(bench.images.list().unwrap().iter().filter(|image| !image.tags.is_empty()).count(), 1);
}
