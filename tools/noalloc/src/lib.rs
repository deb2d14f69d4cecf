//! Proves that a piece of code does not touch the heap.
//!
//! Owns: a global allocator for test binaries that counts, per thread, what passes through it. Must never
//! be part of a program that ships, and knows nothing of media: it wraps the system's allocator and counts.
//!
//! Counting is per thread because tests run beside each other; what a closure has *other* threads do is
//! not seen.
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: noalloc::CountingAllocator = noalloc::CountingAllocator;
//!
//! let mut packets: Vec<u8> = Vec::with_capacity(16);
//! noalloc::assert_none("pushing into room that is there", || packets.push(1));
//!
//! let counts = noalloc::count(|| drop(vec![0_u8; 64]));
//! assert_eq!((counts.allocs, counts.deallocs, counts.bytes), (1, 1, 64));
//! ```
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::hint::black_box;

/// The allocator to install in a test binary: the system's, with counters.
///
/// `#[global_allocator] static ALLOCATOR: noalloc::CountingAllocator = noalloc::CountingAllocator;`
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator;

/// Calls into the allocator made by one thread during a measured closure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that asked for memory, zeroed or not.
    pub allocs: u64,
    /// Calls that grew or shrank a block.
    pub reallocs: u64,
    /// Calls that gave memory back.
    pub deallocs: u64,
    /// Bytes asked for by `allocs` and `reallocs` together; a realloc counts its whole new size.
    pub bytes: u64,
}

impl Counts {
    const ZERO: Self = Self {
        allocs: 0,
        reallocs: 0,
        deallocs: 0,
        bytes: 0,
    };

    /// Whether the allocator was not called at all, not even to free.
    pub fn is_none(&self) -> bool {
        *self == Self::ZERO
    }

    fn since(self, start: Self) -> Self {
        Self {
            allocs: self.allocs - start.allocs,
            reallocs: self.reallocs - start.reallocs,
            deallocs: self.deallocs - start.deallocs,
            bytes: self.bytes - start.bytes,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            allocs,
            reallocs,
            deallocs,
            bytes,
        } = self;
        write!(
            f,
            "{allocs} allocations, {reallocs} reallocations, {deallocs} frees, {bytes} bytes asked for"
        )
    }
}

/// Runs `work` and returns what it asked of the allocator on this thread.
///
/// # Panics
/// If [`CountingAllocator`] is not this binary's global allocator: the count would be zero for any code.
pub fn count(work: impl FnOnce()) -> Counts {
    assert_installed();
    let start = COUNTS.get();
    work();
    COUNTS.get().since(start)
}

/// Runs `work` and returns its result if it called the allocator neither to take nor to give back memory.
///
/// # Panics
/// If it did, with the counts and the stack of the first call; or if [`CountingAllocator`] is not this
/// binary's global allocator.
pub fn assert_none<R>(what: &str, work: impl FnOnce() -> R) -> R {
    assert_installed();
    FIRST_CALL.take();
    TRACE.set(Trace::Armed);
    let start = COUNTS.get();
    let result = work();
    let counts = COUNTS.get().since(start);
    TRACE.set(Trace::Off);
    if !counts.is_none() {
        let stack = FIRST_CALL
            .take()
            .map_or_else(String::new, |stack| stack.to_string());
        panic!("{what} must leave the heap alone but made {counts}; the first call came from:\n{stack}");
    }
    result
}

/// What the hook does about the stack of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trace {
    /// Nothing.
    Off,
    /// Keep the stack of the next call.
    Armed,
    /// A stack is being captured, which itself allocates: neither count nor capture.
    Capturing,
}

thread_local! {
    // Const-initialised and without destructors: reading them never allocates.
    static COUNTS: Cell<Counts> = const { Cell::new(Counts::ZERO) };
    static TRACE: Cell<Trace> = const { Cell::new(Trace::Off) };
    static FIRST_CALL: RefCell<Option<Backtrace>> = const { RefCell::new(None) };
}

