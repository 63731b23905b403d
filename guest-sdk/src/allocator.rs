//! The global allocator of a guest: dlmalloc, whose first megabyte lies inside the module.
//!
//! A fresh instance that never grows its memory costs the host no `mprotect` and no page table work: most
//! requests fit into the arena. Larger ones grow the memory as usual. The only hand-written `unsafe` of
//! this crate is here.

#![allow(unsafe_code, reason = "a global allocator is unsafe by its trait")]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32;
use core::cell::{Cell, UnsafeCell};
use core::ptr;

use dlmalloc::{Allocator, Dlmalloc};

/// In .bss: the module file does not grow by it, and untouched pages of it cost nothing.
const ARENA_BYTES: usize = 1 << 20;
const PAGE_BYTES: usize = 1 << 16;

#[repr(align(16))]
struct Arena(UnsafeCell<[u8; ARENA_BYTES]>);

// SAFETY: a component's core module runs on one thread; nothing here is ever shared.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; ARENA_BYTES]));

/// Where dlmalloc gets memory from: the arena once, then `memory.grow`.
struct Regions {
    arena_given: Cell<bool>,
}

// SAFETY: `alloc` returns regions nobody else has: the arena a single time, and fresh pages. They stay
// valid for ever, since nothing is released and the memory never shrinks.
unsafe impl Allocator for Regions {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if size <= ARENA_BYTES && !self.arena_given.replace(true) {
            return (ARENA.0.get().cast(), ARENA_BYTES, 0);
        }
        let pages = size.div_ceil(PAGE_BYTES);
        let first = wasm32::memory_grow(0, pages);
        if first == usize::MAX {
            return (ptr::null_mut(), 0, 0);
        }
        let (start, length) = (first * PAGE_BYTES, pages * PAGE_BYTES);
        // A region must not end at the very end of the address space: its end pointer would be null.
        let length = if start.wrapping_add(length) == 0 { length - 16 } else { length };
        (start as *mut u8, length, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}

struct GuestAllocator(UnsafeCell<Dlmalloc<Regions>>);

// SAFETY: as for `Arena`: one thread.
unsafe impl Sync for GuestAllocator {}

// SAFETY: forwards to dlmalloc, which keeps the contract of `GlobalAlloc`; one thread, and dlmalloc does
// not call back into Rust's allocator, so the exclusive borrows below never overlap.
unsafe impl GlobalAlloc for GuestAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see the impl; the caller guarantees a non-zero size.
        unsafe { (*self.0.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see the impl; the caller guarantees a non-zero size.
        unsafe { (*self.0.get()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: see the impl; the caller guarantees that `block` came from here with this layout.
        unsafe { (*self.0.get()).free(block, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: see the impl; the caller guarantees that `block` came from here with this layout.
        unsafe { (*self.0.get()).realloc(block, layout.size(), layout.align(), size) }
    }
}

#[global_allocator]
static ALLOCATOR: GuestAllocator =
    GuestAllocator(UnsafeCell::new(Dlmalloc::new_with_allocator(Regions { arena_given: Cell::new(false) })));
