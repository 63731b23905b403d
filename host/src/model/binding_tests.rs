//! The binding in the host's own memory: what it gives is what a plain run gives, and nothing of one run reaches another.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use wharf_tensor::Tensor;
use wharf_tensor::infer::Outputs;

use super::*;
use crate::model::session::{ModelSession, Stop};
use crate::model::{fixture, signature};

struct Bound {
    session: Session,
    signature: Arc<Signature>,
    binding: Binding,
}

fn open(model: &str) -> (Session, Arc<Signature>) {
    let mut builder = Session::builder(&fixture::runtime().environment).unwrap();
    let session = builder.commit_from_file(fixture::model(model)).unwrap();
    let signature = Arc::new(signature::read(&session).unwrap());
    (session, signature)
}

fn bound(model: &str) -> Bound {
    let (session, signature) = open(model);
    let binding = Binding::new(&session, &signature, HostMemory::Plain).unwrap();
    Bound { session, signature, binding }
}

impl Bound {
    fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>, Refusal> {
        let inputs: Vec<_> = inputs.iter().map(|(name, tensor)| InputRef::of_tensor(name, tensor)).collect();
        self.run_refs(&inputs)
    }

    fn run_refs(&mut self, inputs: &[InputRef<'_>]) -> Result<Vec<Tensor>, Refusal> {
        let options = RunOptions::new().unwrap();
        let outputs = self.binding.run(&mut self.session, &self.signature, inputs, &options)?;
        Ok(outputs.into_iter().map(|value| convert::take(value).unwrap()).collect())
    }

    fn buffers(&self) -> Vec<*const std::ffi::c_void> {
        self.binding.staged.iter().flatten().map(|tensor| tensor.data_ptr()).collect()
    }
}

fn plain(model: &str, inputs: &[(&str, &Tensor)]) -> Vec<Tensor> {
    let (session, signature) = open(model);
    let mut session = ModelSession::new(model, session, signature, Device::Cpu);
    assert_eq!(session.way(), "plain");
    let inputs: Vec<_> = inputs.iter().map(|(name, tensor)| InputRef::of_tensor(name, tensor)).collect();
    let outputs: Outputs = session.run(model, &inputs, &Stop::new().unwrap()).unwrap();
    outputs.into_iter().map(|(_, tensor)| tensor).collect()
}

fn rows(count: usize, first: f32) -> Tensor {
    Tensor::from_vec([count, 3], (0..count * 3).map(|i| first + i as f32).collect()).unwrap()
}

#[test]
fn every_datatype_and_shape_comes_back_as_from_a_plain_run() {
    for dtype in DType::ALL.into_iter().filter(|dtype| *dtype != DType::Bytes) {
        let name = format!("typed-{}", dtype.name().to_lowercase());
        let mut bound = bound(&name);
        let size = dtype.size().unwrap();
        for rows in [3, 1, 0, 1, 1, 3, 0, 0, 7] {
            let bytes = (0..rows * 2 * size).map(|i| if dtype == DType::Bool { i % 2 } else { i * 7 % 251 } as u8);
            let tensor = Tensor::new(dtype, [rows, 2], bytes.collect::<Vec<u8>>()).unwrap();
            let outputs = bound.run(&[("x", &tensor)]).unwrap();
            assert_eq!(outputs, std::slice::from_ref(&tensor), "{dtype} {rows}");
            assert_eq!(outputs, plain(&name, &[("x", &tensor)]));
            let shifted = [&[0u8][..], tensor.data()].concat();
            let unaligned = InputRef { name: "x", dtype, shape: &[rows, 2], data: &shifted[1..] };
            assert_eq!(bound.run_refs(&[unaligned]).unwrap(), outputs, "{dtype} {rows} unaligned");
        }
    }
}

#[test]
fn outputs_are_in_the_models_order_and_no_later_run_writes_to_them() {
    let mut bound = bound("sum");
    let (a, b, c) = (rows(2, 0.), rows(2, 10.), rows(2, 100.));
    let first = bound.run(&[("a", &a), ("b", &b)]).unwrap();
    let second = bound.run(&[("a", &c), ("b", &c)]).unwrap();
    assert_eq!(first, plain("sum", &[("a", &a), ("b", &b)]));
    assert_eq!(second, plain("sum", &[("a", &c), ("b", &c)]));
    let Bound { session, binding, .. } = bound;
    drop((session, binding));
    assert_eq!(first[1].values::<f32>().unwrap().as_ref(), [-10.; 6]);
}

#[test]
fn buffers_are_kept_while_the_shape_stays() {
    let mut bound = bound("sum");
    let (two, five) = (rows(2, 0.), rows(5, 0.));
    bound.run(&[("a", &two), ("b", &two)]).unwrap();
    let first = bound.buffers();
    assert_eq!(first.len(), 2);
    bound.run(&[("a", &two), ("b", &two)]).unwrap();
    assert_eq!(bound.buffers(), first);
    bound.run(&[("a", &five), ("b", &five)]).unwrap();
    let shapes: Vec<_> = bound.binding.staged.iter().flatten().map(|tensor| tensor.shape().to_vec()).collect();
    assert_eq!(shapes, [[5, 3], [5, 3]]);
}

#[test]
fn a_bad_input_is_refused_and_the_next_run_is_as_ever() {
    let mut bools = bound("typed-bool");
    let two = InputRef { name: "x", dtype: DType::Bool, shape: &[1, 2], data: &[1, 2] };
    let refusal = Refusal::Input("x".into(), "BOOL element 1 is 2, expected 0 or 1".into());
    assert_eq!(bools.run_refs(&[two]).unwrap_err(), refusal);
    let mut sum = bound("sum");
    let good = rows(1, 1.);
    let short = InputRef { name: "b", dtype: DType::Fp32, shape: &[1, 3], data: &[0; 11] };
    let refusal = Refusal::Input("b".into(), "shape [1, 3] needs 12 bytes, got 11".into());
    assert_eq!(sum.run_refs(&[InputRef::of_tensor("a", &good), short]).unwrap_err(), refusal);
    // Shapes that only the run finds not to fit.
    let Err(Refusal::Run(reason)) = sum.run(&[("a", &rows(2, 0.)), ("b", &rows(5, 0.))]) else { panic!("it ran") };
    assert!(reason.contains("2 by 5"), "{reason}");
    // One input missing.
    let Err(Refusal::Run(reason)) = sum.run(&[("a", &good)]) else { panic!("it ran") };
    assert!(reason.contains('b'), "{reason}");
    assert_eq!(sum.run(&[("a", &good), ("b", &good)]).unwrap(), plain("sum", &[("a", &good), ("b", &good)]));
}

#[test]
fn a_run_is_stopped_and_the_next_one_is_as_ever() {
    let mut sleepy = bound("sleepy");
    let steps = |count: i64| Tensor::from_vec(Vec::<usize>::new(), vec![count]).unwrap();
    let options = Arc::new(RunOptions::new().unwrap());
    let (endless, other) = (steps(i64::MAX), options.clone());
    let (begun, begin) = mpsc::channel();
    let stopper = thread::spawn(move || {
        begin.recv().unwrap();
        other.terminate().unwrap();
    });
    begun.send(()).unwrap();
    let inputs = [InputRef::of_tensor("steps", &endless)];
    let stopped = sleepy.binding.run(&mut sleepy.session, &sleepy.signature, &inputs, &options);
    assert!(matches!(&stopped, Err(Refusal::Run(reason)) if reason.contains("terminate")), "{:?}", stopped.err());
    stopper.join().unwrap();
    assert_eq!(sleepy.run(&[("steps", &steps(5))]).unwrap()[0].values::<f32>().unwrap().as_ref(), [5.]);
}

#[test]
fn strings_and_memory_that_is_not_there_leave_the_plain_run() {
    let (session, strings) = open("typed-bytes");
    let refused = Binding::new(&session, &strings, HostMemory::Plain).err().unwrap();
    assert_eq!(refused, "\"x\" holds strings, which a GPU cannot");
    for model in ["typed-bytes", "sum"] {
        // The session has no provider that has pinned memory.
        let (session, signature) = open(model);
        assert_eq!(ModelSession::new(model, session, signature, Device::Cuda(0)).way(), "plain");
    }
}
