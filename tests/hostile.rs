//! Every seed of the fuzz targets, and every input that once made one of them fail, goes through the same functions on stable Rust:
//! no panic, no error without a place or a file's name, and bounds on time and memory.

#[path = "../fuzz/feed.rs"]
mod feed;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts what the process has allocated: queries and figures have threads of their own.
struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);
/// One target at a time, so that what is counted is its own.
static TURN: Mutex<()> = Mutex::new(());

fn count(bytes: isize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: everything is handed to the system's allocator; only numbers are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work`; answers with the most bytes that the process held meanwhile beyond those before, and the time.
fn measured(work: impl FnOnce()) -> (usize, Duration) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let clock = Instant::now();
    work();
    ((PEAK.load(Ordering::Relaxed) - before).max(0) as usize, clock.elapsed())
}

fn seeds(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn replay(target: &str, least: usize, feed: fn(&Path, &[u8])) {
    let folder = tempfile::tempdir().expect("a folder to work in");
    feed::prepare(folder.path());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let seeds = seeds(target);
    assert!(seeds.len() >= least, "only {} seeds of {target}", seeds.len());
    for seed in seeds {
        let data = fs::read(&seed).expect("a seed");
        let (bytes, time) = measured(|| feed(folder.path(), &data));
        assert!(bytes < 512 << 20, "{} took {bytes} bytes", seed.display());
        // What hangs does not end; what is slow is no defect of this kind.
        assert!(time < Duration::from_secs(300), "{} took {time:?}", seed.display());
    }
}

#[test]
fn experiments() {
    replay("experiment", 16, feed::experiment);
}

#[test]
fn configurations() {
    replay("config", 20, feed::config);
}

#[test]
fn weights() {
    replay("weights", 20, feed::weights);
}

#[test]
fn tokens_in_json() {
    replay("tokens_json", 20, feed::tokens_json);
}

#[test]
fn tokens_in_safetensors() {
    replay("tokens_safetensors", 14, feed::tokens_safetensors);
}

#[test]
fn names_of_tokens() {
    replay("token_names", 24, feed::token_names);
}

#[test]
fn stored_results() {
    replay("results", 36, feed::results);
}
