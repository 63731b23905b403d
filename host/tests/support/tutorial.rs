//! The tutorial's compose file, and the two ports of this machine that it publishes once it is mended.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Word for word.
pub const COMPOSE: &str = include_str!("../fixtures/tutorial-compose.yml");

static PORTS: Mutex<()> = Mutex::new(());

/// Whoever publishes 5001 and 5002 holds this meanwhile.
pub fn ports() -> MutexGuard<'static, ()> {
    PORTS.lock().unwrap_or_else(PoisonError::into_inner)
}
