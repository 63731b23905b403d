//! What a guest may touch. This file is the whole list.
//!
//! | import | what it reaches |
//! |---|---|
//! | `wasi:cli` | its own environment, arguments and exit code; stdout and stderr go to the container's log or to whoever watches the job; stdin is what a job is given, else empty |
//! | `wasi:clocks`, `wasi:random` | the host's clocks and random numbers |
//! | `wasi:io` | streams and pollables it already holds |
//! | `wasi:filesystem` | the folders mounted into the container, nothing else ([`crate::state`]) |
//! | `wasi:sockets` | linked because libc imports it; every use is refused |
//! | `wasi:http/types` | the request it serves and the response it makes |
//! | `wasi:http/outgoing-handler` | refused unless the container's network allows the destination ([`crate::egress`]) |
//! | `wharf:inference`, `wasi:nn` | the container's own models, by name |
//! | `wharf:vision` | pictures, in host memory charged to the container |

use wasmtime::component::{HasSelf, Linker};

use crate::bindings::wasi::nn;
use crate::bindings::wharf::{inference, vision};
use crate::egress::add_handle;
use crate::engine::Engine;
use crate::inference::add_infer_from_memory;
use crate::state::State;

/// Packages a guest may import, with the versions offered. A name is matched up to its version's
/// compatible part.
pub(crate) const OFFERED: [(&str, &str); 10] = [
    ("wasi:cli/", "@0.2."),
    ("wasi:clocks/", "@0.2."),
    ("wasi:random/", "@0.2."),
    ("wasi:io/", "@0.2."),
    ("wasi:filesystem/", "@0.2."),
    ("wasi:sockets/", "@0.2."),
    ("wasi:http/", "@0.2."),
    ("wasi:nn/", "@0.2.0-rc-2024-10-28"),
    ("wharf:inference/", "@0.1."),
    ("wharf:vision/", "@0.1."),
];

pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(&engine.wasmtime);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;

    let l = &mut linker;
    inference::tensors::add_to_linker::<_, HasSelf<State>>(l, |state| state)?;
    inference::models::add_to_linker::<_, HasSelf<State>>(l, |state| state)?;
    vision::images::add_to_linker::<_, HasSelf<State>>(l, |state| state)?;
    nn::tensor::add_to_linker::<_, HasSelf<State>>(l, |state| state)?;
    nn::errors::add_to_linker::<_, HasSelf<State>>(l, |state| state)?;
    nn::graph::add_to_linker::<_, HasSelf<State>>(l, |state| state)?;
    nn::inference::add_to_linker::<_, HasSelf<State>>(l, |state| state)?;

    // Two functions replace their bindings: one that would copy the guest's memory, one that would wake threads.
    l.allow_shadowing(true);
    add_infer_from_memory(l)?;
    add_handle(l)?;
    l.allow_shadowing(false);
    Ok(linker)
}
