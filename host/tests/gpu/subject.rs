//! The models under test, and inputs for them that are the same numbers on every machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wharf::batch::Batcher;
use wharf_tensor::infer::{Infer, TensorView};
use wharf_tensor::{DType, Tensor};

const EXAMPLES: [&str; 3] = ["digits", "facedetection", "maskdetection"];

pub struct Subject {
    pub name: String,
    pub path: PathBuf,
}

/// Those of the examples, and all of the folder `WHARF_TEST_MODELS`.
pub fn subjects() -> Vec<Subject> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let example = |name: &&str| root.join(format!("examples/{name}/models/{name}.onnx"));
    let mut paths: Vec<PathBuf> = EXAMPLES.iter().map(example).collect();
    if let Some(folder) = std::env::var_os("WHARF_TEST_MODELS") {
        let entries = std::fs::read_dir(&folder).expect("WHARF_TEST_MODELS names a folder");
        let mut more: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        more.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
        assert!(!more.is_empty(), "WHARF_TEST_MODELS holds no model");
        more.sort();
        paths.extend(more);
    }
    let subject = |path: PathBuf| Subject { name: path.file_stem().unwrap().to_string_lossy().into_owned(), path };
    paths.into_iter().map(subject).collect()
}

impl Subject {
    /// As the model takes them; `batch` where dimension 0 is open.
    pub fn inputs(&self, model: &Batcher, batch: usize, seed: u64) -> Vec<(String, Tensor)> {
        let mut random = Random(seed);
        let input = |(name, dtype, shape): (&Arc<str>, DType, &Vec<Option<usize>>)| {
            assert_eq!(dtype, DType::Fp32, "{}: inputs of other types are not made here", self.name);
            let open = shape.iter().enumerate().map(|(at, length)| length.unwrap_or(if at == 0 { batch } else { 1 }));
            let shape: Vec<usize> = open.collect();
            let values = (0..shape.iter().product()).map(|_| random.between_zero_and_one()).collect::<Vec<f32>>();
            (name.to_string(), Tensor::from_vec(shape, values).unwrap())
        };
        model.signature().inputs.iter().map(|spec| (&spec.name, spec.dtype, &spec.shape)).map(input).collect()
    }

    /// What the model answers, the way a guest asks.
    pub fn ask(&self, model: &Batcher, inputs: &[(String, Tensor)]) -> Vec<(Arc<str>, Tensor)> {
        let mut views = Vec::with_capacity(inputs.len());
        for (name, tensor) in inputs {
            views.push(TensorView { name, dtype: tensor.dtype(), shape: tensor.shape().to_vec(), data: tensor.data() });
        }
        model.infer_blocking(&views, None).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn between_zero_and_one(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }
}
