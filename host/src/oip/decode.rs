//! Request bytes to a request: JSON, JSON followed by raw tensors, or raw bytes only. Pure: no clock, no I/O.
//!
//! Every refusal is the caller's fault and names the member. Nothing is allocated because a number in the
//! request says so; only what the body really holds takes memory.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use wharf_tensor::infer::{InferError, Signature};
use wharf_tensor::{DType, Tensor};

use super::elements;

/// An inference request, checked as far as that is possible without the model.
#[derive(Debug)]
pub struct Decoded {
    pub id: Option<String>,
    pub inputs: Vec<(String, Tensor)>,
    /// In the order asked; empty means all, in the model's order.
    pub outputs: Vec<WantedOutput>,
    /// How outputs travel that do not say so themselves.
    pub binary_by_default: bool,
    pub timeout: Option<Duration>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct WantedOutput {
    pub name: String,
    pub binary: Option<bool>,
}

// `data` is kept as text until the datatype is known, wherever the client put that member.
#[derive(Deserialize)]
struct RequestBody<'a> {
    id: Option<String>,
    #[serde(default)]
    parameters: Option<RequestParameters>,
    #[serde(borrow)]
    inputs: Vec<InputBody<'a>>,
    #[serde(default)]
    outputs: Option<Vec<OutputBody>>,
}

#[derive(Default, Deserialize)]
struct RequestParameters {
    #[serde(default)]
    binary_data_output: Option<bool>,
    /// Microseconds; 0 is the server's own.
    #[serde(default)]
    timeout: Option<u64>,
}

