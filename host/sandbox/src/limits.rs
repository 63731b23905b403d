//! What one instance may use: linear memories, tables, and the pictures and tensors the host holds for it,
//! summed against one limit.

use wasmtime::ResourceLimiter;

/// Elements of one table; function pointers of a large guest (CPython) need about 10,000.
const TABLE_ELEMENTS: usize = 100_000;

/// Bytes charged for a handle on top of what it holds, so that empty ones are not free.
const HANDLE: usize = 256;

/// The meter of one instance.
#[derive(Debug)]
pub struct Meter {
    limit: usize,
    linear: usize,
    held: usize,
    peak: usize,
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
    pub fn new(limit: usize) -> Meter {
        Meter { limit, linear: 0, held: 0, peak: 0, denied: false }
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
        self.peak = self.peak.max(self.linear + self.held);
        Ok(())
    }

    /// Return what [`Meter::hold`] charged.
    pub fn release(&mut self, bytes: usize) {
        self.held = self.held.saturating_sub(bytes.saturating_add(HANDLE));
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

    /// The most that was in use at one time, in bytes.
    pub fn peak(&self) -> usize {
        self.peak
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
        self.peak = self.peak.max(self.linear + self.held);
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
        let mut meter = Meter::new(1 << 20);
        assert!(meter.memory_growing(0, 512 << 10, None).unwrap());
        assert!(meter.memory_growing(0, 256 << 10, None).unwrap(), "a second memory");
        meter.hold(128 << 10).unwrap();
        assert!(!meter.denied());
        assert!(!meter.memory_growing(256 << 10, 512 << 10, None).unwrap());
        assert!(meter.denied());
        assert!(meter.hold(256 << 10).is_err());
        meter.release(128 << 10);
        assert!(meter.memory_growing(256 << 10, 512 << 10, None).unwrap());
        assert_eq!(meter.peak(), 1 << 20);
    }
}
