//! The `data` member of a JSON tensor: numbers, booleans or strings, flat or nested, straight into a tensor.
//! Pure. This is the hot part of a JSON request.
//!
//! The text has already passed serde_json's syntax check, so this walk only has to tell brackets from
//! elements. It keeps no tree, does not recurse, and parses each number directly as its datatype: integers
//! are range-checked, floats correctly rounded.

use bytes::Bytes;
use wharf_tensor::{DType, Element, Tensor, tensor::element_count};

/// Characters of a wrong element that an error message shows.
const SHOWN: usize = 40;

/// Make a tensor of `text`, one syntactically valid JSON value. The error names the element.
pub fn parse(dtype: DType, shape: Vec<usize>, text: &str) -> Result<Tensor, String> {
    match dtype {
        DType::Bool => booleans(shape, text),
        DType::Bytes => strings(shape, text),
        DType::Fp16 | DType::Bf16 => {
            Err(format!("receiving {dtype} data via JSON is not supported, use the binary data format"))
        }
        DType::Uint8 => numbers::<u8>(shape, text),
        DType::Uint16 => numbers::<u16>(shape, text),
        DType::Uint32 => numbers::<u32>(shape, text),
        DType::Uint64 => numbers::<u64>(shape, text),
        DType::Int8 => numbers::<i8>(shape, text),
        DType::Int16 => numbers::<i16>(shape, text),
        DType::Int32 => numbers::<i32>(shape, text),
        DType::Int64 => numbers::<i64>(shape, text),
        DType::Fp32 => numbers::<f32>(shape, text),
        DType::Fp64 => numbers::<f64>(shape, text),
    }
}

/// A datatype with a JSON number form.
trait Number: Element {
    fn parse(token: &str) -> Option<Self>;
    fn expected() -> String;
}

