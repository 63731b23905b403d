//! What engines need of the real opener, as far as a CPU can show it.

use super::*;
use crate::model::fixture;
use crate::model::options::TensorRtOptions;

fn recipe(source: &Source, device: Device) -> Recipe {
    Recipe {
        name: "m".into(),
        path: source.path.clone(),
        sha256: source.sha256.clone(),
        device,
        cuda: Default::default(),
        tensorrt: TensorRtOptions::default(),
        optimised: None,
    }
}

#[test]
fn a_signature_is_read_without_the_device_of_the_session() {
    let opener = Onnx::new(fixture::runtime());
    for name in ["sum", "typed-bytes", "sleepy"] {
        let source = Source::read("m", &fixture::model(name)).unwrap();
        let opened = opener.open(&recipe(&source, Device::Cpu), &source).unwrap();
        let signature = opener.signature(&recipe(&source, Device::TensorRt(0)), &source).unwrap();
        assert_eq!(*opened.signature, signature, "{name}");
    }
}

#[test]
fn a_session_is_proved_by_running_it() {
    let opener = Onnx::new(fixture::runtime());
    let source = Source::read("m", &fixture::model("sum")).unwrap();
    let recipe = recipe(&source, Device::Cpu);
    let mut opened = opener.open(&recipe, &source).unwrap();
    let profile = Profile::of_batches(&opened.signature, 4).unwrap();
    assert_eq!(profile.as_ref().unwrap().largest("a"), Some(&[4, 3][..]));
    opener.prove(&mut opened.session, &recipe, &opened.signature, profile.as_ref()).unwrap();
    // Shapes that do not fit each other: what runs fails.
    let unequal = Profile { inputs: vec![("a".into(), [vec![2, 3], vec![2, 3], vec![2, 3]])] };
    let mut inputs = opened.signature.inputs.clone();
    inputs.iter_mut().filter(|input| *input.name == *"b").for_each(|input| input.shape = vec![Some(5), Some(3)]);
    let signature = Signature { inputs, ..(*opened.signature).clone() };
    let error = opener.prove(&mut opened.session, &recipe, &signature, Some(&unequal)).unwrap_err();
    assert!(error.to_string().contains("opens on cpu and does not run"), "{}", error.chain());
}

#[test]
fn weights_in_other_files_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let entry = b"\x0a\x08location\x12\x05w.bin";
    fs::write(&path, [&b"before"[..], entry, b"between", entry, b"after"].concat()).unwrap();
    let weights = || Source::read("m", &path).unwrap().weights();
    assert!(weights().unwrap_err().to_string().contains("its weights \"w.bin\" are no file beside the model"));
    fs::write(folder.path().join("w.bin"), "one").unwrap();
    let one = weights().unwrap();
    fs::write(folder.path().join("w.bin"), "two").unwrap();
    assert_ne!(weights().unwrap(), one);
    fs::write(&path, [&b"\x0a\x08location\x12\x0b"[..], b"../../w.bin"].concat()).unwrap();
    assert!(weights().unwrap_err().to_string().contains("are no file beside the model"));
    fs::write(&path, "all inside").unwrap();
    assert_eq!(weights().unwrap(), Source::read("m", &path).unwrap().sha256);
}
