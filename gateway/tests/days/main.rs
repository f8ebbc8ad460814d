//! Days of a gateway in virtual time: its SIP machine, digests and the rules of its registrar, with
//! telephones that register, call and hang up, on bad roads, with a disk that fails and a clock that is
//! set (reliability promises 47 and 49).
//!
//! Lives here because counting needs an allocator of its own, and so the word `unsafe`, which the
//! protocol crate forbids in all its targets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a fault in a test fails the test"
)]

mod simulation;
mod soak;
mod sound;
mod town;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

/// Allocations of this thread that were not given back.
fn live() -> i64 {
    LIVE.get()
}

// SAFETY: every call goes to the system's allocator unchanged; the counter is a plain cell that
// needs neither an allocation nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LIVE.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is the same as ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _ = LIVE.try_with(|count| count.set(count.get() - 1));
        // SAFETY: the caller's promise is the same as ours.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A number from the environment, for the release gate.
fn load(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}
