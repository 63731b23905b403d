//! Several requests into one run's inputs, and the run's outputs back into several answers. Along dimension
//! 0, and only where the requests agree in everything else.

use wharf_tensor::infer::Outputs;
use wharf_tensor::{Tensor, TensorError, batch_dim};

/// Rows of a request: dimension 0, if all its inputs agree on it.
pub fn rows(inputs: &[Tensor]) -> Option<usize> {
    let (first, rest) = inputs.split_first()?;
    let rows = *first.shape().first()?;
    rest.iter().all(|input| input.shape().first() == Some(&rows)).then_some(rows)
}

/// Whether two requests' inputs, in the model's order, differ in nothing but their rows.
pub fn joins(a: &[Tensor], b: &[Tensor]) -> bool {
    rows(a).is_some()
        && rows(b).is_some()
        && a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| a.dtype() == b.dtype() && a.shape().get(1..) == b.shape().get(1..))
}

/// The inputs of one run, from requests that [join](joins).
pub fn join(requests: &[&[Tensor]]) -> Result<Vec<Tensor>, TensorError> {
    let inputs = requests.first().map_or(0, |inputs| inputs.len());
    (0..inputs)
        .map(|input| {
            let parts: Vec<&Tensor> = requests.iter().filter_map(|inputs| inputs.get(input)).collect();
            batch_dim::concat(&parts)
        })
        .collect()
}

/// The answers, given the rows of each request. An error means that this model's outputs do not follow its
/// inputs' rows: it cannot be batched.
pub fn part(outputs: &Outputs, rows: &[usize]) -> Result<Vec<Outputs>, TensorError> {
    let mut answers: Vec<Outputs> = rows.iter().map(|_| Vec::with_capacity(outputs.len())).collect();
    for (name, tensor) in outputs {
        let parts = batch_dim::split(tensor, rows)?;
        if parts.len() != answers.len() {
            return Err(TensorError::Argument(format!(
                "output {name:?} split into {} parts of {}",
                parts.len(),
                rows.len()
            )));
        }
        for (answer, part) in answers.iter_mut().zip(parts) {
            answer.push((name.clone(), part));
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(rows: usize, columns: usize) -> Tensor {
        let values: Vec<f32> = (0..rows * columns).map(|value| value as f32).collect();
        Tensor::from_vec([rows, columns], values).unwrap()
    }

    #[test]
    fn requests_that_differ_in_more_than_rows_do_not_join() {
        assert!(joins(&[tensor(1, 3)], &[tensor(5, 3)]));
        assert!(!joins(&[tensor(1, 3)], &[tensor(1, 4)]));
        assert!(!joins(&[tensor(1, 3)], &[tensor(1, 3), tensor(1, 3)]));
        assert!(!joins(&[tensor(1, 3)], &[Tensor::from_vec([1, 3], vec![0i32; 3]).unwrap()]));
        assert!(!joins(&[tensor(1, 3), tensor(2, 3)], &[tensor(1, 3), tensor(2, 3)]), "no common number of rows");
        let scalar = Tensor::from_vec(Vec::new(), vec![1.0f32]).unwrap();
        assert!(!joins(std::slice::from_ref(&scalar), std::slice::from_ref(&scalar)));
    }

    #[test]
    fn what_is_joined_comes_apart_again() {
        let (a, b) = ([tensor(1, 3)], [tensor(2, 3)]);
        let joined = join(&[&a, &b]).unwrap();
        assert_eq!(joined[0].shape(), [3, 3]);
        let outputs = vec![("y".into(), joined[0].clone())];
        let parts = part(&outputs, &[1, 2]).unwrap();
        assert_eq!((&parts[0][0].1, &parts[1][0].1), (&a[0], &b[0]));
    }

    #[test]
    fn outputs_without_the_rows_of_their_inputs_are_refused() {
        let outputs = vec![("y".into(), tensor(1, 3))];
        assert!(part(&outputs, &[1, 2]).is_err());
    }
}
