//! The sandbox as its host sees it: whole guests, tiny ones, written as text.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod guests;
mod jobs;
mod outgoing;
mod services;
