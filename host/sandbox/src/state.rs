//! What one instance holds: its WASI context, its handles, its meter, and the container it belongs to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};
use wharf_tensor::Tensor;
use wharf_tensor::infer::Infer;
use wharf_vision::Image;

use crate::egress::DenyAll;
use crate::limits::{Meter, OverLimit};
use crate::log::{LogPipe, LogSink, LogStream};
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
    pub mounts: Vec<Mount>,
    pub log: Arc<dyn LogSink>,
    /// Memory limit of one instance in bytes, see [`crate::limits`].
    pub memory: usize,
    /// Limits of decoded pictures.
    pub pictures: wharf_vision::Limits,
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
    wasi: WasiCtx,
    http: WasiHttpCtx,
    egress: DenyAll,
}

impl State {
    pub(crate) fn new(guest: Arc<Guest>) -> wasmtime::Result<State> {
        let mut wasi = WasiCtx::builder();
        wasi.envs(&guest.environment)
            .args(&guest.arguments)
            .stdout(LogPipe::new(guest.log.clone(), LogStream::Stdout))
            .stderr(LogPipe::new(guest.log.clone(), LogStream::Stderr))
            // Sockets are linked because other toolchains' libc imports them; every use is refused.
            .socket_addr_check(|_, _| Box::pin(async { false }))
            .allow_ip_name_lookup(false)
            .allow_tcp(false)
            .allow_udp(false);
        for mount in &guest.mounts {
            let rights = if mount.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
            wasi.preopened_dir(&mount.source, &mount.target, rights)?;
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        let meter = Meter::new(guest.memory);
        let (wasi, http, turn) = (wasi.build(), WasiHttpCtx::new(), Turn::begin());
        Ok(State { guest, table, meter, deadline: None, turn, wasi, http, egress: DenyAll })
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
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.egress }
    }
}
