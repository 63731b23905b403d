//! Outputs to response bytes: JSON, or JSON followed by raw tensors. Pure: no clock, no I/O.

use std::sync::Arc;

use bytes::Bytes;
use serde::ser::{Error as _, SerializeSeq};
use serde::{Serialize, Serializer};
use wharf_tensor::infer::{InferError, InferErrorKind, Outputs, TensorSpec};
use wharf_tensor::{DType, Element, Tensor};

use super::decode::WantedOutput;

/// One output that the client gets, in the order it gets them.
#[derive(Debug, PartialEq, Eq)]
pub struct Selected {
    name: Arc<str>,
    binary: bool,
}

/// A response: the JSON, and the tensors that follow it (none in a pure JSON answer).
#[derive(Debug)]
pub struct Encoded {
    pub json: Vec<u8>,
    pub raw: Option<Vec<Bytes>>,
}

/// Decide which outputs to return and how, before the model runs for nothing.
pub fn select(
    wanted: &[WantedOutput],
    binary_by_default: bool,
    outputs: &[TensorSpec],
) -> Result<Vec<Selected>, InferError> {
    let select = |spec: &TensorSpec, binary: bool| {
        if !binary && matches!(spec.dtype, DType::Fp16 | DType::Bf16) {
            return Err(InferError::invalid(format!(
                "output {:?}: sending {} data via JSON is not supported, ask for `binary_data`",
                spec.name, spec.dtype
            )));
        }
        Ok(Selected { name: spec.name.clone(), binary })
    };
    if wanted.is_empty() {
        return outputs.iter().map(|spec| select(spec, binary_by_default)).collect();
    }
    let mut selected: Vec<Selected> = Vec::with_capacity(outputs.len());
    for output in wanted {
        let Some(spec) = outputs.iter().find(|spec| *spec.name == output.name) else {
            let known: Vec<String> = outputs.iter().map(|spec| format!("{:?}", spec.name)).collect();
            return Err(InferError::invalid(format!(
                "unknown output {:?}; the model has {}",
                output.name,
                known.join(", ")
            )));
        };
        if selected.iter().any(|earlier| earlier.name == spec.name) {
            return Err(InferError::invalid(format!("output {:?} is asked for twice", output.name)));
        }
        selected.push(select(spec, output.binary.unwrap_or(binary_by_default))?);
    }
    Ok(selected)
}

#[derive(Serialize)]
struct ResponseBody<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<OutputBody<'a>>,
}

#[derive(Serialize)]
struct OutputBody<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<OutputParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Elements<'a>>,
}

#[derive(Serialize)]
struct OutputParameters {
    binary_data_size: usize,
}

pub fn encode(
    model: &str,
    version: &str,
    id: Option<&str>,
    selected: &[Selected],
    outputs: &Outputs,
) -> Result<Encoded, InferError> {
    let mut raw = Vec::new();
    let mut bodies = Vec::with_capacity(selected.len());
    // Bytes of the JSON, about: brackets and names, and some ten characters for a number.
    let mut capacity = 256;
    for Selected { name, binary } in selected {
        let Some((_, tensor)) = outputs.iter().find(|(output, _)| output == name) else {
            let message = format!("model {model:?} did not return output {name:?}");
            return Err(InferError::new(InferErrorKind::Internal, message));
        };
        let (parameters, data) = if *binary {
            raw.push(tensor.data().clone());
            (Some(OutputParameters { binary_data_size: tensor.data().len() }), None)
        } else {
            check_json_form(name, tensor)?;
            capacity += 10 * tensor.len() + tensor.data().len();
            (None, Some(Elements(tensor)))
        };
        let (datatype, shape) = (tensor.dtype().name(), tensor.shape());
        bodies.push(OutputBody { name, datatype, shape, parameters, data });
    }
    let mut json = Vec::with_capacity(capacity);
    let body = ResponseBody { model_name: model, model_version: version, id, outputs: bodies };
    serde_json::to_writer(&mut json, &body).map_err(|error| {
        InferError::new(InferErrorKind::Internal, format!("the answer of model {model:?} has no JSON form: {error}"))
    })?;
    let any_binary = selected.iter().any(|output| output.binary);
    Ok(Encoded { json, raw: any_binary.then_some(raw) })
}

