//! What every target sets up before its first input: a folder to work in, a bound on memory, and which panics count.

use crate::feed;
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Most bytes that may be allocated at once. libFuzzer's own `-malloc_limit_mb` needs a sanitizer to see an allocation, and its
/// `-rss_limit_mb` sees only pages that were touched.
const MOST: usize = 512 << 20;

struct Bounded;

static LIVE: AtomicUsize = AtomicUsize::new(0);

fn take(bytes: usize) {
    if LIVE.fetch_add(bytes, Relaxed).saturating_add(bytes) > MOST {
        // Too much is asked for at once; nothing may be allocated on the way out.
        LIVE.store(0, Relaxed);
        eprintln!("more than {MOST} bytes are allocated: the last request is for {bytes}");
        std::process::abort();
    }
}

// SAFETY: everything is handed to the system's allocator; only numbers are counted.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size);
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Run once, before the first input.
pub fn set() {
    // libFuzzer's hook stops the process at every panic. The SQL engine panics on some queries, on a thread of its own, and the
    // program catches that and says so: not a find.
    let stop = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some("sql") {
            stop(panic);
        }
    }));
    let folder = std::env::temp_dir().join(format!("attn-circuits-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder to work in");
    feed::prepare(&folder);
    FOLDER.set(folder).expect("set only once");
}

/// Feeds one input.
pub fn guarded(feed: impl FnOnce(&std::path::Path)) {
    feed(FOLDER.get().expect("set before the first input"));
}
