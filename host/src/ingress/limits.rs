//! The ladder of back-pressure, each rung with its number. ARCHITECTURE.md prints the same table.

use std::time::Duration;

/// Limits of one published port. All of them can be set per container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at the same time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// From the first byte of a request to the end of its headers; else 408.
    pub header_time: Duration,
    /// From the headers to the end of the body; else 408.
    pub body_time: Duration,
    /// Bytes of a request's body; else 413.
    pub body_size: u64,
    /// Requests being answered at the same time; else 503 with Retry-After.
    pub in_flight: usize,
    /// From the headers to the last byte of the response; else 504, or a cut connection when the
    /// response has begun.
    pub deadline: Duration,
    /// Bytes of a response's body; beyond it the connection is cut.
    pub response_size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 1024,
            header_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            body_size: 64 << 20,
            in_flight: 128,
            deadline: Duration::from_secs(30),
            response_size: 1 << 30,
        }
    }
}
