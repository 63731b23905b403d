//! `cargo xtask <task>`: everything the repository asks of a developer or of CI, as one small program.
//!
//! One file per task. The supporting files: `tree` (where things lie), `step` (headlines and child programs),
//! `prerequisites` (what the machine must have), `toolchain` (which compiler builds the guests), `trial` (a host on trial).

#![expect(clippy::print_stdout, reason = "a task's result is what it prints")]

mod aarch64;
mod bench;
mod dist;
mod gpu;
mod gpu_test;
mod guests;
mod layout;
mod onnxruntime;
mod prerequisites;
mod python_guest;
mod sbom;
mod serve;
mod step;
mod strays;
mod summary;
mod test;
mod test_images;
mod toolchain;
mod tree;
mod trial;
mod wheel;

use std::process::ExitCode;

use tree::Tree;

const HELP: &str = "\
cargo xtask <task>: build, run and check Wharf from its own tree

Start here
  serve [-- ARGS]   fetch what is missing, build everything, serve the examples on 127.0.0.1 (ARGS go to `wharf serve`)
  test [FILTER]     everything CI runs: fmt, clippy, guests, unit, integration and end-to-end tests, doc tests.
                    With FILTER: only the tests whose name contains it, without fmt and clippy

Parts of the above
  guests            build examples/ and the test fixtures to WebAssembly, laid out as folders `wharf serve` accepts
  onnxruntime       fetch the pinned ONNX Runtime library (hash-checked) and print its path
    --gpu           the build with CUDA and TensorRT providers instead (256 MB); prints its folder
    --cuda-libs     as --gpu, and NVIDIA's CUDA 13 and cuDNN 9 libraries beside it (1.3 GB more)
  doctor            check that this machine has what the tasks need, and say what to install
  test-gpu          models on this machine's GPU: answers against the CPU's, speed against plain ONNX Runtime's, memory
                    after 100 loads. --list says more; --device cpu tries the tests without a GPU
  bench [ARGS]      measure Wharf against a native server in the same run (ARGS go to `wharf-bench`)

To ship it
  dist [--deb]      the release archive (and the Debian package) in <target>/wharf/dist; --prebuilt PATH packs a program
                    that was built already
  test-dist         make both, unpack or install them elsewhere, and run what comes out (takes what `dist` takes)
  test-aarch64      cross-build the host and let it answer a picture under qemu-user; says what the machine lacks

Container images of the host (Dockerfiles/)
  test-images       lint, build and run them with hadolint, buildah and podman, as root; says what it skipped.
                    --lint: only that. --wharf FILE, --wharf-arm64 FILE: a program that is built already.
                    --gpu: the cuda image with ONNX Runtime's GPU build (256 MB to fetch)
  sbom --target TRIPLE --onnxruntime PINS.txt|VERSION
                    print what the program is made of, as CycloneDX JSON

Where things go: <target>/wharf/<example>/{<example>.wasm, models/, Dockerfile}, <target>/wharf/compose/,
<target>/wharf/fixtures/*.wasm, <target>/wharf/lib/ and <target>/wharf/lib-gpu/, where <target> is cargo's target folder (CARGO_TARGET_DIR is honoured). Nothing is fetched twice.

Environment
  ORT_DYLIB_PATH          use this ONNX Runtime library instead of the pinned one
  WHARF_GUEST_TOOLCHAIN   `rustup` or `debian`: which compiler builds the guests (default: whichever is installed,
                          else rustup's wasm target, else Debian's packages)
  SOURCE_DATE_EPOCH       the time of all files in what `dist` makes (default: that of the commit)
  WHARF_QEMU              the emulator for `test-aarch64`, version 10 or later
  WHARF_REQUIRE=1         tests that would be skipped on this machine fail instead (CI sets it)
";

type Task = fn(&Tree, &[String]) -> anyhow::Result<()>;

const TASKS: [(&str, Task); 12] = [
    ("serve", serve::run),
    ("test", test::run),
    ("guests", guests::run),
    ("onnxruntime", onnxruntime::run),
    ("doctor", prerequisites::run),
    ("bench", bench::run),
    ("dist", dist::run),
    ("test-dist", dist::proof::run),
    ("test-aarch64", aarch64::run),
    ("test-gpu", gpu_test::run),
    ("sbom", sbom::run),
    ("test-images", test_images::run),
];

/// Exit code for a command line we do not understand, as getopt programs have it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        eprint!("{HELP}");
        return ExitCode::from(USAGE);
    };
    if [Some(name), rest.first()].into_iter().flatten().any(|word| matches!(word.as_str(), "-h" | "--help")) {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let Some((_, task)) = TASKS.iter().find(|(known, _)| known == name) else {
        let known: Vec<&str> = TASKS.iter().map(|(known, _)| *known).collect();
        eprintln!("error: there is no task `{name}`; the tasks are {} (see `cargo xtask --help`)", known.join(", "));
        return ExitCode::from(USAGE);
    };
    match Tree::locate().and_then(|tree| task(&tree, rest)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