/// JSON has no NaN, no infinity and no bytes that are not UTF-8: say so instead of sending something else.
fn check_json_form(name: &str, tensor: &Tensor) -> Result<(), InferError> {
    let problem = match tensor.dtype() {
        DType::Fp32 => non_finite::<f32>(tensor, |value| !value.is_finite()),
        DType::Fp64 => non_finite::<f64>(tensor, |value| !value.is_finite()),
        DType::Bytes => {
            let elements = tensor.elements().unwrap_or_default();
            let index = elements.iter().position(|element| std::str::from_utf8(element).is_err());
            index.map(|index| format!("element {index} is not UTF-8"))
        }
        DType::Fp16 | DType::Bf16 => Some(format!("sending {} data via JSON is not supported", tensor.dtype())),
        _ => None,
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(InferError::invalid(format!(
            "output {name:?}: {problem}, which JSON cannot express; ask for `binary_data`"
        ))),
    }
}

fn non_finite<T: Element + std::fmt::Display>(tensor: &Tensor, is_wrong: impl Fn(&T) -> bool) -> Option<String> {
    let values = tensor.values::<T>().ok()?;
    values
        .iter()
        .enumerate()
        .find(|(_, value)| is_wrong(value))
        .map(|(index, value)| format!("element {index} is {value}"))
}

/// A tensor's elements as one flat JSON array.
struct Elements<'a>(&'a Tensor);