fn assert_installed() {
    let before = COUNTS.get().allocs;
    drop(black_box(Box::new(0_u8)));
    assert!(
        COUNTS.get().allocs > before,
        "noalloc cannot see this binary's heap; add `#[global_allocator] static ALLOCATOR: \
         noalloc::CountingAllocator = noalloc::CountingAllocator;` to the test"
    );
}

fn record(change: impl FnOnce(&mut Counts)) {
    if TRACE.get() == Trace::Capturing {
        return;
    }
    let mut counts = COUNTS.get();
    change(&mut counts);
    COUNTS.set(counts);
    if TRACE.get() == Trace::Armed {
        TRACE.set(Trace::Capturing);
        let stack = Backtrace::force_capture();
        // The thread may be past the end of its locals; then the stack is lost, the count is not.
        let _ = FIRST_CALL.try_with(|first| first.replace(Some(stack)));
        TRACE.set(Trace::Off);
    }
}

// SAFETY: every method passes its arguments on to `System` unchanged and returns what `System` returned;
// the bookkeeping around it never unwinds and never calls back into a measured path.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        record(|counts| {
            counts.allocs += 1;
            counts.bytes += layout.size() as u64;
        });
        // SAFETY: the caller upholds `GlobalAlloc::alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        record(|counts| {
            counts.allocs += 1;
            counts.bytes += layout.size() as u64;
        });
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        record(|counts| {
            counts.reallocs += 1;
            counts.bytes += new_size as u64;
        });
        // SAFETY: `block` came from this allocator, that is from `System`, with `layout`.
        unsafe { System.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        record(|counts| counts.deallocs += 1);
        // SAFETY: `block` came from this allocator, that is from `System`, with `layout`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    #[global_allocator]
    static ALLOCATOR: CountingAllocator = CountingAllocator;

    #[test]
    fn counts_each_kind_of_call() {
        let counts = count(|| {
            let mut block: Vec<u8> = black_box(Vec::with_capacity(10));
            block.reserve_exact(20);
            black_box(&mut block);
            black_box(vec![0_u8; 7]);
        });
        assert_eq!(
            counts,
            Counts {
                allocs: 2,
                reallocs: 1,
                deallocs: 2,
                bytes: 10 + 20 + 7
            }
        );
    }

    #[test]
    fn code_that_leaves_the_heap_alone_passes_and_returns_its_value() {
        let mut room = Vec::with_capacity(4);
        let length = assert_none("pushing into room that is there", || {
            room.push(black_box(1_u32));
            room.len()
        });
        assert_eq!(length, 1);
    }

    #[test]
    fn an_allocation_fails_the_assertion_and_names_its_place() {
        let failure = catch_unwind(|| assert_none("formatting", allocate_here)).expect_err("it allocated");
        let message = failure
            .downcast_ref::<String>()
            .expect("panic! with arguments carries a String");
        assert!(
            message.starts_with("formatting must leave the heap alone but made 1 allocations"),
            "{message}"
        );
        assert!(message.contains("allocate_here"), "{message}");
    }

    #[inline(never)]
    fn allocate_here() {
        black_box(String::with_capacity(black_box(8)));
    }

    #[test]
    fn freeing_alone_fails_the_assertion() {
        let block = Box::new(1_u8);
        assert!(catch_unwind(move || assert_none("dropping", || drop(block))).is_err());
    }

    #[test]
    fn another_threads_allocations_are_not_ours() {
        // Far above anything the channels between the two threads take for themselves.
        const LARGE: usize = 1 << 20;
        let (start, wait) = std::sync::mpsc::channel::<()>();
        let (done, finished) = std::sync::mpsc::channel::<Counts>();
        let other = std::thread::scope(|scope| {
            scope.spawn(move || {
                wait.recv().expect("the sender lives until the end of the test");
                let counts = count(|| drop(black_box(vec![1_u8; LARGE])));
                done.send(counts)
                    .expect("the receiver lives until the end of the test");
            });
            let mut theirs = Counts::ZERO;
            let ours = count(|| {
                start.send(()).expect("the thread waits");
                theirs = finished.recv().expect("the thread answers");
            });
            assert!(ours.bytes < LARGE as u64, "{ours}");
            theirs
        });
        assert_eq!((other.allocs, other.bytes), (1, LARGE as u64));
    }
}
