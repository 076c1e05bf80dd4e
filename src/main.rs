//! The program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // polars sums a group in as many parts as it has threads, so the last digits would depend on their number. Tables are small;
    // one thread is enough for them.
    // SAFETY: nothing else runs yet that could read the environment.
    unsafe { std::env::set_var("POLARS_MAX_THREADS", "1") };
    attn_circuits::cli::main()
}