impl Elements<'_> {
    fn numbers<T: Element + Serialize, S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.values::<T>().map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.dtype() {
            DType::Bool => serializer.collect_seq(self.0.data().iter().map(|byte| *byte != 0)),
            DType::Uint8 => self.numbers::<u8, S>(serializer),
            DType::Uint16 => self.numbers::<u16, S>(serializer),
            DType::Uint32 => self.numbers::<u32, S>(serializer),
            DType::Uint64 => self.numbers::<u64, S>(serializer),
            DType::Int8 => self.numbers::<i8, S>(serializer),
            DType::Int16 => self.numbers::<i16, S>(serializer),
            DType::Int32 => self.numbers::<i32, S>(serializer),
            DType::Int64 => self.numbers::<i64, S>(serializer),
            DType::Fp32 => self.numbers::<f32, S>(serializer),
            DType::Fp64 => self.numbers::<f64, S>(serializer),
            DType::Fp16 | DType::Bf16 => Err(S::Error::custom(format!("{} is sent binary only", self.0.dtype()))),
            DType::Bytes => {
                let elements = self.0.elements().map_err(S::Error::custom)?;
                let mut array = serializer.serialize_seq(Some(elements.len()))?;
                for element in elements {
                    array.serialize_element(std::str::from_utf8(element).map_err(S::Error::custom)?)?;
                }
                array.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(outputs: Vec<(&str, Tensor)>, binary: &[&str]) -> Result<Encoded, InferError> {
        let outputs: Outputs = outputs.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect();
        let select =
            |(name, _): &(Arc<str>, Tensor)| Selected { name: name.clone(), binary: binary.contains(&&**name) };
        encode("m", "1", Some("7"), &outputs.iter().map(select).collect::<Vec<_>>(), &outputs)
    }

    fn json_of(tensor: Tensor) -> String {
        let encoded = answer(vec![("y", tensor)], &[]).unwrap();
        assert!(encoded.raw.is_none());
        String::from_utf8(encoded.json).unwrap()
    }

    #[test]
    fn outputs_are_flat_arrays() {
        assert_eq!(
            json_of(Tensor::from_vec([2, 2], vec![1.0f32, -0.1, 3e20, 4.0]).unwrap()),
            r#"{"model_name":"m","model_version":"1","id":"7","outputs":[{"name":"y","datatype":"FP32","shape":[2,2],"data":[1.0,-0.1,3e+20,4.0]}]}"#
        );
        let ends = |tensor, end: &str| {
            let json = json_of(tensor);
            assert!(json.ends_with(end), "{json}");
        };
        ends(Tensor::new(DType::Bool, [2], vec![1, 0]).unwrap(), r#""data":[true,false]}]}"#);
        ends(Tensor::from_elements([2], &["", "a\"é"]).unwrap(), r#""data":["","a\"é"]}]}"#);
        ends(Tensor::from_vec([1], vec![u64::MAX]).unwrap(), r#""data":[18446744073709551615]}]}"#);
        ends(Tensor::from_vec([1], vec![i64::MIN]).unwrap(), r#""data":[-9223372036854775808]}]}"#);
        ends(Tensor::from_vec([2, 0], Vec::<i8>::new()).unwrap(), r#""shape":[2,0],"data":[]}]}"#);
    }

    #[test]
    fn what_json_cannot_express_is_refused() {
        let refused = |tensor| {
            let error = answer(vec![("y", tensor)], &[]).unwrap_err();
            assert_eq!(error.kind, InferErrorKind::InvalidArgument);
            error.message
        };
        assert_eq!(
            refused(Tensor::from_vec([2], vec![0.0, f32::NAN]).unwrap()),
            "output \"y\": element 1 is NaN, which JSON cannot express; ask for `binary_data`"
        );
        assert!(refused(Tensor::from_vec([1], vec![f64::NEG_INFINITY]).unwrap()).contains("element 0 is -inf"));
        assert!(refused(Tensor::from_elements([1], &[[0xff]]).unwrap()).contains("element 0 is not UTF-8"));
        assert!(refused(Tensor::new(DType::Fp16, [1], vec![0, 0]).unwrap()).contains("FP16"));
        assert!(answer(vec![("y", Tensor::from_vec([1], vec![f32::NAN]).unwrap())], &["y"]).is_ok());
    }

    #[test]
    fn binary_outputs_follow_the_json() {
        let outputs = vec![
            ("a", Tensor::new(DType::Fp16, [1], vec![1, 2]).unwrap()),
            ("b", Tensor::from_vec([1], vec![5i8]).unwrap()),
        ];
        let encoded = answer(outputs, &["a"]).unwrap();
        let json = String::from_utf8(encoded.json).unwrap();
        assert!(json.contains(r#"{"name":"a","datatype":"FP16","shape":[1],"parameters":{"binary_data_size":2}}"#));
        assert!(json.contains(r#"{"name":"b","datatype":"INT8","shape":[1],"data":[5]}"#));
        assert_eq!(encoded.raw.unwrap(), [Bytes::from_static(&[1, 2])]);
    }

    #[test]
    fn outputs_are_chosen_before_the_model_runs() {
        let spec = |name: &str, dtype| TensorSpec { name: name.into(), dtype, shape: vec![None] };
        let specs = [spec("a", DType::Fp32), spec("h", DType::Bf16)];
        let want = |name: &str, binary| WantedOutput { name: name.into(), binary };
        let names = |selected: Vec<Selected>| -> Vec<(String, bool)> {
            selected.into_iter().map(|output| (output.name.to_string(), output.binary)).collect()
        };
        let chosen = select(&[want("h", Some(true)), want("a", None)], false, &specs).unwrap();
        assert_eq!(names(chosen), [("h".to_owned(), true), ("a".to_owned(), false)]);
        let chosen = select(&[want("a", Some(false))], true, &specs).unwrap();
        assert_eq!(names(chosen), [("a".to_owned(), false)]);
        assert_eq!(names(select(&[], true, &specs).unwrap()).len(), 2);
        let refused = |wanted: &[WantedOutput]| select(wanted, false, &specs).unwrap_err().message;
        assert!(refused(&[]).contains("sending BF16 data via JSON is not supported"));
        assert_eq!(refused(&[want("z", None)]), r#"unknown output "z"; the model has "a", "h""#);
        assert_eq!(refused(&[want("a", None), want("a", None)]), r#"output "a" is asked for twice"#);
    }

    #[test]
    fn an_output_the_model_forgot_is_its_fault() {
        let selected = [Selected { name: "y".into(), binary: false }];
        let error = encode("m", "1", None, &selected, &Vec::new()).unwrap_err();
        assert_eq!(error.kind, InferErrorKind::Internal);
    }
}
