//! The two models of the benchmark. MobileNetV2's structure with random weights costs what the real one
//! costs; the near-free model makes everything around the model visible. Both are the same bytes on every
//! machine: the weights come from a seeded generator.

use crate::onnx::{Attribute, Graph};

/// Name, size and shape the servers agree on.
pub const INPUT_SHAPE: [usize; 4] = [1, 3, 224, 224];
pub const CLASSES: usize = 1000;

/// (expansion, output channels, repeats, stride of the first): table 2 of the MobileNetV2 paper.
const STAGES: [(usize, usize, usize, usize); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];
const STEM_CHANNELS: usize = 32;
const LAST_CHANNELS: usize = 1280;

/// `[1, 3, 224, 224]` to `[1, 1000]` logits, 3.5 million weights, 14 MB.
pub fn mobilenet() -> Vec<u8> {
    let mut network = Network::new();
    network.graph.floats("zero", &[], &[0.0]);
    network.graph.floats("six", &[], &[6.0]);

    let mut last = network.convolution("input", 3, STEM_CHANNELS, 3, 2, 1, true);
    let mut channels = STEM_CHANNELS;
    for (expansion, output, repeats, first_stride) in STAGES {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { first_stride } else { 1 };
            last = network.inverted_residual(&last, channels, output, expansion, stride);
            channels = output;
        }
    }
    last = network.convolution(&last, channels, LAST_CHANNELS, 1, 1, 1, true);
    network.classifier(&last, LAST_CHANNELS);
    network.graph.finish("mobilenet", &INPUT_SHAPE, &[1, CLASSES])
}

/// `[1, 3, 224, 224]` to the mean of eight pixels of each channel, `[1, 3]`: almost no work, the whole
/// 602,112-byte input.
pub fn near_free() -> Vec<u8> {
    let mut graph = Graph::default();
    graph.ints("starts", &[0, 0]);
    graph.ints("ends", &[1, 8]);
    graph.ints("axes", &[2, 3]);
    graph.node("Slice", &["input", "starts", "ends", "axes"], "corner", &[]);
    let over_pixels = [Attribute::Ints("axes", &[2, 3]), Attribute::Int("keepdims", 0)];
    graph.node("ReduceMean", &["corner"], "output", &over_pixels);
    graph.finish("tensor", &INPUT_SHAPE, &[1, 3])
}

struct Network {
    graph: Graph,
    random: Random,
    layers: usize,
}

impl Network {
    fn new() -> Self {
        Self { graph: Graph::default(), random: Random(0x57_48_41_52_46), layers: 0 }
    }

    fn name(&mut self) -> String {
        self.layers += 1;
        format!("layer{}", self.layers)
    }

