//! The recording's thread and buffers, in the host's own memory: there every replay is a run, between the same addresses.

use wharf_tensor::Tensor;

use super::*;
use crate::model::{fixture, signature};

/// A model of the fixtures whose dimension `rows` is fixed.
fn open(model: &str, rows: Option<i64>) -> (Session, Arc<Signature>) {
    let mut builder = Session::builder(&fixture::runtime().environment).unwrap();
    if let Some(rows) = rows {
        builder = builder.with_dimension_override("rows", rows).unwrap();
    }
    let session = builder.commit_from_file(fixture::model(model)).unwrap();
    let signature = Arc::new(signature::read(&session).unwrap());
    (session, signature)
}

fn run(replay: &mut Replay, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>, Refusal> {
    let inputs: Vec<_> = inputs.iter().map(|(name, tensor)| InputRef::of_tensor(name, tensor)).collect();
    let outputs = replay.run(&inputs, &Arc::new(RunOptions::new().unwrap()))?;
    Ok(outputs.into_iter().map(|value| convert::take(value).unwrap()).collect())
}

fn rows(first: f32) -> Tensor {
    Tensor::from_vec([2, 3], (0..6).map(|i| first + i as f32).collect()).unwrap()
}

fn recorded() -> (Recorded, Arc<Signature>) {
    let (session, signature) = open("sum", Some(2));
    (Recorded::make(session, &signature, HostMemory::Plain).unwrap(), signature)
}

#[test]
fn each_run_gets_its_own_answer() {
    let (session, signature) = open("sum", Some(2));
    let mut replay = Replay::start(session, &signature, HostMemory::Plain).unwrap();
    let mut kept = Vec::new();
    for first in [1., 20., 300.] {
        let (a, b) = (rows(first), rows(-1.));
        kept.push(run(&mut replay, &[("a", &a), ("b", &b)]).unwrap());
    }
    // From any thread, and the answers outlive the session.
    let mut replay = std::thread::spawn(move || {
        run(&mut replay, &[("a", &rows(0.)), ("b", &rows(0.))]).unwrap();
        replay
    })
    .join()
    .unwrap();
    let wrong = Tensor::from_vec([2, 4], vec![0f32; 8]).unwrap();
    let Err(Refusal::Run(reason)) = run(&mut replay, &[("a", &wrong), ("b", &rows(0.))]) else { panic!("it ran") };
    assert_eq!(reason, "a buffer of 24 bytes is to hold 32");
    assert_eq!(run(&mut replay, &[("a", &rows(1.)), ("b", &rows(1.))]).unwrap()[0].shape(), [2, 3]);
    drop(replay);
    for (outputs, first) in kept.iter().zip([1., 20., 300.]) {
        assert_eq!(outputs[0].values::<f32>().unwrap()[0], first - 1.);
        assert_eq!(outputs[1].values::<f32>().unwrap().as_ref(), [first + 1.; 6]);
    }
}

#[test]
fn scalars_and_whole_numbers_are_recorded_too() {
    let (session, signature) = open("sleepy", None);
    let mut replay = Replay::start(session, &signature, HostMemory::Plain).unwrap();
    for count in [0i64, 3, 7] {
        let steps = Tensor::from_vec(Vec::<usize>::new(), vec![count]).unwrap();
        let outputs = run(&mut replay, &[("steps", &steps)]).unwrap();
        assert_eq!(outputs[0].values::<f32>().unwrap().as_ref(), [count as f32]);
    }
}

#[test]
fn addresses_never_change() {
    let (mut recorded, signature) = recorded();
    let addresses = |recorded: &Recorded| {
        recorded.inputs.iter().chain(&recorded.outputs).map(|tensor| tensor.data_ptr()).collect::<Vec<_>>()
    };
    let first = addresses(&recorded);
    for _ in 0..3 {
        let inputs = signature
            .inputs
            .iter()
            .map(|spec| sample(&recorded.host, spec, 1).map(Some))
            .collect::<Result<Vec<_>, _>>();
        let outputs = recorded.replay(&inputs.unwrap(), &RunOptions::new().unwrap()).unwrap();
        assert_eq!(addresses(&recorded), first);
        assert!(
            outputs
                .iter()
                .all(|output| !first.contains(&output.view().try_extract_tensor::<f32>().unwrap().1.as_ptr().cast()))
        );
    }
}

#[test]
fn a_recording_that_does_not_follow_its_inputs_is_not_used() {
    let (mut recorded, signature) = recorded();
    let inputs = |recorded: &Recorded| {
        signature
            .inputs
            .iter()
            .map(|spec| sample(&recorded.host, spec, 1).map(Some))
            .collect::<Result<Vec<_>, _>>()
            .unwrap()
    };
    let good = inputs(&recorded);
    recorded.compare(&signature, &good).unwrap();
    // As if ONNX Runtime had taken a copy when it was bound.
    let elsewhere = sample(&recorded.host, &signature.inputs[0], 0).unwrap();
    recorded.binding.bind_input("a", &elsewhere).unwrap();
    let refused = recorded.compare(&signature, &good).unwrap_err();
    assert!(refused.starts_with("its output \"sum\" is not that of a run: "), "{refused}");
}

#[test]
fn what_cannot_be_recorded_says_why() {
    let (session, signature) = open("sum", None);
    let refused = Replay::start(session, &signature, HostMemory::Plain).err().unwrap();
    assert_eq!(refused, "\"a\" has an open dimension, and a recording is of one shape");
    let (session, signature) = open("typed-bytes", None);
    let refused = Replay::start(session, &signature, HostMemory::Plain).err().unwrap();
    assert_eq!(refused, "\"x\" holds strings, which a GPU cannot");
    // No provider with pinned memory, or no driver: an error, and nothing waits.
    let (session, signature) = open("sum", Some(2));
    assert!(Replay::start(session, &signature, HostMemory::Pinned(0)).is_err());
}