macro_rules! integers {
    ($($rust:ty),*) => {$(
        impl Number for $rust {
            fn parse(token: &str) -> Option<Self> {
                token.parse().ok()
            }

            fn expected() -> String {
                format!("an integer from {} to {}", <$rust>::MIN, <$rust>::MAX)
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, i8, i16, i32, i64);

macro_rules! floats {
    ($($rust:ty),*) => {$(
        impl Number for $rust {
            fn parse(token: &str) -> Option<Self> {
                // Larger than the datatype holds would become infinite.
                token.parse().ok().filter(|value: &$rust| value.is_finite())
            }

            fn expected() -> String {
                format!("a number from {:e} to {:e}", <$rust>::MIN, <$rust>::MAX)
            }
        }
    )*};
}
floats!(f32, f64);

fn numbers<T: Number>(shape: Vec<usize>, text: &str) -> Result<Tensor, String> {
    let mut values = Vec::with_capacity(capacity(&shape, text)?);
    walk(&shape, text, |index, token| {
        values.push(T::parse(token).ok_or_else(|| wrong(index, token, T::DTYPE, &T::expected()))?);
        Ok(())
    })?;
    Tensor::from_vec(shape, values).map_err(|error| error.to_string())
}

fn booleans(shape: Vec<usize>, text: &str) -> Result<Tensor, String> {
    let mut values: Vec<u8> = Vec::with_capacity(capacity(&shape, text)?);
    walk(&shape, text, |index, token| {
        values.push(match token {
            "true" | "1" => 1,
            "false" | "0" => 0,
            _ => return Err(wrong(index, token, DType::Bool, "true or false")),
        });
        Ok(())
    })?;
    Tensor::new(DType::Bool, shape, values).map_err(|error| error.to_string())
}

fn strings(shape: Vec<usize>, text: &str) -> Result<Tensor, String> {
    let mut entries: Vec<u8> = Vec::with_capacity(text.len());
    walk(&shape, text, |index, token| {
        let plain = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let plain = plain.ok_or_else(|| wrong(index, token, DType::Bytes, "a string"))?;
        if plain.contains('\\') {
            let unescaped: String =
                serde_json::from_str(token).map_err(|error| format!("`data` element {index}: {error}"))?;
            push_entry(&mut entries, index, &unescaped)
        } else {
            push_entry(&mut entries, index, plain)
        }
    })?;
    Tensor::new(DType::Bytes, shape, Bytes::from(entries)).map_err(|error| error.to_string())
}

fn push_entry(entries: &mut Vec<u8>, index: usize, text: &str) -> Result<(), String> {
    let length = u32::try_from(text.len()).map_err(|_| format!("`data` element {index} is longer than 4 GiB"))?;
    entries.extend_from_slice(&length.to_le_bytes());
    entries.extend_from_slice(text.as_bytes());
    Ok(())
}

fn wrong(index: usize, token: &str, dtype: DType, expected: &str) -> String {
    let shown: String = token.chars().take(SHOWN).collect();
    let more = if shown.len() < token.len() { "…" } else { "" };
    format!("`data` element {index} is {shown}{more}; {dtype} takes {expected}")
}

/// Elements to make room for: what the shape claims, but no more than the text can hold, so that a claim alone
/// costs no memory.
fn capacity(shape: &[usize], text: &str) -> Result<usize, String> {
    let claimed = element_count(shape).map_err(|error| error.to_string())?;
    Ok(claimed.min(text.len() / 2 + 1))
}

/// Call `element` with every element's index and text, and check count and nesting against `shape`.
fn walk(shape: &[usize], text: &str, mut element: impl FnMut(usize, &str) -> Result<(), String>) -> Result<(), String> {
    let expected = element_count(shape).map_err(|error| error.to_string())?;
    let mut nesting = Nesting::new(shape.len().max(1));
    let mut count = 0;
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        let token_length = match first {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => 1,
            b'[' => {
                nesting.open(shape)?;
                1
            }
            b']' => {
                nesting.close()?;
                1
            }
            b'{' => return Err(format!("`data` element {count} is an object; give numbers, booleans or strings")),
            b'"' => string_length(rest),
            _ => scalar_length(rest),
        };
        let Some((token, after)) = rest.split_at_checked(token_length) else {
            return Err("`data` ends in the middle of an element".into());
        };
        rest = after;
        if !matches!(first, b' ' | b'\t' | b'\n' | b'\r' | b',' | b'[' | b']') {
            if count == expected {
                return Err(format!("`data` has more elements than the {expected} of shape {shape:?}"));
            }
            nesting.element()?;
            element(count, token)?;
            count += 1;
        }
    }
    if count != expected {
        return Err(format!("`data` has {count} elements, shape {shape:?} needs {expected}"));
    }
    nesting.finish(shape)
}

/// Bytes of the string that starts at `text`'s first quote, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// Bytes of the number or word at the start of `text`.
fn scalar_length(text: &str) -> usize {
    text.bytes().position(|byte| matches!(byte, b',' | b']' | b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(text.len())
}

/// Watches the brackets: every array of one depth must be equally long, and all elements equally deep.
struct Nesting {
    /// Members so far of each array that is open, outermost first.
    open: Vec<usize>,
    /// Length of the arrays at each depth, once one of them has been closed.
    lengths: Vec<Option<usize>>,
    leaf_depth: Option<usize>,
    deepest: usize,
}

impl Nesting {
    fn new(deepest: usize) -> Self {
        Nesting { open: Vec::with_capacity(deepest), lengths: vec![None; deepest], leaf_depth: None, deepest }
    }

    fn open(&mut self, shape: &[usize]) -> Result<(), String> {
        if self.open.len() == self.deepest {
            return Err(format!("`data` is nested deeper than shape {shape:?}"));
        }
        self.member();
        self.open.push(0);
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(length) = self.open.pop() else { return Ok(()) };
        let depth = self.open.len();
        match self.lengths.get_mut(depth) {
            Some(Some(first)) if *first != length => {
                Err(format!("`data` is ragged: arrays at depth {} hold {first} and {length} members", depth + 1))
            }
            Some(known) => {
                *known = Some(length);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn element(&mut self) -> Result<(), String> {
        self.member();
        let depth = self.open.len();
        match self.leaf_depth {
            Some(leaf) if leaf != depth => Err("`data` mixes arrays and elements at one depth".into()),
            _ => {
                self.leaf_depth = Some(depth);
                Ok(())
            }
        }
    }

    fn member(&mut self) {
        if let Some(members) = self.open.last_mut() {
            *members += 1;
        }
    }

    /// Flat data fits every shape; nested data must repeat it.
    fn finish(&self, shape: &[usize]) -> Result<(), String> {
        let lengths: Vec<usize> = self.lengths.iter().map_while(|length| *length).collect();
        if self.leaf_depth.is_some_and(|leaf| leaf != lengths.len()) {
            return Err("`data` mixes arrays and elements at one depth".into());
        }
        // An empty dimension ends the nesting: shape [2, 0, 3] is written [[], []].
        let fits = match lengths.as_slice() {
            [] => shape.is_empty(),
            [_] => true,
            nested if self.leaf_depth.is_none() => shape.starts_with(nested),
            nested => nested == shape,
        };
        if fits { Ok(()) } else { Err(format!("`data` is nested as {lengths:?}, the shape says {shape:?}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(dtype: DType, shape: &[usize], text: &str) -> String {
        parse(dtype, shape.to_vec(), text).unwrap_err()
    }

    #[test]
    fn flat_and_nested_are_equal() {
        let flat = parse(DType::Fp32, vec![2, 3], "[1, -2.5, 3e2,4,5 ,\n6]").unwrap();
        let nested = parse(DType::Fp32, vec![2, 3], " [[1,-2.5,3e2],[4,5,6]] ").unwrap();
        assert_eq!(flat, nested);
        assert_eq!(flat.values::<f32>().unwrap().as_ref(), [1.0, -2.5, 300.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn every_datatype_with_a_json_form_keeps_its_extremes() {
        let text = format!("[{},{}]", u64::MAX, u64::MIN);
        let tensor = parse(DType::Uint64, vec![2], &text).unwrap();
        assert_eq!(tensor.values::<u64>().unwrap().as_ref(), [u64::MAX, u64::MIN]);
        let text = format!("[{},{}]", i64::MAX, i64::MIN);
        let tensor = parse(DType::Int64, vec![2], &text).unwrap();
        assert_eq!(tensor.values::<i64>().unwrap().as_ref(), [i64::MAX, i64::MIN]);
        for (dtype, text) in [
            (DType::Int8, "[-128,127]"),
            (DType::Int16, "[-32768,32767]"),
            (DType::Int32, "[-2147483648,2147483647]"),
            (DType::Uint8, "[0,255]"),
            (DType::Uint16, "[0,65535]"),
            (DType::Uint32, "[0,4294967295]"),
            (DType::Fp64, "[1.7976931348623157e308,0.1]"),
            (DType::Bool, "[true,0]"),
            (DType::Bytes, r#"["a",""]"#),
        ] {
            assert!(parse(dtype, vec![2], text).is_ok(), "{dtype}");
        }
        // Exact where a fast but approximate parser is one off.
        let tensor = parse(DType::Fp64, vec![1], "[9007199254740993.0000001]").unwrap();
        assert_eq!(tensor.values::<f64>().unwrap().as_ref(), [9007199254740994.0]);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(
            refused(DType::Int8, &[2], "[1,128]"),
            "`data` element 1 is 128; INT8 takes an integer from -128 to 127"
        );
        assert!(refused(DType::Uint64, &[1], "[-1]").contains("UINT64 takes an integer from 0"));
        assert!(refused(DType::Int32, &[1], "[1.0]").contains("INT32 takes an integer"));
        assert!(refused(DType::Int64, &[1], "[9223372036854775808]").contains("INT64"));
        assert!(refused(DType::Fp32, &[1], "[1e39]").contains("FP32 takes a number from -3.4028235e38"));
        assert!(refused(DType::Fp64, &[1], "[1e309]").contains("FP64 takes a number"));
    }

    #[test]
    fn elements_of_another_kind_are_refused() {
        assert_eq!(refused(DType::Bool, &[1], "[2]"), "`data` element 0 is 2; BOOL takes true or false");
        assert_eq!(refused(DType::Bytes, &[1], "[2]"), "`data` element 0 is 2; BYTES takes a string");
        assert!(refused(DType::Fp32, &[1], r#"["1"]"#).contains(r#"element 0 is "1"; FP32 takes a number"#));
        assert!(refused(DType::Fp32, &[1], "[null]").contains("element 0 is null"));
        assert!(refused(DType::Fp32, &[1], "[true]").contains("element 0 is true"));
        assert!(refused(DType::Fp32, &[1], r#"[{"a":1}]"#).contains("element 0 is an object"));
        let long = format!("[\"{}\"]", "é".repeat(100));
        assert!(refused(DType::Fp32, &[1], &long).contains('…'));
    }

    #[test]
    fn half_floats_have_no_json_form() {
        assert_eq!(
            refused(DType::Fp16, &[1], "[1]"),
            "receiving FP16 data via JSON is not supported, use the binary data format"
        );
        assert!(refused(DType::Bf16, &[1], "[1]").contains("BF16"));
    }

    #[test]
    fn the_count_must_match_the_shape() {
        assert_eq!(refused(DType::Int8, &[2, 2], "[1,2,3]"), "`data` has 3 elements, shape [2, 2] needs 4");
        assert_eq!(refused(DType::Int8, &[2, 2], "[1,2,3,4,5]"), "`data` has more elements than the 4 of shape [2, 2]");
        assert!(refused(DType::Int8, &[usize::MAX, 2], "[1]").contains("more elements than this machine"));
        // A claim alone must not allocate.
        assert!(refused(DType::Fp64, &[1 << 50], "[1]").contains("needs 1125899906842624"));
    }

    #[test]
    fn nesting_must_match_the_shape() {
        assert_eq!(
            refused(DType::Int8, &[3, 2], "[[1,2,3],[4,5,6]]"),
            "`data` is nested as [2, 3], the shape says [3, 2]"
        );
        assert!(refused(DType::Int8, &[2, 2], "[[1,2,3],[4]]").contains("ragged"));
        assert!(refused(DType::Int8, &[2], "[[1,2]]").contains("deeper than shape [2]"));
        assert!(refused(DType::Int8, &[2, 1], "[1,[2]]").contains("mixes"));
        assert!(refused(DType::Int8, &[2, 1], "[[1],2]").contains("mixes"));
        assert!(refused(DType::Int8, &[1, 1], "[[],1]").contains("mixes"));
        assert!(refused(DType::Int8, &[1], "1").contains("nested as []"));
        let deep = "[".repeat(100_000);
        assert!(refused(DType::Int8, &[1], &deep).contains("deeper"));
    }

    #[test]
    fn empty_tensors_and_scalars() {
        assert!(parse(DType::Fp32, vec![0], "[]").is_ok());
        assert!(parse(DType::Fp32, vec![2, 0, 3], "[[],[]]").is_ok());
        assert!(parse(DType::Fp32, vec![2, 0, 3], "[]").is_ok());
        assert!(parse(DType::Fp32, vec![], "7").is_ok());
        assert!(parse(DType::Fp32, vec![], "[7]").is_ok());
        assert!(refused(DType::Fp32, &[3, 0], "[[],[]]").contains("nested as [2, 0]"));
    }

    #[test]
    fn strings_are_unescaped() {
        let tensor = parse(DType::Bytes, vec![5], r#"["", "a,]\"b", "\u00e9\n", "é", "\\"]"#).unwrap();
        let elements = tensor.elements().unwrap();
        assert_eq!(elements, [b"".as_slice(), b"a,]\"b", "é\n".as_bytes(), "é".as_bytes(), b"\\"]);
        assert!(refused(DType::Bytes, &[1], r#"["\ud800"]"#).contains("element 0"));
    }
}
