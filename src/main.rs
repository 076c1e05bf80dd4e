use std::process::ExitCode;

fn main() -> ExitCode {
    attn_circuits::cli::main()
}
