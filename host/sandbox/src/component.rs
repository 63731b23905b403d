//! From the bytes of a `.wasm` file to a checked, compiled component.
//!
//! | file | what it is |
//! |---|---|
//! | component that exports `wasi:http/incoming-handler@0.2.*` | a service |
//! | component that exports `wasi:cli/run@0.2.*` | a job; a service when it exports both |
//! | core module made by wit-bindgen, with or without preview 1 | what its world exports |
//! | core module for preview 1 with `_start` (`wasm32-wasip1`) | a job |

use std::borrow::Cow;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{BinaryReaderError, Encoding, Parser, Payload, Validator, WasmFeatures};
use wasmtime::component::InstancePre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::cache::{ComponentCache, digest};
use crate::command::keep_exit_code;
use crate::engine::Engine;
use crate::linker::{OFFERED, linker};
use crate::state::State;

const HANDLER: &str = "wasi:http/incoming-handler@0.2.";
const RUN: &str = "wasi:cli/run@0.2.";

/// What a core module for preview 1 exports when it is a command.
const START: &str = "_start";

/// A compiled service, ready to be instantiated. Cheap to clone.
#[derive(Clone)]
pub struct Component {
    pub(crate) engine: Engine,
    pub(crate) pre: ProxyPre<State>,
    digest: String,
}

/// What a file is good for.
#[derive(Debug)]
pub enum Kind {
    /// Answers HTTP.
    Service,
    /// Runs once and ends.
    Job,
    Neither(LoadError),
}

/// Why a file cannot be run. Each message says what to do about it.
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
    #[error("it does not export wasi:cli/run@0.2, so it cannot run and end; its exports: {exports}{hint}")]
    NoRun { exports: String, hint: &'static str },
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
        let (pre, digest) = load(engine, cache, wasm, Names::check_service)?;
        let pre = ProxyPre::new(pre).map_err(unfit)?;
        Ok(Component { engine: engine.clone(), pre, digest })
    }

    /// sha256 of the component, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// What `wasm` is, by its exports alone: it may still fail to load.
pub fn kind(wasm: &[u8]) -> Kind {
    let names = match check_magic(wasm).and_then(|()| names(wasm)) {
        Ok(names) => names,
        Err(error) => return Kind::Neither(error),
    };
    match names.check_service_exports() {
        Ok(()) => Kind::Service,
        Err(_) if names.is_job() => Kind::Job,
        Err(error) => Kind::Neither(error),
    }
}

/// Compile `wasm`, service or job, into `cache`, so that its first start is fast.
pub fn precompile(engine: &Engine, cache: &ComponentCache, wasm: &[u8]) -> Result<(), LoadError> {
    let wasm = componentise(wasm)?;
    cache.compile(engine, &wasm, &digest(&wasm)).map(drop).map_err(uncompiled)
}

/// The component, linked but not instantiated, and its digest.
pub(crate) fn load(
    engine: &Engine,
    cache: Option<&ComponentCache>,
    wasm: &[u8],
    check: impl FnOnce(&Names) -> Result<(), LoadError>,
) -> Result<(InstancePre<State>, String), LoadError> {
    let wasm = componentise(wasm)?;
    check(&names(&wasm)?)?;
    let digest = digest(&wasm);
    let compiled = match cache {
        Some(cache) => cache.compile(engine, &wasm, &digest),
        None => wasmtime::component::Component::new(&engine.wasmtime, &wasm),
    };
    let compiled = compiled.map_err(uncompiled)?;
    let pre = linker(engine).and_then(|linker| linker.instantiate_pre(&compiled)).map_err(unfit)?;
    Ok((pre, digest))
}

fn uncompiled(error: wasmtime::Error) -> LoadError {
    LoadError::Compile(format!("{error:#}"))
}

pub(crate) fn unfit(error: wasmtime::Error) -> LoadError {
    LoadError::Unfit(format!("{error:#}"))
}

/// `wasm` itself when it is a component; a core module becomes one.
pub fn componentise(wasm: &[u8]) -> Result<Cow<'_, [u8]>, LoadError> {
    check_magic(wasm)?;
    if Parser::is_component(wasm) {
        return Ok(Cow::Borrowed(wasm));
    }
    // The encoder trusts its input and panics on a module that is cut short.
    Validator::new_with_features(WasmFeatures::all()).validate_all(wasm).map_err(damaged)?;
    let names = names(wasm)?;
    let encoded = match names.exports_start() && !names.serves() {
        true => keep_exit_code(wasm)
            .and_then(|kept| encode(kept.as_deref().unwrap_or(wasm), WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)),
        false => encode(wasm, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER),
    };
    encoded.map(Cow::Owned).map_err(LoadError::NotBindgen)
}

fn check_magic(wasm: &[u8]) -> Result<(), LoadError> {
    if wasm.starts_with(b"\0asm") { Ok(()) } else { Err(LoadError::NotWasm { seen: describe_start(wasm) }) }
}

fn encode(module: &[u8], adapter: &[u8]) -> Result<Vec<u8>, String> {
    wit_component::ComponentEncoder::default()
        .module(module)
        .and_then(|encoder| encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter))
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| format!("{error:#}"))
}

