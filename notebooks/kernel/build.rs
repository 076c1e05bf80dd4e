//! Builds the library as the repository builds it, and says where it lies.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::{env, process};

fn main() {
    // Once for each kernel: the process in which its cells run has loaded the library, and must not get cells that were compiled
    // with another one.
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_CFG_ATTN_CIRCUITS_BUILT").is_none() {
        eprintln!(
            "evcxr has not read notebooks/evcxr.toml, as it does if the kernel starts in that folder, where notebooks lie"
        );
        process::exit(1);
    }
    let here = env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let root = Path::new(&here).join("../..");
    let root = root.canonicalize().expect("the package lies in the repository");
    let target = root.join("target");
    // By its name, as a user calls it: rustup then holds to one toolchain for all packages, also for those that bring a wish for
    // another.
    let mut cargo = Command::new("cargo");
    // What this build is told is not for that one: it is to be the same as the repository's own.
    let kept = ["CARGO_HOME", "CARGO_INCREMENTAL", "CARGO_MAKEFLAGS", "CARGO_NET_OFFLINE"];
    for (name, _) in env::vars_os().filter(|(name, _)| !kept.iter().any(|kept| name == kept)) {
        let text = name.to_string_lossy();
        if ["CARGO", "RUSTC", "RUSTFLAGS", "RUSTDOC"].iter().any(|start| text.starts_with(start)) {
            cargo.env_remove(&name);
        }
    }
    cargo.args(["rustc", "--locked", "--lib", "--package", "attn-circuits-notebook", "--target-dir"]).arg(&target);
    cargo.args(["--", "-C", "prefer-dynamic"]).current_dir(&root);
    let built = target.join("debug");
    // Cells are moved after they are linked, so a way to the library that starts from them may lead nowhere: it is called by
    // where it lies.
    if cfg!(target_os = "linux") {
        let mut name = OsString::from("link-arg=");
        name.push(built.join("libattn_circuits_notebook.so"));
        cargo.args(["-C", "link-arg=-Xlinker", "-C", "link-arg=-soname", "-C", "link-arg=-Xlinker", "-C"]).arg(name);
    }
    let finished = cargo.status().expect("cargo is on the path");
    if !finished.success() {
        eprintln!("the library could not be built: run `cargo build` in {} to see why", root.display());
        process::exit(1);
    }
    println!("cargo:rustc-link-search=crate={}", built.display());
    println!("cargo:rustc-link-search=dependency={}", built.join("deps").display());
}
