//! Commands for preview 1 keep their exit codes.
//!
//! The adapter that makes them components knows success and failure only. So before a module becomes a component, its
//! import of `proc_exit` is pointed past the adapter, at `wasi:cli/exit`, which takes the code itself. Codes are one
//! byte, as on any Unix.

use wasmparser::{BinaryReader, BinaryReaderError};
use wit_component::StringEncoding;
use wit_parser::Resolve;

/// An import's two names as a module holds them, each after its length.
const PROC_EXIT: &[u8] = b"\x16wasi_snapshot_preview1\x09proc_exit";
const EXIT_WITH_CODE: &[u8] = b"\x14wasi:cli/exit@0.2.12\x0eexit-with-code";

/// The world in which a module may import that.
const WORLD: &str = "
    package wharf:command;
    world command { import wasi:cli/exit@0.2.12; }
    package wasi:cli@0.2.12 {
        interface exit {
            exit: func(status: result);
            exit-with-code: func(status-code: u8);
        }
    }
";

const HEADER: usize = 8;
const IMPORT_SECTION: u8 = 2;

/// `module`, which is valid, with its import replaced; `None` when it has none.
pub(crate) fn keep_exit_code(module: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let Some(mut module) = redirect(module).map_err(|error| error.to_string())? else { return Ok(None) };
    let mut wit = Resolve::default();
    let embedded = wit
        .push_source("command.wit", WORLD)
        .and_then(|package| wit.select_world(&[package], Some("command")))
        .and_then(|world| wit_component::embed_component_metadata(&mut module, &wit, world, StringEncoding::UTF8));
    embedded.map_err(|error| format!("{error:#}"))?;
    Ok(Some(module))
}

fn redirect(module: &[u8]) -> Result<Option<Vec<u8>>, BinaryReaderError> {
    let mut reader = BinaryReader::new(module, 0);
    let mut redirected = reader.read_bytes(HEADER)?.to_vec();
    let mut found = false;
    while !reader.eof() {
        let id = reader.read_u8()?;
        let size = reader.read_var_u32()?;
        let content = reader.read_bytes(size as usize)?;
        redirected.push(id);
        let at = content.windows(PROC_EXIT.len()).position(|names| names == PROC_EXIT);
        match at.filter(|_| id == IMPORT_SECTION).map(|at| content.split_at(at)) {
            Some((before, rest)) => {
                let after = rest.get(PROC_EXIT.len()..).unwrap_or_default();
                write_size(&mut redirected, before.len() + EXIT_WITH_CODE.len() + after.len());
                redirected.extend([before, EXIT_WITH_CODE, after].into_iter().flatten());
                found = true;
            }
            None => {
                write_size(&mut redirected, content.len());
                redirected.extend_from_slice(content);
            }
        }
    }
    Ok(found.then_some(redirected))
}

/// LEB128, least significant seven bits first.
fn write_size(bytes: &mut Vec<u8>, mut size: usize) {
    while size > 0x7f {
        bytes.push((size & 0x7f) as u8 | 0x80);
        size >>= 7;
    }
    bytes.push(size as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_import_is_replaced_and_nothing_else() {
        let module = |imports: &str| {
            wat::parse_str(format!("(module {imports} (memory 1) (data (i32.const 0) \"{}\"))", "x".repeat(300)))
                .unwrap()
        };
        let other = r#"(import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))"#;
        assert_eq!(redirect(&module(other)).unwrap(), None);
        let old = module(&format!(r#"{other} (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))"#));
        let new = module(&format!(r#"{other} (import "wasi:cli/exit@0.2.12" "exit-with-code" (func (param i32)))"#));
        assert_eq!(redirect(&old).unwrap(), Some(new));
    }
}