    /// Uniform weights whose variance is `gain / fan_in`: activations keep their size through the network.
    fn weights(&mut self, name: &str, shape: &[usize], fan_in: usize, gain: f32) {
        let bound = (3.0 * gain / fan_in as f32).sqrt();
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.random.symmetric() * bound).collect();
        self.graph.floats(name, shape, &values);
    }

    /// A convolution with bias and, if `relu6`, a clip to 0..6. `groups` is 1 or the number of channels.
    #[expect(clippy::too_many_arguments, reason = "these are the attributes of a convolution")]
    fn convolution(
        &mut self,
        input: &str,
        from: usize,
        to: usize,
        kernel: usize,
        stride: usize,
        groups: usize,
        relu6: bool,
    ) -> String {
        let name = self.name();
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let fan_in = from / groups * kernel * kernel;
        // ReLU halves the variance; a linear projection does not.
        self.weights(&weight, &[to, from / groups, kernel, kernel], fan_in, if relu6 { 2.0 } else { 1.0 });
        self.weights(&bias, &[to], 1, 0.01);
        let (kernel, stride, padding) = (kernel as i64, stride as i64, (kernel / 2) as i64);
        self.graph.node(
            "Conv",
            &[input, &weight, &bias],
            &name,
            &[
                Attribute::Ints("kernel_shape", &[kernel, kernel]),
                Attribute::Ints("strides", &[stride, stride]),
                Attribute::Ints("pads", &[padding; 4]),
                Attribute::Int("group", groups as i64),
            ],
        );
        if !relu6 {
            return name;
        }
        let clipped = format!("{name}.relu6");
        self.graph.node("Clip", &[&name, "zero", "six"], &clipped, &[]);
        clipped
    }

    fn inverted_residual(&mut self, input: &str, from: usize, to: usize, expansion: usize, stride: usize) -> String {
        let hidden = from * expansion;
        let expanded =
            if expansion == 1 { input.to_owned() } else { self.convolution(input, from, hidden, 1, 1, 1, true) };
        let filtered = self.convolution(&expanded, hidden, hidden, 3, stride, hidden, true);
        let projected = self.convolution(&filtered, hidden, to, 1, 1, 1, false);
        if stride != 1 || from != to {
            return projected;
        }
        let sum = self.name();
        self.graph.node("Add", &[input, &projected], &sum, &[]);
        sum
    }

    fn classifier(&mut self, input: &str, channels: usize) {
        self.graph.node("GlobalAveragePool", &[input], "pooled", &[]);
        self.graph.node("Flatten", &["pooled"], "features", &[Attribute::Int("axis", 1)]);
        // The gain spreads the logits, so that the top five are classes and not a matter of rounding.
        self.weights("classifier.weight", &[CLASSES, channels], channels, 4.0);
        self.weights("classifier.bias", &[CLASSES], 1, 0.01);
        let attributes = [Attribute::Float("alpha", 1.0), Attribute::Float("beta", 1.0), Attribute::Int("transB", 1)];
        self.graph.node("Gemm", &["features", "classifier.weight", "classifier.bias"], "output", &attributes);
    }
}

/// SplitMix64: four lines, and the same numbers everywhere.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in -1..1.
    pub fn symmetric(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::{Environment, Sessions, Setting};

    /// Without ONNX Runtime there is nothing to check the files with; the run says so loudly.
    fn outputs(model: &[u8], inputs: &[Vec<f32>]) -> Option<Vec<Vec<f32>>> {
        let Some(library) = std::env::var_os("ORT_DYLIB_PATH") else {
            eprintln!("SKIPPED: ORT_DYLIB_PATH is not set, the model was not run");
            return None;
        };
        let environment = Environment::load(library.as_ref()).unwrap();
        let sessions = Sessions::from_bytes(environment, model, Setting::PerCore).unwrap();
        Some(inputs.iter().map(|input| sessions.run_now(&INPUT_SHAPE, input).unwrap()).collect())
    }

    fn noise(seed: u64) -> Vec<f32> {
        let mut random = Random(seed);
        (0..INPUT_SHAPE.iter().product()).map(|_| random.symmetric()).collect()
    }

    #[test]
    fn mobilenet_has_the_size_of_the_real_one() {
        let megabytes = mobilenet().len() as f64 / 1e6;
        assert!((13.5..14.5).contains(&megabytes), "{megabytes} MB");
    }

    #[test]
    fn mobilenet_runs_and_tells_inputs_apart() {
        let Some(results) = outputs(&mobilenet(), &[noise(1), vec![0.5; 150_528]]) else { return };
        for logits in &results {
            assert_eq!(logits.len(), CLASSES);
            assert!(logits.iter().all(|v| v.is_finite()));
        }
        let spread =
            |v: &[f32]| v.iter().copied().fold(f32::MIN, f32::max) - v.iter().copied().fold(f32::MAX, f32::min);
        assert!((1.0..100.0).contains(&spread(&results[0])), "spread of logits {}", spread(&results[0]));
        assert_ne!(results[0], results[1]);
    }

    #[test]
    fn near_free_averages_the_corner() {
        let Some(results) = outputs(&near_free(), &[vec![0.25; 150_528]]) else { return };
        assert_eq!(results[0], [0.25; 3]);
    }
}
