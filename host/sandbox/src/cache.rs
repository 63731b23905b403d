//! Compiled components on disk. Always disposable: a missing, corrupt or foreign entry is compiled again.
//!
//! An entry is `<key>.cwasm`, machine code that the process maps, and `<key>.sha256`, its digest. The key joins the
//! digest of the component with a hash of everything in the engine that shapes machine code (version,
//! settings, CPU features). Entries are written to a temporary name and renamed: another process may have
//! the old file mapped.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use crate::engine::Engine;

/// A folder of compiled components.
#[derive(Clone, Debug)]
pub struct ComponentCache {
    folder: PathBuf,
}

impl ComponentCache {
    /// Use `folder`, made with mode 0700 when missing. Machine code is loaded from it, so a folder that
    /// somebody else owns or may write to is refused.
    pub fn open(folder: impl Into<PathBuf>) -> io::Result<ComponentCache> {
        let folder = folder.into();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let metadata = fs::metadata(&folder)?;
        let own = fs::metadata("/proc/self")?.uid();
        if metadata.uid() != own || metadata.mode() & 0o022 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} must belong to this user and be writable by nobody else (chmod go-w)", folder.display()),
            ));
        }
        Ok(ComponentCache { folder })
    }

    /// The compiled form of `wasm`, whose sha256 in hex is `digest`, from the cache or compiled now and kept. Failure
    /// to keep it is logged, not returned.
    #[expect(unsafe_code, reason = "loading machine code; it was compiled here")]
    pub(crate) fn compile(&self, engine: &Engine, wasm: &[u8], digest: &str) -> wasmtime::Result<Component> {
        let entry = self.folder.join(key(engine, digest));
        if let Some(component) = load(engine, &entry) {
            return Ok(component);
        }
        let code = engine.wasmtime.precompile_component(wasm)?;
        if let Err(error) = keep(&entry, &code) {
            tracing::warn!(%error, folder = %self.folder.display(), "cannot keep a compiled component");
        }
        // SAFETY: `code` was made by this engine a moment ago and nobody else has seen it.
        unsafe { Component::deserialize(&engine.wasmtime, &code) }
    }
}

fn key(engine: &Engine, digest: &str) -> String {
    let mut environment = DefaultHasher::new();
    engine.wasmtime.precompile_compatibility_hash().hash(&mut environment);
    (engine.layout() as u8).hash(&mut environment);
    format!("{digest}-{:016x}", environment.finish())
}

#[expect(unsafe_code, reason = "loading machine code; the folder is ours and the digest is checked")]
fn load(engine: &Engine, entry: &Path) -> Option<Component> {
    let (code, digest) = (entry.with_extension("cwasm"), entry.with_extension("sha256"));
    let expected = fs::read_to_string(digest).ok()?;
    if hex(&Sha256::digest(fs::read(&code).ok()?)) != expected.trim() {
        tracing::warn!(file = %code.display(), "a compiled component is corrupt: compiling it again");
        return None;
    }
    // SAFETY: the folder is writable by this user only (`open`), the file is what this program wrote (digest
    // just checked), and it is replaced by rename only, so the mapping stays valid. wasmtime itself refuses
    // code of another version, CPU or configuration.
    match unsafe { Component::deserialize_file(&engine.wasmtime, &code) } {
        Ok(component) => Some(component),
        Err(error) => {
            tracing::info!(file = %code.display(), reason = %error, "a compiled component does not fit: compiling it again");
            None
        }
    }
}

fn keep(entry: &Path, code: &[u8]) -> io::Result<()> {
    // Containers of one image start side by side, and each writes a file of its own.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let write = format!("{}-{}", std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed));
    // The digest goes last: an entry without one is no entry.
    for (extension, bytes) in [("cwasm", code), ("sha256", hex(&Sha256::digest(code)).as_bytes())] {
        let temporary = entry.with_extension(format!("{extension}.{write}"));
        let kept = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, entry.with_extension(extension)));
        if kept.is_err() {
            // The disk is full, most likely: leave nothing half-written there. What cannot be removed is tried no
            // further.
            let _ = fs::remove_file(&temporary);
        }
        kept?;
    }
    Ok(())
}

pub(crate) fn digest(wasm: &[u8]) -> String {
    hex(&Sha256::digest(wasm))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
