//! A writer of ONNX files, just large enough for the models the benchmark makes for itself, so that no
//! weights need to be fetched and no Python is needed. Field numbers are those of `onnx.proto`.

/// ONNX operator set and file format the graphs are written for: old enough for every ONNX Runtime in use.
const OPSET: i64 = 13;
const IR_VERSION: i64 = 7;

/// `TensorProto.DataType`.
const FLOAT: u64 = 1;
const INT64: u64 = 7;

/// One protobuf message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u64, value: u64) -> &mut Self {
        self.raw_varint(field << 3);
        self.raw_varint(value);
        self
    }

    fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.raw_varint(field << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.raw_varint(field << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn text(&mut self, field: u64, value: &str) -> &mut Self {
        self.bytes(field, value.as_bytes())
    }

    fn message(&mut self, field: u64, value: &Message) -> &mut Self {
        self.bytes(field, &value.0)
    }
}

/// The attributes of a node that the models here use.
pub enum Attribute<'a> {
    Int(&'a str, i64),
    Float(&'a str, f32),
    Ints(&'a str, &'a [i64]),
}

impl Attribute<'_> {
    fn encode(&self) -> Message {
        let mut message = Message::default();
        match self {
            Attribute::Float(name, value) => message.text(1, name).float(2, *value).varint(20, 1),
            Attribute::Int(name, value) => message.text(1, name).varint(3, *value as u64).varint(20, 2),
            Attribute::Ints(name, values) => {
                message.text(1, name).varint(20, 7);
                values.iter().fold(&mut message, |m, v| m.varint(8, *v as u64))
            }
        };
        message
    }
}

/// A graph with one input and one output, both FP32, under the names `input` and `output`.
#[derive(Default)]
pub struct Graph {
    nodes: Vec<Message>,
    initializers: Vec<Message>,
}

impl Graph {
    /// Append a node; its single output gets the name `output`.
    pub fn node(&mut self, operator: &str, inputs: &[&str], output: &str, attributes: &[Attribute<'_>]) {
        let mut node = Message::default();
        for input in inputs {
            node.text(1, input);
        }
        node.text(2, output).text(3, output).text(4, operator);
        for attribute in attributes {
            node.message(5, &attribute.encode());
        }
        self.nodes.push(node);
    }

    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}: shape and values disagree");
        self.initializer(name, shape, FLOAT, values.iter().flat_map(|v| v.to_le_bytes()).collect());
    }

    pub fn ints(&mut self, name: &str, values: &[i64]) {
        self.initializer(name, &[values.len()], INT64, values.iter().flat_map(|v| v.to_le_bytes()).collect());
    }

    fn initializer(&mut self, name: &str, shape: &[usize], datatype: u64, raw: Vec<u8>) {
        let mut tensor = Message::default();
        for &dimension in shape {
            tensor.varint(1, dimension as u64);
        }
        tensor.varint(2, datatype).text(8, name).bytes(9, &raw);
        self.initializers.push(tensor);
    }

    /// The whole file.
    pub fn finish(self, name: &str, input_shape: &[usize], output_shape: &[usize]) -> Vec<u8> {
        let mut graph = Message::default();
        for node in &self.nodes {
            graph.message(1, node);
        }
        graph.text(2, name);
        for initializer in &self.initializers {
            graph.message(5, initializer);
        }
        graph.message(11, &value_info("input", input_shape)).message(12, &value_info("output", output_shape));

        let mut opset = Message::default();
        opset.text(1, "").varint(2, OPSET as u64);
        let mut model = Message::default();
        model.varint(1, IR_VERSION as u64).text(2, "wharf-bench").message(7, &graph).message(8, &opset);
        model.0
    }
}

fn value_info(name: &str, shape: &[usize]) -> Message {
    let mut dimensions = Message::default();
    for &value in shape {
        let mut dimension = Message::default();
        dimension.varint(1, value as u64);
        dimensions.message(1, &dimension);
    }
    let mut tensor = Message::default();
    tensor.varint(1, FLOAT).message(2, &dimensions);
    let mut kind = Message::default();
    kind.message(1, &tensor);
    let mut info = Message::default();
    info.text(1, name).message(2, &kind);
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_little_endian_groups_of_seven_bits() {
        let mut message = Message::default();
        message.varint(1, 300);
        assert_eq!(message.0, [0x08, 0xac, 0x02]);
    }

    #[test]
    fn negative_integers_take_ten_bytes() {
        let mut message = Message::default();
        message.varint(3, -1i64 as u64);
        assert_eq!(message.0.len(), 11);
    }

    #[test]
    fn lengths_precede_bytes() {
        let mut message = Message::default();
        message.text(2, "ab");
        assert_eq!(message.0, [0x12, 2, b'a', b'b']);
    }
}
