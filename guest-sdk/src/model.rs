//! [`Model`]: the models of this container, by name.

use crate::bindings::wharf::inference::models;
use crate::bindings::wharf::inference::tensors;
use crate::error::{InferenceError, InferenceErrorKind};
use crate::{Tensor, TensorView};

pub use crate::bindings::wharf::inference::models::{Metadata, TensorMetadata};

type Result<T> = std::result::Result<T, InferenceError>;

/// A model of this container. Opening one is a look-up: the host loads models when the container starts.
///
/// ```no_run
/// # fn answer(image: wharf_guest::Tensor) -> wharf_guest::Result<Vec<f32>> {
/// use wharf_guest::Model;
///
/// let outputs = Model::open("digits")?.run([("image", &image)])?;
/// let probabilities: Vec<f32> = outputs.get("probabilities")?.to_vec()?;
/// # Ok(probabilities)
/// # }
/// ```
#[derive(Debug)]
pub struct Model {
    handle: models::Model,
}

impl Model {
    /// Open a model by the name its file or folder has in the image's `/models`.
    pub fn open(name: &str) -> Result<Self> {
        match models::Model::open(name) {
            Ok(handle) => Ok(Model { handle }),
            Err(error) if error.kind == InferenceErrorKind::NotFound => Err(unknown_model(name, &Model::names())),
            Err(error) => Err(error.into()),
        }
    }

    /// The names of this container's models, sorted.
    pub fn names() -> Vec<String> {
        models::names()
    }

    /// What the model takes and gives.
    pub fn metadata(&self) -> Metadata {
        self.handle.metadata()
    }

    /// Run the model on tensors in the host. Every input must be given once.
    pub fn run<'a>(&self, inputs: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<Outputs> {
        Ok(Outputs::new(self.handle.infer(&handles(inputs))?))
    }

    /// Run the model on numbers in the guest's memory, which the host reads where they lie.
    ///
    /// ```no_run
    /// # fn answer(model: wharf_guest::Model, pixels: Vec<f32>) -> wharf_guest::Result<()> {
    /// use wharf_guest::TensorView;
    ///
    /// let outputs = model.run_slices(&[("x", TensorView::new(&[1, 3, 224, 224], &pixels))])?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_slices(&self, inputs: &[(&str, TensorView<'_>)]) -> Result<Outputs> {
        let inputs: Vec<models::TensorData> = inputs
            .iter()
            .map(|(name, view)| models::TensorData {
                name,
                datatype: view.datatype,
                shape: view.shape,
                data: view.bytes,
            })
            .collect();
        Ok(Outputs::new(self.handle.infer_data(&inputs)?))
    }

    /// Start the model and go on: several may run at the same time.
    pub fn start<'a>(&self, inputs: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<Pending> {
        Ok(Pending { handle: self.handle.start(&handles(inputs))? })
    }
}

fn handles<'a>(inputs: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Vec<(&'a str, &'a tensors::Tensor)> {
    inputs.into_iter().map(|(name, tensor)| (name, tensor.handle())).collect()
}

fn unknown_model(name: &str, known: &[String]) -> InferenceError {
    let known = match known {
        [] => "none".to_owned(),
        known => format!("`{}`", known.join("`, `")),
    };
    let message = format!("this container has no model `{name}`, it has {known}");
    InferenceError::new(InferenceErrorKind::NotFound, message)
}

/// A running inference. Dropping it cancels it.
#[derive(Debug)]
pub struct Pending {
    handle: models::Pending,
}

impl Pending {
    /// Whether [`finish`](Pending::finish) would return at once.
    pub fn is_ready(&self) -> bool {
        self.handle.subscribe().ready()
    }

    /// Wait for the outputs.
    pub fn finish(self) -> Result<Outputs> {
        Ok(Outputs::new(self.handle.finish()?))
    }
}

/// What a model gave: named tensors, in the model's order.
#[derive(Debug)]
pub struct Outputs(Vec<(String, Tensor)>);

impl Outputs {
    fn new(outputs: Vec<(String, tensors::Tensor)>) -> Self {
        Outputs(outputs.into_iter().map(|(name, handle)| (name, Tensor::from_handle(handle))).collect())
    }

    /// An output by name.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.iter().find(|(known, _)| *known == name).map(|(_, tensor)| tensor).ok_or_else(|| {
            let known: Vec<&str> = self.iter().map(|(name, _)| name).collect();
            unknown_output(name, &known)
        })
    }

    /// The first output, for models that have one.
    pub fn first(&self) -> Result<&Tensor> {
        self.0
            .first()
            .map(|(_, tensor)| tensor)
            .ok_or_else(|| InferenceError::new(InferenceErrorKind::NotFound, "the model gave no output"))
    }

    /// All outputs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
}

fn unknown_output(name: &str, known: &[&str]) -> InferenceError {
    let message = format!("the model has no output `{name}`, it has `{}`", known.join("`, `"));
    InferenceError::new(InferenceErrorKind::NotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn a_wrong_name_is_the_services_fault_and_names_the_right_ones() {
        let error = Error::from(unknown_model("digit", &["digits".into(), "faces".into()]));
        assert_eq!(error.status(), 500);
        assert_eq!(error.message(), "this container has no model `digit`, it has `digits`, `faces`");
        assert_eq!(unknown_model("a", &[]).message, "this container has no model `a`, it has none");
        assert_eq!(unknown_output("p", &["q"]).message, "the model has no output `p`, it has `q`");
    }
}
