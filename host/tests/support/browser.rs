//! Headless Chromium over its debugging pipe.
