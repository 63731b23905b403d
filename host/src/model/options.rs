//! What the GPU providers are told, as ONNX Runtime's own pairs of key and value. Pure: the pairs are what is
//! registered, and what tells sessions and cached engines apart.

use std::fmt::Write as _;
use std::path::PathBuf;

use wharf_tensor::infer::Signature;

/// How cuDNN finds its algorithm for a convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConvSearch {
    /// By rule. ONNX Runtime's own default tries all, which makes the first run of every shape slow.
    #[default]
    Heuristic,
    Exhaustive,
    Default,
}

/// How much the GPU memory pool takes when it grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ArenaExtend {
    /// What is needed: several models share a GPU.
    #[default]
    SameAsRequested,
    /// Twice as much each time, which is ONNX Runtime's own default.
    NextPowerOfTwo,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CudaOptions {
    /// Bytes of GPU memory per session; cuBLAS's and cuDNN's workspaces come on top. `None`: no limit.
    pub memory_limit: Option<u64>,
    pub conv_search: ConvSearch,
    pub arena_extend: ArenaExtend,
    /// TF32 in matrix products of 32-bit floats: faster, with 10 bits of mantissa. Off: results like the CPU's.
    pub tf32: bool,
    /// Record and replay runs. Only for models of fixed shapes without control flow.
    pub cuda_graph: bool,
}

pub type Pairs = Vec<(&'static str, String)>;

fn flag(value: bool) -> String {
    if value { "1" } else { "0" }.to_owned()
}

impl CudaOptions {
    /// For GPU `device`, as CUDA counts them.
    pub fn pairs(&self, device: u32) -> Pairs {
        let search = match self.conv_search {
            ConvSearch::Heuristic => "HEURISTIC",
            ConvSearch::Exhaustive => "EXHAUSTIVE",
            ConvSearch::Default => "DEFAULT",
        };
        let extend = match self.arena_extend {
            ArenaExtend::SameAsRequested => "kSameAsRequested",
            ArenaExtend::NextPowerOfTwo => "kNextPowerOfTwo",
        };
        let mut pairs = vec![("device_id", device.to_string())];
        if let Some(limit) = self.memory_limit {
            pairs.push(("gpu_mem_limit", limit.to_string()));
        }
        pairs.push(("arena_extend_strategy", extend.to_owned()));
        pairs.push(("cudnn_conv_algo_search", search.to_owned()));
        pairs.push(("do_copy_in_default_stream", flag(true)));
        pairs.push(("use_tf32", flag(self.tf32)));
        if self.cuda_graph {
            pairs.push(("enable_cuda_graph", flag(true)));
        }
        pairs
    }
}

/// The shapes an engine is made for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Profile {
    /// Per input with open dimensions: name, then the least, usual and largest shape.
    pub inputs: Vec<(String, [Vec<usize>; 3])>,
}

impl Profile {
    /// For batches of 1 up to `max_batch`, the largest being the usual. `None` for a model of fixed shapes, which needs
    /// none. The error says which dimension nobody can know: such a model stays on CUDA.
    pub fn of_batches(signature: &Signature, max_batch: usize) -> Result<Option<Profile>, String> {
        let mut profile = Profile::default();
        for input in &signature.inputs {
            if let Some(open) = input.shape.iter().skip(1).position(Option::is_none) {
                return Err(format!(
                    "dimension {} of input {:?} is open: an engine needs its range, and only that of dimension 0 is known",
                    open + 1,
                    input.name
                ));
            }
            if input.shape.first().is_some_and(Option::is_none) {
                let shape = |batch: usize| -> Vec<usize> {
                    input.shape.iter().map(|dimension| dimension.unwrap_or(batch)).collect()
                };
                let most = max_batch.max(1);
                profile.inputs.push((input.name.to_string(), [shape(1), shape(most), shape(most)]));
            }
        }
        Ok((!profile.inputs.is_empty()).then_some(profile))
    }

    /// The largest shape of an input; `None` for one that is not in the profile.
    pub fn largest(&self, input: &str) -> Option<&[usize]> {
        self.inputs.iter().find(|(name, _)| name == input).map(|(_, [_, _, largest])| largest.as_slice())
    }