#[derive(Deserialize)]
struct InputBody<'a> {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(borrow, default)]
    parameters: Option<InputParameters<'a>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct InputParameters<'a> {
    #[serde(default)]
    binary_data_size: Option<usize>,
    #[serde(borrow, default)]
    shared_memory_region: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OutputBody {
    name: String,
    #[serde(default)]
    parameters: Option<OutputParameters>,
}

#[derive(Default, Deserialize)]
struct OutputParameters {
    #[serde(default)]
    binary_data: Option<bool>,
    #[serde(default)]
    classification: Option<u64>,
}

/// `json_length` is the header `Inference-Header-Content-Length`: how many bytes of the body are JSON. Without
/// it all are. Zero means a request without JSON, see [`decode_raw`].
pub fn decode(body: &Bytes, json_length: Option<usize>) -> Result<Decoded, InferError> {
    let length = json_length.unwrap_or(body.len());
    let Some((json, _)) = body.split_at_checked(length) else {
        return Err(InferError::invalid(format!(
            "Inference-Header-Content-Length is {length}, but the body has only {} bytes",
            body.len()
        )));
    };
    if json.is_empty() {
        return Err(InferError::invalid("the body is empty; send a JSON object with `inputs`"));
    }
    let request: RequestBody<'_> = serde_json::from_slice(json)
        .map_err(|error| InferError::invalid(format!("the body is not an inference request: {error}")))?;

    let mut raw = RawTail { bytes: body.slice(length..), announced: json_length.is_some() };
    let mut inputs: Vec<(String, Tensor)> = Vec::with_capacity(request.inputs.len());
    for input in request.inputs {
        let tensor = tensor(&input, &mut raw)
            .map_err(|problem| InferError::invalid(format!("input {:?}: {problem}", input.name)))?;
        inputs.push((input.name, tensor));
    }
    if !raw.bytes.is_empty() {
        let surplus = raw.bytes.len();
        return Err(InferError::invalid(format!(
            "unexpected additional input data: {surplus} bytes after the last tensor"
        )));
    }

    let parameters = request.parameters.unwrap_or_default();
    Ok(Decoded {
        id: request.id,
        inputs,
        outputs: request.outputs.unwrap_or_default().into_iter().map(wanted).collect::<Result<_, _>>()?,
        binary_by_default: parameters.binary_data_output.unwrap_or(false),
        timeout: parameters.timeout.filter(|micros| *micros > 0).map(Duration::from_micros),
    })
}

/// The bytes after the JSON, taken from the front by one binary input after the other.
struct RawTail {
    bytes: Bytes,
    /// Whether the client said where the JSON ends; otherwise there can be no tail.
    announced: bool,
}

impl RawTail {
    fn take(&mut self, size: usize) -> Result<Bytes, String> {
        if !self.announced {
            return Err("`binary_data_size` needs the header Inference-Header-Content-Length".into());
        }
        if size > self.bytes.len() {
            let (missing, left) = (size - self.bytes.len(), self.bytes.len());
            return Err(format!(
                "expecting {missing} additional bytes: `binary_data_size` is {size}, {left} are left in the body"
            ));
        }
        Ok(self.bytes.split_to(size))
    }
}

fn tensor(input: &InputBody<'_>, raw: &mut RawTail) -> Result<Tensor, String> {
    let dtype = DType::from_name(&input.datatype).ok_or_else(|| {
        let known = DType::ALL.map(DType::name).join(", ");
        format!("datatype {:?} is not known; the datatypes are {known}", input.datatype)
    })?;
    let shape = shape(&input.shape)?;
    let parameters = input.parameters.as_ref();
    if parameters.is_some_and(|parameters| parameters.shared_memory_region.is_some()) {
        return Err("shared memory is not supported; send `data` or `binary_data_size`".into());
    }
    match (input.data, parameters.and_then(|parameters| parameters.binary_data_size)) {
        (Some(_), Some(_)) => Err("has both `data` and `binary_data_size`; give one".into()),
        (None, None) => Err("has neither `data` nor `binary_data_size`".into()),
        (Some(data), None) => elements::parse(dtype, shape, data.get()),
        (None, Some(size)) => {
            let bytes = raw.take(size)?;
            Tensor::new(dtype, shape, bytes).map_err(|error| error.to_string())
        }
    }
}

fn shape(dims: &[i64]) -> Result<Vec<usize>, String> {
    let dim = |(index, dim): (usize, &i64)| {
        usize::try_from(*dim)
            .map_err(|_| format!("`shape`[{index}] is {dim}; a request states every dimension, 0 or more"))
    };
    dims.iter().enumerate().map(dim).collect()
}

fn wanted(output: OutputBody) -> Result<WantedOutput, InferError> {
    let parameters = output.parameters.unwrap_or_default();
    if parameters.classification.is_some_and(|k| k > 0) {
        return Err(InferError::invalid(format!(
            "output {:?}: `classification` is not supported; ask for the scores",
            output.name
        )));
    }
    Ok(WantedOutput { name: output.name, binary: parameters.binary_data })
}

/// A body of tensor bytes only, for a model whose one input's shape follows from their number. All outputs
/// are returned binary.
pub fn decode_raw(body: Bytes, signature: &Signature) -> Result<Decoded, InferError> {
    let [input] = signature.inputs.as_slice() else {
        return Err(InferError::invalid(format!(
            "a raw request needs a model with one input, this one has {}",
            signature.inputs.len()
        )));
    };
    let refuse = |problem: String| InferError::invalid(format!("raw request for input {:?}: {problem}", input.name));
    let tensor = match input.dtype.size() {
        None => bytes_element(&body, &input.shape).map_err(refuse)?,
        Some(size) => {
            let shape = deduce_shape(&input.shape, size, body.len()).map_err(refuse)?;
            Tensor::new(input.dtype, shape, body).map_err(|error| refuse(error.to_string()))?
        }
    };
    Ok(Decoded {
        id: None,
        inputs: vec![(input.name.to_string(), tensor)],
        outputs: Vec::new(),
        binary_by_default: true,
        timeout: None,
    })
}

/// The whole body is the one element, without a length before it.
fn bytes_element(body: &Bytes, shape: &[Option<usize>]) -> Result<Tensor, String> {
    if shape.iter().any(|dim| dim.is_some_and(|dim| dim != 1)) {
        return Err(format!("BYTES needs a shape with one element, the model's is {}", wire_shape(shape)));
    }
    Tensor::from_elements(vec![1; shape.len()], &[body]).map_err(|error| error.to_string())
}

/// A leading open dimension counts as a batch of 1; of the others at most one may be open, and takes what is left.
fn deduce_shape(model: &[Option<usize>], size: usize, bytes: usize) -> Result<Vec<usize>, String> {
    let mut shape: Vec<Option<usize>> = model.to_vec();
    let open = shape.iter().filter(|dim| dim.is_none()).count();
    if open > 1
        && let Some(batch @ None) = shape.first_mut()
    {
        *batch = Some(1);
    }
    if shape.iter().filter(|dim| dim.is_none()).count() > 1 {
        return Err(format!("the shape {} has several open dimensions", wire_shape(model)));
    }
    let known = shape
        .iter()
        .flatten()
        .try_fold(size, |product, dim| product.checked_mul(*dim))
        .ok_or_else(|| format!("the shape {} is too large", wire_shape(model)))?;
    let left = bytes.checked_div(known).unwrap_or(0);
    if left.checked_mul(known) != Some(bytes) {
        return Err(format!("{bytes} bytes do not fit the shape {} of {known}-byte rows", wire_shape(model)));
    }
    Ok(shape.into_iter().map(|dim| dim.unwrap_or(left)).collect())
}

/// As the protocol writes it: -1 for an open dimension.
fn wire_shape(shape: &[Option<usize>]) -> String {
    let dims: Vec<String> = shape.iter().map(|dim| dim.map_or("-1".into(), |dim| dim.to_string())).collect();
    format!("[{}]", dims.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_tensor::infer::TensorSpec;

    fn json(text: &str) -> Result<Decoded, InferError> {
        decode(&Bytes::copy_from_slice(text.as_bytes()), None)
    }

    fn refused(text: &str) -> String {
        json(text).unwrap_err().message
    }

    /// A request with one INT8 input `x` of shape [2] and these further members.
    fn binary(parameters: &str, tail: &[u8]) -> Result<Decoded, InferError> {
        let head = format!(r#"{{"inputs":[{{"name":"x","shape":[2],"datatype":"INT8",{parameters}}}]}}"#);
        let body = Bytes::from([head.as_bytes(), tail].concat());
        decode(&body, Some(head.len()))
    }

    #[test]
    fn members_come_in_any_order_and_unknown_ones_are_ignored() {
        let request = json(
            r#"{"model_name":"m","outputs":[{"name":"b"},{"name":"a","parameters":{"binary_data":true,"z":{}}}],
                "inputs":[{"data":[[1,2]],"extra":[1,{"a":[]}],"datatype":"INT16","shape":[1,2],"name":"x"}],
                "parameters":{"timeout":1500,"priority":1,"custom":"y","nested":{"a":1}},"id":"42"}"#,
        )
        .unwrap();
        assert_eq!(request.id.as_deref(), Some("42"));
        assert_eq!(request.timeout, Some(Duration::from_micros(1500)));
        assert!(!request.binary_by_default);
        let (name, tensor) = &request.inputs[0];
        assert_eq!((name.as_str(), tensor.values::<i16>().unwrap().as_ref()), ("x", [1, 2].as_slice()));
        let outputs: Vec<_> = request.outputs.iter().map(|o| (o.name.as_str(), o.binary)).collect();
        assert_eq!(outputs, [("b", None), ("a", Some(true))]);
    }

    #[test]
    fn nulls_and_absent_members_mean_nothing_asked() {
        let request = json(r#"{"id":null,"parameters":null,"inputs":[],"outputs":null}"#).unwrap();
        assert!(request.id.is_none() && request.timeout.is_none() && request.outputs.is_empty());
        assert_eq!(json(r#"{"inputs":[],"parameters":{"timeout":0}}"#).unwrap().timeout, None);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert_eq!(refused(""), "the body is empty; send a JSON object with `inputs`");
        for (text, problem) in [
            ("{", "EOF while parsing"),
            ("[1]", "the body is not an inference request"),
            ("\u{1}\u{2}", "expected value"),
            ("{}", "missing field `inputs`"),
            (r#"{"inputs":[]} x"#, "trailing characters"),
            (r#"{"inputs":{}}"#, "expected a sequence"),
            (r#"{"inputs":[],"inputs":[]}"#, "duplicate field `inputs`"),
            (r#"{"inputs":[],"id":7}"#, "expected a string"),
            (r#"{"inputs":[],"parameters":{"timeout":"soon"}}"#, "expected u64"),
            (r#"{"inputs":[],"parameters":{"timeout":-1}}"#, "expected u64"),
            (r#"{"inputs":[{"shape":[1],"datatype":"INT8","data":[1]}]}"#, "missing field `name`"),
            (r#"{"inputs":[{"name":"x","datatype":"INT8","data":[1]}]}"#, "missing field `shape`"),
            (r#"{"inputs":[{"name":"x","shape":[1],"data":[1]}]}"#, "missing field `datatype`"),
            (r#"{"inputs":[{"name":"x","shape":[1.5],"datatype":"INT8","data":[1]}]}"#, "floating point"),
            (r#"{"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1,]}]}"#, "line 1 column"),
            (r#"{"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[NaN]}]}"#, "line 1 column"),
        ] {
            let message = refused(text);
            assert!(message.contains(problem), "{text}: {message}");
        }
    }

    #[test]
    fn wrong_tensors_are_refused_by_name() {
        for (input, problem) in [
            (r#""shape":[-1],"datatype":"INT8","data":[1]"#, "`shape`[0] is -1"),
            (
                r#""shape":[1],"datatype":"int8","data":[1]"#,
                r#"datatype "int8" is not known; the datatypes are BOOL, "#,
            ),
            (r#""shape":[1],"datatype":"INT8""#, "has neither `data` nor `binary_data_size`"),
            (r#""shape":[1],"datatype":"INT8","data":null"#, "has neither `data` nor `binary_data_size`"),
            (r#""shape":[1],"datatype":"INT8","data":[300]"#, "`data` element 0 is 300; INT8 takes"),
            (r#""shape":[1],"datatype":"INT8","data":{}"#, "is an object"),
            (r#""shape":[1],"datatype":"INT8","parameters":{"binary_data_size":1}"#, "needs the header Inference-"),
            (r#""shape":[1],"datatype":"INT8","parameters":{"shared_memory_region":"r"}"#, "shared memory is not"),
        ] {
            let message = refused(&format!(r#"{{"inputs":[{{"name":"x",{input}}}]}}"#));
            assert!(message.starts_with("input \"x\": ") && message.contains(problem), "{input}: {message}");
        }
        let message = refused(r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":3}}]}"#);
        assert_eq!(message, "output \"y\": `classification` is not supported; ask for the scores");
    }

    #[test]
    fn binary_inputs_follow_the_json_in_order() {
        let head = r#"{"inputs":[
            {"name":"a","shape":[2],"datatype":"FP16","parameters":{"binary_data_size":4}},
            {"name":"b","shape":[1],"datatype":"INT8","data":[7]},
            {"name":"c","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":9}},
            {"name":"d","shape":[0,3],"datatype":"FP32","parameters":{"binary_data_size":0}}],
            "parameters":{"binary_data_output":true}}"#;
        let tail = [1u8, 2, 3, 4, 0, 0, 0, 0, 1, 0, 0, 0, b'z'];
        let body = Bytes::from([head.as_bytes(), &tail].concat());
        let request = decode(&body, Some(head.len())).unwrap();
        assert!(request.binary_by_default);
        let tensors: Vec<_> = request.inputs.iter().map(|(_, tensor)| tensor).collect();
        assert_eq!(tensors[0].data().as_ref(), [1, 2, 3, 4]);
        assert_eq!(tensors[1].data().as_ref(), [7]);
        assert_eq!(tensors[2].elements().unwrap(), [b"".as_slice(), b"z"]);
        assert!(tensors[3].is_empty());
    }

    #[test]
    fn wrong_binary_sizes_are_refused() {
        let refused = |parameters: &str, tail: &[u8]| binary(parameters, tail).unwrap_err().message;
        let two = r#""parameters":{"binary_data_size":2}"#;
        assert!(binary(two, &[1, 2]).is_ok());
        assert!(refused(two, &[1]).contains("expecting 1 additional bytes"));
        assert!(refused(two, &[1, 2, 3]).contains("unexpected additional input data: 1 bytes"));
        assert!(refused(r#""parameters":{"binary_data_size":3}"#, &[1, 2, 3]).contains("needs 2 bytes, got 3"));
        assert!(refused(r#""parameters":{"binary_data_size":-1}"#, &[]).contains("expected usize"));
        assert!(refused(r#""data":[1,2],"parameters":{"binary_data_size":2}"#, &[1, 2]).contains("has both"));
        let error = decode(&Bytes::from_static(b"{}"), Some(3)).unwrap_err();
        assert_eq!(error.message, "Inference-Header-Content-Length is 3, but the body has only 2 bytes");
    }

    fn signature(dtype: DType, shapes: &[&[Option<usize>]]) -> Signature {
        let spec = |shape: &&[Option<usize>]| TensorSpec { name: "x".into(), dtype, shape: shape.to_vec() };
        Signature { platform: "onnx_onnxv1", inputs: shapes.iter().map(spec).collect(), outputs: vec![] }
    }

    #[test]
    fn a_raw_body_takes_the_models_shape() {
        let shape_of = |dtype, shape: &[Option<usize>], bytes| {
            decode_raw(Bytes::from(vec![0; bytes]), &signature(dtype, &[shape])).map(|r| r.inputs[0].1.shape().to_vec())
        };
        assert_eq!(shape_of(DType::Fp32, &[Some(1), Some(3)], 12).unwrap(), [1, 3]);
        assert_eq!(shape_of(DType::Fp32, &[None, Some(3)], 24).unwrap(), [2, 3]);
        assert_eq!(shape_of(DType::Fp32, &[None, None], 12).unwrap(), [1, 3]);
        assert_eq!(shape_of(DType::Bytes, &[None], 5).unwrap(), [1]);
        let refused = |dtype, shape: &[Option<usize>], bytes| shape_of(dtype, shape, bytes).unwrap_err().message;
        assert!(refused(DType::Fp32, &[Some(1), Some(3)], 11).contains("11 bytes do not fit"));
        assert!(refused(DType::Fp32, &[Some(1), Some(3)], 24).contains("needs 12 bytes, got 24"));
        assert!(refused(DType::Fp32, &[None, None, None], 12).contains("[-1, -1, -1] has several open dimensions"));
        assert!(refused(DType::Bytes, &[Some(2)], 5).contains("one element"));
        assert!(refused(DType::Fp32, &[Some(usize::MAX), Some(2)], 5).contains("too large"));
        assert!(refused(DType::Fp32, &[Some(0), None], 5).contains("do not fit"));
        let two = signature(DType::Int8, &[&[None], &[None]]);
        assert!(decode_raw(Bytes::new(), &two).unwrap_err().message.contains("one input, this one has 2"));
    }
}
