//! What surrounds a guest: variables, clocks, randomness, standard error. On WebAssembly these are the
//! host's, on other machines (where tests run) those of the standard library.

use std::time::Duration;

/// An environment variable of the container (`wharf run -e NAME=VALUE`, the image's `ENV`).
pub fn env(name: &str) -> Option<String> {
    #[cfg(target_family = "wasm")]
    return crate::bindings::wasi::cli::environment::get_environment()
        .into_iter()
        .find_map(|(known, value)| (known == name).then_some(value));
    #[cfg(not(target_family = "wasm"))]
    return std::env::var(name).ok();
}

/// The time since 1970-01-01 00:00:00 UTC. `SystemTime::now` panics on `wasm32-unknown-unknown`.
pub fn now() -> Duration {
    #[cfg(target_family = "wasm")]
    {
        let now = crate::bindings::wasi::clocks::wall_clock::now();
        Duration::new(now.seconds, now.nanoseconds)
    }
    #[cfg(not(target_family = "wasm"))]
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// A clock that only goes forward, to measure how long something takes: the difference of two calls.
/// `Instant::now` panics on `wasm32-unknown-unknown`.
pub fn monotonic() -> Duration {
    #[cfg(target_family = "wasm")]
    return Duration::from_nanos(crate::bindings::wasi::clocks::monotonic_clock::now());
    #[cfg(not(target_family = "wasm"))]
    {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }
}

/// Random bytes, fit for secrets. Only in a container: the call is not there on other machines.
pub fn random_bytes(count: usize) -> Vec<u8> {
    crate::bindings::wasi::random::random::get_random_bytes(u64::try_from(count).unwrap_or(u64::MAX))
}

/// To the container's log. Nobody can be told if that fails.
pub(crate) fn write_error(text: &str) {
    #[cfg(target_family = "wasm")]
    {
        let stream = crate::bindings::wasi::cli::stderr::get_stderr();
        let _ = crate::body::write_all(&stream, text.as_bytes());
    }
    #[cfg(not(target_family = "wasm"))]
    eprint!("{text}");
}
