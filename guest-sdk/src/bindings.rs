//! The contract in `wit/`, as Rust. Generated; only `export.rs` and the thin wrappers around handles
//! (`body`, `image`, `model`, `tensor`, `environment`, `logging`) may name what is in here, so that all
//! other code runs, and is tested, on any machine: off WebAssembly these imports are unreachable stubs.

#![allow(unsafe_code, missing_docs, clippy::all, clippy::pedantic, clippy::restriction)]

wit_bindgen::generate!({
    path: "wit",
    world: "wharf:guest/service",
    generate_all,
    // Lists are passed as slices: a tensor of a guest is read where it lies.
    ownership: Borrowing { duplicate_if_necessary: false },
    runtime_path: "::wharf_guest::__private::wit_bindgen::rt",
    default_bindings_module: "::wharf_guest::__private::bindings",
    pub_export_macro: true,
});
