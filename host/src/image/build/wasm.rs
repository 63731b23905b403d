//! The first bytes of a Wasm file: all that this room knows of Wasm.

use std::fs::File;
use std::io::Read;
use std::path::Path;

const CORE_MODULE: [u8; 8] = [0, b'a', b's', b'm', 1, 0, 0, 0];
const COMPONENT: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];

pub fn is_core_module(path: &Path) -> bool {
    head(path) == Some(CORE_MODULE)
}

pub fn is_component(path: &Path) -> bool {
    head(path) == Some(COMPONENT)
}

fn head(path: &Path) -> Option<[u8; 8]> {
    let mut head = [0; 8];
    File::open(path).ok()?.read_exact(&mut head).ok()?;
    Some(head)
}
