//! What a model takes and gives, and the check of a request against it. Every refusal names the model, the
//! input, what was seen and what was expected.

use std::fmt::Write as _;
use std::sync::Arc;

use ort::session::Session;
use ort::value::{Outlet, ValueType};
use wharf_tensor::infer::{InferError, Signature, TensorSpec};
use wharf_tensor::tensor::element_count;

use super::convert::{InputRef, dtype_of};

/// The name Open Inference gives to ONNX files.
const PLATFORM: &str = "onnx_onnxv1";

/// Read a session's signature. The error is one clause: which input or output cannot be served, and why.
pub fn read(session: &Session) -> Result<Signature, String> {
    let read = |kind: &str, outlets: &[Outlet]| -> Result<Vec<TensorSpec>, String> {
        outlets.iter().map(|outlet| spec(outlet).map_err(|e| format!("{kind} {:?} {e}", outlet.name()))).collect()
    };
    let inputs = read("input", session.inputs())?;
    let outputs = read("output", session.outputs())?;
    Ok(Signature { platform: PLATFORM, inputs, outputs })
}

fn spec(outlet: &Outlet) -> Result<TensorSpec, String> {
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => {
            let dtype =
                dtype_of(*ty).ok_or_else(|| format!("has element type {ty}, which Open Inference cannot carry"))?;
            // A negative dimension is one the model leaves open.
            let shape = shape.iter().map(|dim| usize::try_from(*dim).ok()).collect();
            Ok(TensorSpec { name: Arc::from(outlet.name()), dtype, shape })
        }
        other => Err(format!(
            "is {other}, only tensors can be served: export the model without it (for scikit-learn: zipmap=False)"
        )),
    }
}

/// Whether dimension 0 of every input and output is open, so that requests can be joined along it.
pub fn is_batchable(signature: &Signature) -> bool {
    !signature.inputs.is_empty()
        && signature.inputs.iter().chain(&signature.outputs).all(|spec| spec.shape.first() == Some(&None))
}

/// Check a request; for each input of the model, in its order, the position of the one that was given.
pub fn check(model: &str, signature: &Signature, given: &[InputRef<'_>]) -> Result<Vec<usize>, InferError> {
    let refuse = |text: String| InferError::invalid(format!("model {model:?}: {text}"));
    for (position, input) in given.iter().enumerate() {
        if !signature.inputs.iter().any(|spec| *spec.name == *input.name) {
            return Err(refuse(format!("no input {:?}, the inputs are {}", input.name, listed(&signature.inputs))));
        }
        if given.iter().take(position).any(|earlier| earlier.name == input.name) {
            return Err(refuse(format!("input {:?} is given twice", input.name)));
        }
    }
    let mut order = Vec::with_capacity(signature.inputs.len());
    for spec in &signature.inputs {
        let position = given
            .iter()
            .position(|input| *input.name == *spec.name)
            .ok_or_else(|| refuse(format!("input {} is missing", described(spec))))?;
        if let Some(input) = given.get(position) {
            check_one(spec, input).map_err(|text| refuse(format!("input {:?} {text}", input.name)))?;
        }
        order.push(position);
    }
    Ok(order)
}

fn check_one(spec: &TensorSpec, input: &InputRef<'_>) -> Result<(), String> {
    if spec.dtype != input.dtype {
        return Err(format!("is {}, expected {}", input.dtype, spec.dtype));
    }
    if spec.shape.len() != input.shape.len() {
        let (seen, wanted) = (input.shape.len(), spec.shape.len());
        return Err(format!(
            "has shape {:?} ({seen} dimensions), expected {} ({wanted})",
            input.shape,
            dims(&spec.shape)
        ));
    }
    for (index, (wanted, seen)) in spec.shape.iter().zip(input.shape).enumerate() {
        if wanted.is_some_and(|wanted| wanted != *seen) {
            return Err(format!(
                "has shape {:?}, expected {}: dimension {index} differs",
                input.shape,
                dims(&spec.shape)
            ));
        }
    }
    let count = element_count(input.shape).map_err(|error| format!("cannot be: {error}"))?;
    if let Some(size) = input.dtype.size()
        && count.checked_mul(size) != Some(input.data.len())
    {
        let seen = input.data.len();
        return Err(format!(
            "has {seen} bytes, shape {:?} of {} needs {}",
            input.shape,
            input.dtype,
            count.saturating_mul(size)
        ));
    }
    Ok(())
}

fn listed(specs: &[TensorSpec]) -> String {
    specs.iter().map(described).collect::<Vec<_>>().join(", ")
}

fn described(spec: &TensorSpec) -> String {
    format!("{:?} ({} {})", spec.name, spec.dtype, dims(&spec.shape))
}

/// `[-1, 3]`: open dimensions as the protocol writes them.
fn dims(shape: &[Option<usize>]) -> String {
    let mut text = String::from("[");
    for (index, dim) in shape.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = match dim {
            Some(dim) => write!(text, "{comma}{dim}"),
            None => write!(text, "{comma}-1"),
        };
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use wharf_tensor::DType;

    use super::*;

    fn signature() -> Signature {
        let spec = |name: &str| TensorSpec { name: name.into(), dtype: DType::Fp32, shape: vec![None, Some(3)] };
        Signature { platform: PLATFORM, inputs: vec![spec("a"), spec("b")], outputs: vec![spec("sum")] }
    }

    fn refusal(given: &[(&str, DType, &[usize], usize)]) -> String {
        let zeros = [0u8; 64];
        let given: Vec<_> = given
            .iter()
            .map(|(name, dtype, shape, bytes)| InputRef { name, dtype: *dtype, shape, data: &zeros[..*bytes] })
            .collect();
        check("adder", &signature(), &given).unwrap_err().message
    }

    #[test]
    fn inputs_may_come_in_any_order() {
        let data = [0u8; 12];
        let input = |name| InputRef { name, dtype: DType::Fp32, shape: &[1, 3], data: &data };
        assert_eq!(check("adder", &signature(), &[input("b"), input("a")]).unwrap(), [1, 0]);
        assert!(is_batchable(&signature()));
    }

    #[test]
    fn refusals_name_what_was_seen_and_expected() {
        const A: (&str, DType, &[usize], usize) = ("a", DType::Fp32, &[1, 3], 12);
        assert_eq!(
            refusal(&[A, ("c", DType::Fp32, &[1, 3], 12)]),
            r#"model "adder": no input "c", the inputs are "a" (FP32 [-1, 3]), "b" (FP32 [-1, 3])"#
        );
        assert_eq!(refusal(&[A]), r#"model "adder": input "b" (FP32 [-1, 3]) is missing"#);
        assert_eq!(refusal(&[A, A]), r#"model "adder": input "a" is given twice"#);
        assert_eq!(
            refusal(&[A, ("b", DType::Int64, &[1, 3], 24)]),
            r#"model "adder": input "b" is INT64, expected FP32"#
        );
        assert_eq!(
            refusal(&[A, ("b", DType::Fp32, &[3], 12)]),
            r#"model "adder": input "b" has shape [3] (1 dimensions), expected [-1, 3] (2)"#
        );
        assert_eq!(
            refusal(&[A, ("b", DType::Fp32, &[1, 4], 16)]),
            r#"model "adder": input "b" has shape [1, 4], expected [-1, 3]: dimension 1 differs"#
        );
        assert_eq!(
            refusal(&[A, ("b", DType::Fp32, &[2, 3], 12)]),
            r#"model "adder": input "b" has 12 bytes, shape [2, 3] of FP32 needs 24"#
        );
    }
}
