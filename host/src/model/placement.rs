//! Which provider got which of a session's nodes, as ONNX Runtime itself says: never inferred from what was asked for.
//!
//! ONNX Runtime keeps that record where the session was told to (`session.record_ep_graph_assignment_info`) and gives it
//! out from API 24 (1.24) on. The binding is compiled for an older API, so that older libraries load; the newer one is
//! asked for at run time. An older library has no record, and nothing is claimed.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};

use libloading::os::unix::{Library, RTLD_LAZY};
use ort::AsPointer;
use ort::session::Session;

use super::environment::OnnxRuntime;

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
    // The record of 1.31.1 is empty where no provider but the CPU's is registered: that says nothing of any node.
    (!placement.is_empty()).then(|| placement.into_iter().collect())
}

#[expect(unsafe_code, reason = "functions that the binding has no name for at the API it is compiled for")]
impl Functions {
    fn get(runtime: &OnnxRuntime) -> Option<Functions> {
        // SAFETY: the library is loaded already, so this only counts one more user, who stays. `OrtGetApiBase` gives a table that lives as long as the library, which is never unloaded. `GetApi`
        // answers with null for an API it does not know, else with a table of at least that API's functions, of which
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
