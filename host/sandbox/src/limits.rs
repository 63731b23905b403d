//! What one instance may use: linear memories, tables, and the pictures and tensors the host holds for it,
//! summed against one limit, and reported to the container's [`Governor`].

use wasmtime::ResourceLimiter;

use crate::governor::Governor;

/// Elements of one table; function pointers of a large guest (CPython) need about 10,000.
const TABLE_ELEMENTS: usize = 100_000;

/// Bytes charged for a handle on top of what it holds, so that empty ones are not free.
const HANDLE: usize = 256;

/// The meter of one instance; the instance counts as alive as long as its meter exists.
#[derive(Debug)]
pub struct Meter {
    governor: Governor,
    limit: usize,
    linear: usize,
    held: usize,
    denied: bool,
}

/// There is no room for what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{asked} bytes more would pass the container's memory limit of {limit} bytes ({used} in use)")]
pub struct OverLimit {
    asked: usize,
    limit: usize,
    used: usize,
}

impl Meter {
    /// `limit` in bytes.
    pub fn new(limit: usize, governor: Governor) -> Meter {
        governor.instance_made();
        Meter { governor, limit, linear: 0, held: 0, denied: false }
    }

    /// Charge `bytes` of host memory held for the guest.
    pub fn hold(&mut self, bytes: usize) -> Result<(), OverLimit> {
        let asked = bytes.saturating_add(HANDLE);
        let used = self.linear + self.held;
        if asked > self.limit.saturating_sub(used) {
            self.denied = true;
            return Err(OverLimit { asked, limit: self.limit, used });
        }
        self.held += asked;
        self.governor.held(asked);
        Ok(())
    }

    /// Return what [`Meter::hold`] charged.
    pub fn release(&mut self, bytes: usize) {
        let returned = self.held.min(bytes.saturating_add(HANDLE));
        self.held -= returned;
        self.governor.released(returned);
    }

    /// Bytes that may still be asked for.
    pub fn left(&self) -> usize {
        self.limit.saturating_sub(self.linear + self.held)
    }

    /// Whether anything was ever refused: a trap that follows is most likely its consequence.
    pub fn denied(&self) -> bool {
        self.denied
    }

    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.governor.released(self.linear + self.held);
        self.governor.instance_gone();
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        if more > self.limit.saturating_sub(self.linear + self.held) {
            self.denied = true;
            return Ok(false);
        }
        self.linear += more;
        self.governor.held(more);
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_and_handles_share_one_limit() {
        let mut meter = Meter::new(1 << 20, Governor::default());
        assert!(meter.memory_growing(0, 512 << 10, None).unwrap());
        assert!(meter.memory_growing(0, 256 << 10, None).unwrap(), "a second memory");
        meter.hold(128 << 10).unwrap();
        assert!(!meter.denied());
        assert!(!meter.memory_growing(256 << 10, 512 << 10, None).unwrap());
        assert!(meter.denied());
        assert!(meter.hold(256 << 10).is_err());
        meter.release(128 << 10);
        assert!(meter.memory_growing(256 << 10, 512 << 10, None).unwrap());
    }

    #[test]
    fn a_container_is_charged_for_what_its_instances_hold() {
        let governor = Governor::default();
        let mut first = Meter::new(1 << 20, governor.clone());
        let mut second = Meter::new(1 << 20, governor.clone());
        first.memory_growing(0, 512 << 10, None).unwrap();
        second.memory_growing(0, 512 << 10, None).unwrap();
        second.hold(1 << 10).unwrap();
        let usage = governor.usage();
        let held = (1 << 20) + (1 << 10) + HANDLE as u64;
        assert_eq!((usage.instances, usage.memory, usage.memory_peak), (2, held, held));
        second.release(1 << 10);
        assert_eq!(governor.usage().memory, 1 << 20);
        drop(first);
        drop(second);
        let usage = governor.usage();
        assert_eq!((usage.instances, usage.memory, usage.memory_peak), (0, 0, held));
    }
}