    /// Whether an engine for this profile takes these shapes as it is. `shapes` by input name; what is not listed in
    /// the profile is of fixed shape.
    pub fn takes<'a>(&self, mut shapes: impl Iterator<Item = (&'a str, &'a [usize])>) -> bool {
        shapes.all(|(name, shape)| {
            let Some((_, [least, _, most])) = self.inputs.iter().find(|(input, _)| input == name) else { return true };
            shape.len() == least.len()
                && shape.iter().zip(least.iter().zip(most)).all(|(seen, (least, most))| (least..=most).contains(&seen))
        })
    }

    /// `x:1x3x224x224,y:1x10`
    fn text(&self, which: usize) -> String {
        let mut text = String::new();
        for (name, shapes) in &self.inputs {
            let comma = if text.is_empty() { "" } else { "," };
            let dims = shapes.get(which).map(|shape| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x"));
            let _ = write!(text, "{comma}{name}:{}", dims.unwrap_or_default());
        }
        text
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TensorRtOptions {
    pub fp16: bool,
    pub bf16: bool,
    pub int8: bool,
    /// For `int8` without quantised operators in the model.
    pub int8_calibration_table: Option<String>,
    /// Where engines are kept: a folder of this engine's own key ([`super::engine_cache`]).
    pub engine_cache: Option<PathBuf>,
    /// Where measured kernel timings are kept: engines of other models profit.
    pub timing_cache: Option<PathBuf>,
    /// Requests of up to this many rows are the engine's; the profile follows from it and the model's signature.
    pub max_batch: usize,
    pub profile: Option<Profile>,
    /// Bytes the builder may take. `None`: TensorRT's own limit, which is all.
    pub workspace: Option<u64>,
    /// 0 (fast to build) to 5 (fast to run). `None`: TensorRT's own, 3.
    pub builder_level: Option<u8>,
    /// The deep learning accelerator's core: JetPack 6 on Orin only, with fp16 or int8.
    pub dla_core: Option<u32>,
}

impl TensorRtOptions {
    /// What cannot be had together. The error is one clause.
    pub fn check(&self) -> Result<(), String> {
        if self.dla_core.is_some() && !self.fp16 && !self.int8 {
            return Err("the DLA computes in fp16 or int8 only: choose one of them".into());
        }
        match self.builder_level {
            Some(level) if level > 5 => Err(format!("builder level {level} is out of range: 0 to 5")),
            _ => Ok(()),
        }
    }

    /// For GPU `device`, as CUDA counts them.
    pub fn pairs(&self, device: u32) -> Pairs {
        let mut pairs = vec![("device_id", device.to_string())];
        pairs.extend(self.pairs_that_shape_engines());
        if let Some(folder) = &self.engine_cache {
            pairs.push(("trt_engine_cache_enable", flag(true)));
            pairs.push(("trt_engine_cache_path", folder.display().to_string()));
        }
        if let Some(folder) = &self.timing_cache {
            pairs.push(("trt_timing_cache_enable", flag(true)));
            pairs.push(("trt_timing_cache_path", folder.display().to_string()));
        }
        pairs
    }

    /// Those that change what is in an engine: what its key is made of.
    pub fn pairs_that_shape_engines(&self) -> Pairs {
        let mut pairs = vec![
            ("trt_fp16_enable", flag(self.fp16)),
            ("trt_bf16_enable", flag(self.bf16)),
            ("trt_int8_enable", flag(self.int8)),
        ];
        if let Some(table) = &self.int8_calibration_table {
            pairs.push(("trt_int8_calibration_table_name", table.clone()));
        }
        if let Some(bytes) = self.workspace {
            pairs.push(("trt_max_workspace_size", bytes.to_string()));
        }
        if let Some(level) = self.builder_level {
            pairs.push(("trt_builder_optimization_level", level.to_string()));
        }
        if let Some(profile) = &self.profile {
            pairs.push(("trt_profile_min_shapes", profile.text(0)));
            pairs.push(("trt_profile_opt_shapes", profile.text(1)));
            pairs.push(("trt_profile_max_shapes", profile.text(2)));
        }
        if let Some(core) = self.dla_core {
            pairs.push(("trt_dla_enable", flag(true)));
            pairs.push(("trt_dla_core", core.to_string()));
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use wharf_tensor::DType;
    use wharf_tensor::infer::TensorSpec;

    use super::*;

    fn text(pairs: &Pairs) -> String {
        pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    }

    fn signature(shapes: &[&[Option<usize>]]) -> Signature {
        let inputs = shapes.iter().zip(["x", "y"]).map(|(shape, name)| TensorSpec {
            name: name.into(),
            dtype: DType::Fp32,
            shape: shape.to_vec(),
        });
        Signature { platform: "", inputs: inputs.collect(), outputs: vec![] }
    }

    #[test]
    fn cuda_is_told_in_its_own_words() {
        assert_eq!(
            text(&CudaOptions::default().pairs(0)),
            "device_id=0 arena_extend_strategy=kSameAsRequested cudnn_conv_algo_search=HEURISTIC \
             do_copy_in_default_stream=1 use_tf32=0"
        );
        let options = CudaOptions {
            memory_limit: Some(1 << 30),
            conv_search: ConvSearch::Exhaustive,
            arena_extend: ArenaExtend::NextPowerOfTwo,
            tf32: true,
            cuda_graph: true,
        };
        assert_eq!(
            text(&options.pairs(3)),
            "device_id=3 gpu_mem_limit=1073741824 arena_extend_strategy=kNextPowerOfTwo \
             cudnn_conv_algo_search=EXHAUSTIVE do_copy_in_default_stream=1 use_tf32=1 enable_cuda_graph=1"
        );
    }

    #[test]
    fn tensorrt_is_told_in_its_own_words() {
        assert_eq!(
            text(&TensorRtOptions::default().pairs(0)),
            "device_id=0 trt_fp16_enable=0 trt_bf16_enable=0 trt_int8_enable=0"
        );
        let profile = Profile::of_batches(&signature(&[&[None, Some(3)], &[None]]), 8).unwrap();
        let options = TensorRtOptions {
            fp16: true,
            engine_cache: Some("engines".into()),
            timing_cache: Some("timings".into()),
            profile,
            workspace: Some(1 << 20),
            builder_level: Some(5),
            dla_core: Some(1),
            ..TensorRtOptions::default()
        };
        assert_eq!(
            text(&options.pairs(1)),
            "device_id=1 trt_fp16_enable=1 trt_bf16_enable=0 trt_int8_enable=0 trt_max_workspace_size=1048576 \
             trt_builder_optimization_level=5 trt_profile_min_shapes=x:1x3,y:1 trt_profile_opt_shapes=x:8x3,y:8 \
             trt_profile_max_shapes=x:8x3,y:8 trt_dla_enable=1 trt_dla_core=1 trt_engine_cache_enable=1 \
             trt_engine_cache_path=engines trt_timing_cache_enable=1 trt_timing_cache_path=timings"
        );
        options.check().unwrap();
    }

    #[test]
    fn options_that_exclude_each_other_are_refused() {
        let dla = TensorRtOptions { dla_core: Some(0), ..TensorRtOptions::default() };
        assert_eq!(dla.check().unwrap_err(), "the DLA computes in fp16 or int8 only: choose one of them");
        let level = TensorRtOptions { builder_level: Some(6), ..TensorRtOptions::default() };
        assert_eq!(level.check().unwrap_err(), "builder level 6 is out of range: 0 to 5");
    }

    #[test]
    fn profiles_know_what_they_take() {
        assert_eq!(Profile::of_batches(&signature(&[&[Some(1), Some(3)]]), 8), Ok(None));
        let error = Profile::of_batches(&signature(&[&[None, Some(3), None]]), 8).unwrap_err();
        assert!(error.starts_with("dimension 2 of input \"x\" is open"), "{error}");
        let profile = Profile::of_batches(&signature(&[&[None, Some(3)]]), 8).unwrap().unwrap();
        for (shape, taken) in [(&[1, 3][..], true), (&[8, 3], true), (&[9, 3], false), (&[0, 3], false), (&[1], false)]
        {
            assert_eq!(profile.takes([("x", shape)].into_iter()), taken, "{shape:?}");
        }
    }
}
