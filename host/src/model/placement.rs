//! Which provider got which of a session's nodes, as ONNX Runtime itself says: never inferred from what was asked for.
//!
//! The record is of the moment when the graph was divided: nodes of one provider may be joined afterwards, so that fewer
//! run. Where no provider is registered by name it is empty, and nothing was divided: all nodes of the optimised graph
//! are the CPU's. They are counted in the file that the graph is kept in, which has them as they run.
//!
//! ONNX Runtime keeps that record where the session was told to (`session.record_ep_graph_assignment_info`) and gives it
//! out from API 24 (1.24) on. The binding is compiled for an older API, so that older libraries load; the newer one is
//! asked for at run time. An older library has no record, and nothing is claimed.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use libloading::os::unix::{Library, RTLD_LAZY};
use ort::AsPointer;
use ort::session::Session;

use super::environment::OnnxRuntime;
use super::preflight::Provider;

/// The option that makes a session keep the record.
pub(super) const RECORD: &str = "session.record_ep_graph_assignment_info";

/// The first API that gives it out, and where its functions stand in `OrtApi`. The order of that table never changes:
/// new functions are appended.
const API: u32 = 24;
const RELEASE_STATUS: usize = 95;
const GET_INFO: usize = 410;
const GET_PROVIDER: usize = 411;
const GET_NODES: usize = 412;

type Status = *mut c_void;
type Listing = unsafe extern "system" fn(*const c_void, *mut *const *const c_void, *mut usize) -> Status;
type Naming = unsafe extern "system" fn(*const c_void, *mut *const c_char) -> Status;
type Release = unsafe extern "system" fn(Status);

/// Nodes per provider, by the providers' names.
pub type Placement = Vec<(String, usize)>;

/// ONNX Runtime's functions for this.
struct Functions {
    info: Listing,
    provider: Naming,
    nodes: Listing,
    release: Release,
}

/// Whether this ONNX Runtime gives the record out. One that does not would warn of the option.
pub(super) fn is_known(runtime: &OnnxRuntime) -> bool {
    Functions::get(runtime).is_some()
}

/// The record of a session that was opened with [`RECORD`]; `None` where this ONNX Runtime has none, or an empty one.
pub(super) fn read(runtime: &OnnxRuntime, session: &Session) -> Option<Placement> {
    let functions = Functions::get(runtime)?;
    let mut placement: BTreeMap<String, usize> = BTreeMap::new();
    for subgraph in functions.list(functions.info, session.ptr().cast())? {
        let provider = functions.name(subgraph)?;
        *placement.entry(provider).or_default() += functions.list(functions.nodes, subgraph)?.len();
    }
    // An empty record says nothing of any node.
    (!placement.is_empty()).then(|| placement.into_iter().collect())
}

/// All nodes of the graph that is kept in this file. `None` where it cannot be read.
pub(super) fn of_the_cpu_alone(optimised: &Path) -> Option<Placement> {
    let nodes = count_nodes(&mut BufReader::new(File::open(optimised).ok()?))?;
    Some(vec![(Provider::Cpu.name().to_owned(), nodes)])
}

/// Of protobuf: a field of so many bytes, which follow.
const BYTES: u64 = 2;
/// `ModelProto.graph` and `GraphProto.node`.
const GRAPH: u64 = 7;
const NODE: u64 = 1;

/// In an ONNX file: those of the graph itself, as ONNX Runtime counts, not those inside `If` and `Loop`. Weights are
/// passed over, not read.
fn count_nodes(file: &mut (impl Read + Seek)) -> Option<usize> {
    let end = file.seek(std::io::SeekFrom::End(0)).ok()?;
    file.rewind().ok()?;
    let mut nodes = 0;
    while file.stream_position().ok()? < end {
        let (field, size) = field(file)?;
        if field != GRAPH {
            file.seek_relative(i64::try_from(size).ok()?).ok()?;
            continue;
        }
        let graph_end = file.stream_position().ok()?.checked_add(size)?;
        while file.stream_position().ok()? < graph_end {
            let (inner, size) = self::field(file)?;
            nodes += usize::from(inner == NODE);
            file.seek_relative(i64::try_from(size).ok()?).ok()?;
        }
    }
    (file.stream_position().ok()? == end).then_some(nodes)
}

