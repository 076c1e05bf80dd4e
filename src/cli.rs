//! The command line.

use std::process::ExitCode;

/// Parses the arguments, does what they say, and answers with the exit status.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
