//! From the bytes of a `.wasm` file to a checked, compiled component.
//!
//! Accepted are components that export `wasi:http/incoming-handler@0.2.*` and core modules made by wit-bindgen
//! (targets `wasm32-unknown-unknown` and, through the preview1 adapter, `wasm32-wasip1`).

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::cache::{ComponentCache, hex};
use crate::engine::Engine;
use crate::linker::{OFFERED, linker};
use crate::state::State;

const HANDLER: &str = "wasi:http/incoming-handler@0.2.";

/// A compiled service, ready to be instantiated. Cheap to clone.
#[derive(Clone)]
pub struct Component {
    pub(crate) engine: Engine,
    pub(crate) pre: ProxyPre<State>,
    digest: String,
}

/// Why a file is no service. Each message says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("not WebAssembly: it starts with {seen}, not with \\0asm")]
    NotWasm { seen: String },
    #[error("damaged WebAssembly: {0}")]
    Damaged(String),
    #[error(
        "a core module that wit-bindgen did not make: {0}; build it with the wharf-guest crate, or make it a component"
    )]
    NotBindgen(String),
    #[error("it is written for WASI 0.3 ({0}), which this host does not run yet; build it against wasi:http 0.2")]
    Wasi03(String),
    #[error(
        "it does not export wasi:http/incoming-handler@0.2, so it cannot answer requests; its exports: {exports}{hint}"
    )]
    NoHandler { exports: String, hint: &'static str },
    #[error("it imports what this host does not offer: {}; offered are wasi:cli, clocks, filesystem, http, io, random and sockets 0.2, wasi:nn 0.2.0-rc-2024-10-28, wharf:inference and wharf:vision 0.1", .0.join(", "))]
    UnknownImports(Vec<String>),
    #[error("it does not fit this host: {0}")]
    Unfit(String),
    #[error("it does not compile: {0}")]
    Compile(String),
}

impl Component {
    /// Check and compile `wasm`; the result of compiling comes from and goes to `cache`.
    pub fn load(engine: &Engine, cache: Option<&ComponentCache>, wasm: &[u8]) -> Result<Component, LoadError> {
        let wasm = componentise(wasm)?;
        check_names(&names(&wasm)?)?;
        let compiled = match cache {
            Some(cache) => cache.compile(engine, &wasm),
            None => wasmtime::component::Component::new(&engine.wasmtime, &wasm),
        };
        let compiled = compiled.map_err(|error| LoadError::Compile(format!("{error:#}")))?;
        let pre = linker(engine)
            .and_then(|linker| linker.instantiate_pre(&compiled))
            .and_then(ProxyPre::new)
            .map_err(|error| LoadError::Unfit(format!("{error:#}")))?;
        Ok(Component { engine: engine.clone(), pre, digest: hex(&Sha256::digest(&wasm)) })
    }

    /// sha256 of the component, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// `wasm` itself when it is a component; a core module becomes one.
pub fn componentise(wasm: &[u8]) -> Result<Cow<'_, [u8]>, LoadError> {
    if !wasm.starts_with(b"\0asm") {
        return Err(LoadError::NotWasm { seen: describe_start(wasm) });
    }
    if Parser::is_component(wasm) {
        return Ok(Cow::Borrowed(wasm));
    }
    // The encoder trusts its input and panics on a module that is cut short.
    Validator::new_with_features(WasmFeatures::all())
        .validate_all(wasm)
        .map_err(|error| LoadError::Damaged(error.to_string()))?;
    encode(wasm).map(Cow::Owned).map_err(LoadError::NotBindgen)
}

fn encode(module: &[u8]) -> Result<Vec<u8>, String> {
    let (name, adapter) = (WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER);
    wit_component::ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| encoder.adapter(name, adapter))
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| format!("{error:#}"))
}

/// The imports and exports of a component, by name.
#[derive(Debug, Default)]
struct Names {
    imports: Vec<String>,
    exports: Vec<String>,
}

fn names(component: &[u8]) -> Result<Names, LoadError> {
    let damaged = |error: wasmparser::BinaryReaderError| LoadError::Damaged(error.to_string());
    let mut names = Names::default();
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(damaged)? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            // Nested components have imports and exports of their own, which are not ours to satisfy.
            Payload::ComponentImportSection(imports) if depth == 1 => {
                for import in imports {
                    names.imports.push(import.map_err(damaged)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) if depth == 1 => {
                for export in exports {
                    names.exports.push(export.map_err(damaged)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

fn check_names(names: &Names) -> Result<(), LoadError> {
    let serves = names.exports.iter().any(|name| name.starts_with(HANDLER));
    let newer =
        names.exports.iter().chain(&names.imports).find(|name| name.starts_with("wasi:") && name.contains("@0.3"));
    if let Some(name) = newer {
        return Err(LoadError::Wasi03(name.clone()));
    }
    if !serves {
        let hint = match names.exports.iter().any(|name| name.starts_with("wasi:cli/run@")) {
            true => " (wasi:cli/run is a job: it runs once and ends)",
            false => "",
        };
        let exports = if names.exports.is_empty() { "none".to_owned() } else { names.exports.join(", ") };
        return Err(LoadError::NoHandler { exports, hint });
    }
    let unknown: Vec<String> = names.imports.iter().filter(|name| !is_offered(name)).cloned().collect();
    if unknown.is_empty() { Ok(()) } else { Err(LoadError::UnknownImports(unknown)) }
}

fn is_offered(import: &str) -> bool {
    OFFERED.iter().any(|(package, version)| {
        import
            .strip_prefix(package)
            .and_then(|rest| rest.find('@').map(|at| rest.split_at(at).1))
            .is_some_and(|seen| seen.starts_with(version))
    })
}

fn describe_start(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing (the file is empty)".to_owned();
    }
    let start = bytes.get(..bytes.len().min(4)).unwrap_or_default();
    format!("{:?}", String::from_utf8_lossy(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_matched_by_package_and_version() {
        assert!(is_offered("wasi:http/types@0.2.9"));
        assert!(is_offered("wharf:vision/images@0.1.0"));
        assert!(!is_offered("wasi:http/types@0.3.0"));
        assert!(!is_offered("wasi:keyvalue/store@0.2.0"));
        assert!(!is_offered("wharf:vision/images"));
    }

    #[test]
    fn other_files_are_named() {
        let error = componentise(b"GIF89a").unwrap_err();
        assert_eq!(error.to_string(), "not WebAssembly: it starts with \"GIF8\", not with \\0asm");
        assert!(componentise(b"").unwrap_err().to_string().contains("empty"));
    }

    #[test]
    fn a_component_must_answer_http() {
        let exports =
            |names: &[&str]| Names { imports: vec![], exports: names.iter().map(ToString::to_string).collect() };
        assert!(check_names(&exports(&["wasi:http/incoming-handler@0.2.3"])).is_ok());
        let job = check_names(&exports(&["wasi:cli/run@0.2.0"])).unwrap_err().to_string();
        assert!(job.contains("is a job"), "{job}");
        let newer = check_names(&exports(&["wasi:http/handler@0.3.0"])).unwrap_err().to_string();
        assert!(newer.contains("WASI 0.3"), "{newer}");
    }
}
