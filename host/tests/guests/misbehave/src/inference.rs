//! Models, tensors and pictures, asked for rightly and wrongly. The wrong ones expect `digits`:
//! input `image`, fp32 [N,1,8,8].

use fixture::bindings::wharf::inference::models::{Model, TensorData, TensorMetadata};
use fixture::bindings::wharf::inference::tensors::{Datatype, Error, Tensor};
use fixture::bindings::wharf::vision::images::{self, Color, Image};
use fixture::{Object, Reply, Request, case_name};

const DIGITS: &str = "digits";
const IMAGE: &str = "image";
const MIB: u64 = 1 << 20;
/// More handles than any host should give out.
const MOST_TENSORS: u64 = 10_000_000;

type Outputs = Vec<(String, Tensor)>;

/// Runs `?model=` (default `digits`), every element of every input `?value=` (default 0), open dimensions 1.
/// `?way=` is `handles` (default), `data`, `start` (and wait) or `abandon` (start, and drop the run).
pub fn infer(request: &Request) -> Reply {
    let model = request.query("model").unwrap_or_else(|| DIGITS.to_owned());
    let way = request.query("way").unwrap_or_else(|| "handles".to_owned());
    let value = request.number("value", 0);
    reply(Model::open(&model).and_then(|model| run(&model, &way, value)))
}

fn run(model: &Model, way: &str, value: u64) -> Result<Outputs, Error> {
    let inputs: Vec<TensorData> = model.metadata().inputs.iter().map(|input| filled(input, value)).collect();
    if way == "data" {
        return model.infer_data(&inputs);
    }
    let made = inputs.iter().map(|input| Ok((&input.name, Tensor::create(input.datatype, &input.shape, &input.data)?)));
    let tensors = made.collect::<Result<Vec<_>, Error>>()?;
    let handles: Vec<_> = tensors.iter().map(|(name, tensor)| ((*name).clone(), tensor)).collect();
    match way {
        "start" => {
            let pending = model.start(&handles)?;
            pending.subscribe().block();
            pending.finish()
        }
        "abandon" => model.start(&handles).map(|_dropped| Outputs::new()),
        _ => model.infer(&handles),
    }
}

pub fn wrong_shape() -> Reply {
    digits_with(&[(IMAGE, Datatype::Fp32, &[1, 3])])
}

pub fn wrong_datatype() -> Reply {
    digits_with(&[(IMAGE, Datatype::Int64, &[1, 1, 8, 8])])
}

pub fn wrong_name() -> Reply {
    digits_with(&[("picture", Datatype::Fp32, &[1, 1, 8, 8])])
}

pub fn missing_input() -> Reply {
    digits_with(&[])
}

/// 3 bytes for one fp32.
pub fn wrong_size() -> Reply {
    let made = Tensor::create(Datatype::Fp32, &[1], &[0; 3]).map_err(|error| from_tensors(&error));
    Reply::outcome(made, |ok, tensor| ok.number("bytes", tensor.byte_size()))
}

/// A model of somebody else's container.
pub fn open_foreign() -> Reply {
    Reply::outcome(Model::open("not-mine").map_err(|error| from_tensors(&error)), |ok, _| ok)
}

/// Makes tensors of `?bytes=` (default 1 MiB) and keeps them, until the host refuses.
pub fn many_tensors(request: &Request) -> Reply {
    let bytes = request.number("bytes", MIB);
    let length = u32::try_from(bytes).unwrap_or(u32::MAX);
    let zeros = vec![0_u8; length as usize];
    let mut hoard = Vec::new();
    for made in 0..MOST_TENSORS {
        match Tensor::create(Datatype::Uint8, &[length], &zeros) {
            Ok(tensor) => hoard.push(tensor),
            Err(error) => return Reply::json(from_tensors(&error).number("made", made).finish()),
        }
    }
    Reply::json(Object::ok().number("made", MOST_TENSORS).finish())
}

/// 60,000 by 60,000 pixels: 10.8 GB of them.
pub fn big_image() -> Reply {
    let created = Image::create(60_000, 60_000, Color { r: 0, g: 0, b: 0, a: 255 });
    Reply::outcome(created.map_err(|error| from_images(&error)), size)
}

/// Decodes the request's body on the host's side.
pub fn decode(request: &Request) -> Reply {
    match request.with_body(Image::decode_body) {
        Some(decoded) => Reply::outcome(decoded.map_err(|error| from_images(&error)), size),
        None => Reply::json(Object::error("taken", "the body was taken already").finish()),
    }
}

fn digits_with(inputs: &[(&str, Datatype, &[u32])]) -> Reply {
    let run = || -> Result<Outputs, Error> {
        let model = Model::open(DIGITS)?;
        let mut tensors = Vec::new();
        for (name, datatype, shape) in inputs {
            let elements: u32 = shape.iter().product();
            let zeros = vec![0; elements as usize * element(*datatype, 0).len()];
            tensors.push(((*name).to_owned(), Tensor::create(*datatype, shape, &zeros)?));
        }
        let handles: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
        model.infer(&handles)
    };
    reply(run())
}

/// `outputs`: one `name datatype [shape]` each.
fn reply(result: Result<Outputs, Error>) -> Reply {
    Reply::outcome(result.map_err(|error| from_tensors(&error)), |ok, outputs| {
        let described = |(name, tensor): &(String, Tensor)| {
            format!("{name} {} {:?}", case_name(&tensor.datatype()), tensor.shape())
        };
        let outputs: Vec<_> = outputs.iter().map(described).collect();
        ok.texts("outputs", outputs.iter().map(String::as_str))
    })
}

fn size(ok: Object, image: Image) -> Object {
    ok.text("size", &format!("{}x{}", image.width(), image.height()))
}

fn filled(input: &TensorMetadata, value: u64) -> TensorData {
    let shape: Vec<u32> = input.shape.iter().map(|length| u32::try_from(*length).unwrap_or(1)).collect();
    let elements: u32 = shape.iter().product();
    let data = element(input.datatype, value).repeat(elements as usize);
    TensorData { name: input.name.clone(), datatype: input.datatype, shape, data }
}

/// One element; of the two 16-bit floats and of strings always the zero or the empty one.
fn element(datatype: Datatype, value: u64) -> Vec<u8> {
    let integer = value.to_le_bytes();
    let width = match datatype {
        Datatype::Fp32 => return (value as f32).to_le_bytes().to_vec(),
        Datatype::Fp64 => return (value as f64).to_le_bytes().to_vec(),
        Datatype::Fp16 | Datatype::Bf16 => return vec![0; 2],
        Datatype::Bytes => return vec![0; 4],
        Datatype::Bool | Datatype::Uint8 | Datatype::Int8 => 1,
        Datatype::Uint16 | Datatype::Int16 => 2,
        Datatype::Uint32 | Datatype::Int32 => 4,
        Datatype::Uint64 | Datatype::Int64 => 8,
    };
    integer.into_iter().take(width).collect()
}

fn from_tensors(error: &Error) -> Object {
    Object::error(&case_name(&error.kind), &error.message)
}

fn from_images(error: &images::Error) -> Object {
    Object::error(&case_name(&error.kind), &error.message)
}