/// A field's number, and how many bytes of it follow.
fn field(file: &mut impl Read) -> Option<(u64, u64)> {
    let tag = varint(file)?;
    let size = match tag & 7 {
        0 => varint(file).map(|_| 0)?,
        1 => 8,
        BYTES => varint(file)?,
        5 => 4,
        _ => return None,
    };
    Some((tag >> 3, size))
}

fn varint(file: &mut impl Read) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        file.read_exact(&mut byte).ok()?;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[expect(unsafe_code, reason = "functions that the binding has no name for at the API it is compiled for")]
impl Functions {
    fn get(runtime: &OnnxRuntime) -> Option<Functions> {
        // SAFETY: the library is loaded already, so this only counts one more user, who stays. `OrtGetApiBase` gives a
        // table that lives as long as the library, which is never unloaded. `GetApi` answers with null for an API it does not know, else with a table of at least that API's functions, of which
        // the highest index used here is one. All of the table is function pointers.
        unsafe {
            let library = Library::open(Some(&runtime.library().path), RTLD_LAZY).ok()?;
            let base = library
                .get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(c"OrtGetApiBase")
                .map(|base| *base);
            std::mem::forget(library);
            let base = base.ok()?();
            if base.is_null() {
                return None;
            }
            let table: *const *const c_void = ((*base).GetApi)(API).cast();
            if table.is_null() {
                return None;
            }
            Some(Functions {
                info: std::mem::transmute::<*const c_void, Listing>(*table.add(GET_INFO)),
                provider: std::mem::transmute::<*const c_void, Naming>(*table.add(GET_PROVIDER)),
                nodes: std::mem::transmute::<*const c_void, Listing>(*table.add(GET_NODES)),
                release: std::mem::transmute::<*const c_void, Release>(*table.add(RELEASE_STATUS)),
            })
        }
    }

    fn list(&self, function: Listing, of: *const c_void) -> Option<Vec<*const c_void>> {
        let (mut items, mut count) = (std::ptr::null(), 0);
        // SAFETY: `of` is what this function lists the parts of; both results are written where there is no error, and
        // belong to the session.
        unsafe {
            let status = function(of, &raw mut items, &raw mut count);
            if !status.is_null() {
                (self.release)(status);
                return None;
            }
            if count == 0 || items.is_null() {
                Some(Vec::new())
            } else {
                Some(std::slice::from_raw_parts(items, count).to_vec())
            }
        }
    }

    fn name(&self, subgraph: *const c_void) -> Option<String> {
        let mut name = std::ptr::null();
        // SAFETY: as in `list`; the name ends with a zero and belongs to the session.
        unsafe {
            let status = (self.provider)(subgraph, &raw mut name);
            if !status.is_null() {
                (self.release)(status);
                return None;
            }
            if name.is_null() { None } else { Some(CStr::from_ptr(name).to_string_lossy().into_owned()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::model::fixture;

    #[test]
    fn nodes_are_counted_in_the_graph_itself() {
        // Two nodes; before them a version, after them weights that are passed over.
        let graph = b"\x0a\x02\x22\x00\x0a\x00\x2a\x05wxyz!";
        let model = [&b"\x08\x08\x3a\x0d"[..], graph].concat();
        assert_eq!(count_nodes(&mut Cursor::new(&model)), Some(2));
        assert_eq!(count_nodes(&mut Cursor::new(&model[..model.len() - 1])), None, "it is cut");
        assert_eq!(count_nodes(&mut Cursor::new(b"\x3f")), None, "a group is no ONNX");
    }

    #[test]
    fn the_cpus_nodes_are_those_of_the_file() {
        assert_eq!(of_the_cpu_alone(&fixture::model("sum")), Some(vec![("CPUExecutionProvider".into(), 2)]));
        assert_eq!(of_the_cpu_alone(Path::new("nowhere.onnx")), None);
    }
}