/// The imports and exports of a component or core module, by name. wit-bindgen names a core module's exports
/// `interface#function`, so that the same beginnings count.
#[derive(Debug, Default)]
pub(crate) struct Names {
    imports: Vec<String>,
    exports: Vec<String>,
}

fn names(wasm: &[u8]) -> Result<Names, LoadError> {
    let mut names = Names::default();
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(damaged)? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            // Nested components and modules have imports and exports of their own, which are not ours to satisfy.
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
            Payload::ExportSection(exports) if depth == 1 => {
                for export in exports {
                    names.exports.push(export.map_err(damaged)?.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

fn damaged(error: BinaryReaderError) -> LoadError {
    LoadError::Damaged(error.to_string())
}

impl Names {
    fn serves(&self) -> bool {
        self.exports.iter().any(|name| name.starts_with(HANDLER))
    }

    fn exports_start(&self) -> bool {
        self.exports.iter().any(|name| name == START)
    }

    fn is_job(&self) -> bool {
        self.exports_start() || self.exports.iter().any(|name| name.starts_with(RUN))
    }

    fn check_service(&self) -> Result<(), LoadError> {
        self.check_version()?;
        self.check_service_exports()?;
        self.check_imports()
    }

    pub(crate) fn check_job(&self) -> Result<(), LoadError> {
        self.check_version()?;
        if !self.is_job() {
            let hint =
                if self.serves() { " (wasi:http/incoming-handler is a service: it answers requests)" } else { "" };
            return Err(LoadError::NoRun { exports: self.list_exports(), hint });
        }
        self.check_imports()
    }

    fn check_version(&self) -> Result<(), LoadError> {
        let newer = |name: &&String| name.starts_with("wasi:") && name.contains("@0.3");
        match self.exports.iter().chain(&self.imports).find(newer) {
            Some(name) => Err(LoadError::Wasi03(name.clone())),
            None => Ok(()),
        }
    }

    fn check_service_exports(&self) -> Result<(), LoadError> {
        if self.serves() {
            return Ok(());
        }
        let hint = if self.is_job() { " (wasi:cli/run is a job: it runs once and ends)" } else { "" };
        Err(LoadError::NoHandler { exports: self.list_exports(), hint })
    }

    fn check_imports(&self) -> Result<(), LoadError> {
        let unknown: Vec<String> = self.imports.iter().filter(|name| !is_offered(name)).cloned().collect();
        if unknown.is_empty() { Ok(()) } else { Err(LoadError::UnknownImports(unknown)) }
    }

    fn list_exports(&self) -> String {
        if self.exports.is_empty() { "none".to_owned() } else { self.exports.join(", ") }
    }
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

    fn exports(names: &[&str]) -> Names {
        Names { imports: vec![], exports: names.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn a_service_must_answer_http() {
        assert!(exports(&["wasi:http/incoming-handler@0.2.3"]).check_service().is_ok());
        let job = exports(&["wasi:cli/run@0.2.0"]).check_service().unwrap_err().to_string();
        assert!(job.contains("is a job"), "{job}");
        let newer = exports(&["wasi:http/handler@0.3.0"]).check_service().unwrap_err().to_string();
        assert!(newer.contains("WASI 0.3"), "{newer}");
    }

    #[test]
    fn a_job_must_run() {
        assert!(exports(&["wasi:cli/run@0.2.6"]).check_job().is_ok());
        let service = exports(&["wasi:http/incoming-handler@0.2.3"]).check_job().unwrap_err().to_string();
        assert!(service.contains("is a service"), "{service}");
        let unknown = Names { imports: vec!["wasi:keyvalue/store@0.2.0".into()], ..exports(&["wasi:cli/run@0.2.0"]) };
        assert!(matches!(unknown.check_job(), Err(LoadError::UnknownImports(_))));
    }

    #[test]
    fn files_are_told_apart_by_their_exports() {
        let module = |text: &str| wat::parse_str(text).unwrap();
        let handler = "wasi:http/incoming-handler@0.2.12";
        let service = module(&format!(r#"(component (instance $i) (export "{handler}" (instance $i)))"#));
        assert!(matches!(kind(&service), Kind::Service));
        let job = module(r#"(component (instance $i) (export "wasi:cli/run@0.2.3" (instance $i)))"#);
        assert!(matches!(kind(&job), Kind::Job));
        assert!(matches!(kind(&module(r#"(module (func (export "_start")))"#)), Kind::Job));
        let both = module(&format!(r#"(module (func (export "_start")) (func (export "{handler}#handle")))"#));
        assert!(matches!(kind(&both), Kind::Service));
        // What a nested module exports is not the component's.
        let nested = module(r#"(component (core module (func (export "_start"))))"#);
        assert!(matches!(kind(&nested), Kind::Neither(LoadError::NoHandler { .. })));
        assert!(matches!(kind(b"PK"), Kind::Neither(LoadError::NotWasm { .. })));
        assert!(matches!(kind(&job[..job.len() - 2]), Kind::Neither(LoadError::Damaged(_))));
    }
}
