//! What the routes compute besides the model: the same steps as the guests in `examples/hello` and
//! `examples/digits`, with the picture code that Wharf itself uses.

use anyhow::Result;
use serde::Serialize;
use wharf_tensor::Tensor;
use wharf_vision::{Filter, Image, Limits, TensorOptions};

use crate::models::INPUT_SHAPE;

/// The tensor that the hello guest makes for every request.
pub fn gradient() -> Vec<f32> {
    (0..INPUT_SHAPE.iter().product::<usize>()).map(|i| (i % 256) as f32 / 255.0).collect()
}

/// One class of a classification.
#[derive(Serialize)]
pub struct Class {
    index: usize,
    probability: f32,
}

impl Class {
    /// Softmax, then the five likeliest, best first.
    pub fn best(logits: Vec<f32>) -> Vec<Class> {
        let mut classes: Vec<Class> =
            softmax(logits).into_iter().enumerate().map(|(index, probability)| Class { index, probability }).collect();
        // The sort is stable: of equals the lower index comes first.
        classes.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        classes.truncate(5);
        classes
    }
}

fn softmax(mut values: Vec<f32>) -> Vec<f32> {
    let largest = values.iter().copied().fold(f32::MIN, f32::max);
    values.iter_mut().for_each(|value| *value = (*value - largest).exp());
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
    values
}

/// The answer of the digits service.
#[derive(Serialize)]
pub struct Digit {
    digit: usize,
    probabilities: Vec<f32>,
}

impl Digit {
    pub fn of(probabilities: Vec<f32>) -> Self {
        let best = probabilities.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        Self { digit: best.map_or(0, |(digit, _)| digit), probabilities }
    }
}

/// JPEG to the classifier's input: 224x224, normalised as for ImageNet.
pub fn classifier_input(bytes: &[u8]) -> Result<Tensor> {
    let limits = Limits::default();
    let options =
        TensorOptions { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225], ..TensorOptions::default() };
    let image = Image::decode(bytes, &limits)?.resize(224, 224, Filter::Bilinear, &limits)?;
    Ok(image.to_tensor(&options, &limits)?)
}
