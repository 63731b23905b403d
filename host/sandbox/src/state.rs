//! What one instance holds: its WASI context, its handles, its meter, and the container it belongs to.
//!
//! **Files.** Each [`Mount`] is a preopened folder; a path belongs to the mount with the longest target that begins
//! it, which is how guests' libc resolves it (Rust's std, C, and CPython, on preview 1 as on 0.2). So an image's
//! files go first, to `/`, read only, and volumes after them, to wherever they belong, writable or not; nothing
//! crosses from one into the other by `..`, a symbolic link, or a rename. A mount's target need not exist in the
//! image to be opened, but only what exists there is seen in a listing of its parent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::cli::IsTerminal;
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};
use wharf_tensor::Tensor;
use wharf_tensor::infer::Infer;
use wharf_vision::Image;

use crate::egress::{DenyAll, Outgoing};
use crate::governor::Governor;
use crate::limits::{Meter, OverLimit};
use crate::log::LogStream;
use crate::stdio::{Output, Stdin, Stdout};
use crate::turn::Turn;

/// Handles one instance may have open: streams, headers, tensors, pictures.
const HANDLES: usize = 65_536;

/// What is the same for all instances of a container.
#[derive(Clone)]
pub struct Guest {
    /// The container's models by name, sorted.
    pub models: Vec<(String, Arc<dyn Infer>)>,
    pub environment: Vec<(String, String)>,
    /// `argv`, the component's own name first.
    pub arguments: Vec<String>,
    /// Where a guest begins; empty for nowhere in particular. Preview 1 has no such thing: there, all begin at `/`.
    pub working_dir: String,
    pub mounts: Vec<Mount>,
    pub output: Output,
    /// Memory limit of one instance in bytes, see [`crate::limits`]; [`Governor::set_memory`] replaces it.
    pub memory: usize,
    /// Limits of decoded pictures.
    pub pictures: wharf_vision::Limits,
    /// Whom it may call.
    pub outgoing: Arc<dyn Outgoing>,
    /// The container's hold on it.
    pub governor: Governor,
}

impl Guest {
    /// A guest of a container of its own that sees and reaches nothing.
    pub fn new(output: Output, memory: usize) -> Guest {
        Guest {
            models: Vec::new(),
            environment: Vec::new(),
            arguments: Vec::new(),
            working_dir: String::new(),
            mounts: Vec::new(),
            output,
            memory,
            pictures: wharf_vision::Limits::default(),
            outgoing: Arc::new(DenyAll),
            governor: Governor::default(),
        }
    }

    /// The mounted folders, opened: instances share them.
    pub(crate) fn open_mounts(&self) -> wasmtime::Result<WasiFilesystemCtx> {
        let mut wasi = WasiCtx::builder();
        for mount in &self.mounts {
            let rights = if mount.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
            wasi.preopened_dir(&mount.source, &mount.target, rights).map_err(|error| {
                error.context(format!("cannot open {} for {}", mount.source.display(), mount.target))
            })?;
        }
        Ok(wasi.build().filesystem().clone())
    }
}

/// A folder of the host that the guest sees.
#[derive(Clone, Debug)]
pub struct Mount {
    pub source: PathBuf,
    pub target: String,
    pub read_only: bool,
}

/// The data of a wasmtime store.
pub(crate) struct State {
    pub(crate) guest: Arc<Guest>,
    pub(crate) table: ResourceTable,
    pub(crate) meter: Meter,
    /// When the request being served must be answered.
    pub(crate) deadline: Option<Instant>,
    pub(crate) turn: Turn,
    stdout: Stdout,
    stderr: Stdout,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
}

impl State {
    pub(crate) fn new(guest: Arc<Guest>, folders: &WasiFilesystemCtx, stdin: Stdin) -> State {
        let stdout = Stdout::new(&guest.output, LogStream::Stdout, stdin.is_terminal());
        let stderr = Stdout::new(&guest.output, LogStream::Stderr, stdin.is_terminal());
        let mut wasi = WasiCtx::builder();
        wasi.envs(&guest.environment)
            .args(&guest.arguments)
            .stdin(stdin)
            .stdout(stdout.clone())
            .stderr(stderr.clone())
            // Sockets are linked because other toolchains' libc imports them; every use is refused.
            .socket_addr_check(|_, _| Box::pin(async { false }))
            .allow_ip_name_lookup(false)
            .allow_tcp(false)
            .allow_udp(false);
        if !guest.working_dir.is_empty() {
            wasi.initial_cwd(&guest.working_dir);
        }
        let mut wasi = wasi.build();
        wasi.filesystem().clone_from(folders);

        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        let limit = guest.governor.memory_limit().unwrap_or(guest.memory);
        let meter = Meter::new(limit, guest.governor.clone());
        let (turn, http) = (Turn::begin(), WasiHttpCtx::new());
        State { guest, table, meter, deadline: None, turn, stdout, stderr, wasi, http, hooks: Hooks }
    }

    /// Resolves when all the guest wrote has been taken.
    pub(crate) async fn finish_output(&mut self) {
        self.stdout.finish().await;
        self.stderr.finish().await;
    }

    /// Give the guest a handle to a tensor, if its memory limit has room.
    pub(crate) fn hold_tensor(&mut self, tensor: Tensor) -> wasmtime::Result<Result<Resource<Tensor>, OverLimit>> {
        if let Err(over) = self.meter.hold(tensor.data().len()) {
            return Ok(Err(over));
        }
        Ok(Ok(self.table.push(tensor)?))
    }

    pub(crate) fn drop_tensor(&mut self, handle: Resource<Tensor>) -> wasmtime::Result<Tensor> {
        let tensor = self.table.delete(handle)?;
        self.meter.release(tensor.data().len());
        Ok(tensor)
    }

    /// Limits of the next operation on pictures: what the host allows, and what the container has left.
    pub(crate) fn picture_limits(&self) -> wharf_vision::Limits {
        let limits = self.guest.pictures;
        wharf_vision::Limits { max_bytes: limits.max_bytes.min(self.meter.left() as u64), ..limits }
    }

    /// Give the guest a handle to a picture, if its memory limit has room.
    pub(crate) fn hold_image(&mut self, image: Image) -> wasmtime::Result<Result<Resource<Image>, OverLimit>> {
        if let Err(over) = self.meter.hold(charge(&image)) {
            return Ok(Err(over));
        }
        Ok(Ok(self.table.push(image)?))
    }

    pub(crate) fn drop_image(&mut self, handle: Resource<Image>) -> wasmtime::Result<()> {
        let image = self.table.delete(handle)?;
        self.meter.release(charge(&image));
        Ok(())
    }
}

/// Bytes a picture is charged with.
fn charge(image: &Image) -> usize {
    usize::try_from(image.memory()).unwrap_or(usize::MAX)
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// wasmtime's own defaults.
struct Hooks;

type Sent = Result<(), wasmtime_wasi_http::Error>;
type Exchanged = (http::Response<WasiBody>, Box<dyn Future<Output = Sent> + Send>);

impl WasiHttpHooks for Hooks {
    /// Never called: [`crate::egress`] sends what guests send.
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = Sent> + Send>,
    ) -> Box<dyn Future<Output = wasmtime_wasi_http::Result<Exchanged>> + Send> {
        Box::new(async { Err(wasmtime_wasi_http::Error::HttpRequestDenied) })
    }
}
