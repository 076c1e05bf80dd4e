//! The program as its users meet it: arguments in; exit status, two streams and a results folder out.
//!
//! Golden files lie in `tests/cli/`; `SNAPSHOTS=overwrite cargo test --test cli` writes them anew, to be read before they are
//! committed.

#[path = "cli/cache.rs"]
mod cache;
mod common;
#[path = "cli/desk.rs"]
mod desk;
#[path = "cli/diff.rs"]
mod diff;
#[path = "cli/edges.rs"]
mod edges;
#[path = "cli/escaping.rs"]
mod escaping;
#[path = "cli/failures.rs"]
mod failures;
#[cfg(unix)]
#[path = "cli/hostile.rs"]
mod hostile;
#[path = "cli/import.rs"]
mod import;
#[path = "cli/independence.rs"]
mod independence;
#[path = "cli/index.rs"]
mod index;
#[path = "cli/killed.rs"]
mod killed;
#[path = "cli/markup.rs"]
mod markup;
#[path = "cli/memory.rs"]
mod memory;
#[path = "cli/redraw.rs"]
mod redraw;
#[path = "cli/reference.rs"]
mod reference;
#[path = "cli/results.rs"]
mod results;
#[path = "cli/style.rs"]
mod style;
#[path = "cli/verify.rs"]
mod verify;
