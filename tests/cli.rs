//! The program as its users meet it: arguments in; exit status, two streams and a results folder out.
//!
//! Golden files lie in `tests/cli/`; `SNAPSHOTS=overwrite cargo test --test cli` writes them anew, to be read before they are
//! committed.

mod common;
#[path = "cli/desk.rs"]
mod desk;
#[path = "cli/edges.rs"]
mod edges;
#[path = "cli/failures.rs"]
mod failures;
#[path = "cli/import.rs"]
mod import;
#[path = "cli/independence.rs"]
mod independence;
#[path = "cli/redraw.rs"]
mod redraw;
#[path = "cli/reference.rs"]
mod reference;
#[path = "cli/results.rs"]
mod results;
