//! What the program is made of, as one number: results in the cache are those of exactly this program.
//!
//! It is what can be known here: that other versions of dependencies than those of the lock file were chosen, or settings of
//! the build overridden, or that the library is a part of another program, shows in the executable, which counts as well
//! (`store::Key`).

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What of the package ends in the program. The lock file stands for the dependencies.
const MADE_OF: [&str; 5] = ["src", "assets", "Cargo.toml", "Cargo.lock", "build.rs"];

/// How it was compiled.
const COMPILED_WITH: [&str; 5] = ["TARGET", "PROFILE", "OPT_LEVEL", "CARGO_ENCODED_RUSTFLAGS", "CARGO_CFG_TARGET_FEATURE"];

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is"));
    let mut hasher = DefaultHasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.write_usize(bytes.len());
        hasher.write(bytes);
    };
    for name in MADE_OF {
        println!("cargo:rerun-if-changed={name}");
        for path in files(&root.join(name)) {
            field(path.strip_prefix(&root).unwrap_or(&path).as_os_str().as_encoded_bytes());
            field(&fs::read(&path).unwrap_or_default());
        }
    }
    for name in COMPILED_WITH {
        field(env::var(name).unwrap_or_default().as_bytes());
    }
    let compiler = env::var_os("RUSTC").map(|rustc| Command::new(rustc).arg("-vV").output());
    field(&compiler.and_then(Result::ok).map(|output| output.stdout).unwrap_or_default());
    println!("cargo:rustc-env=ATTN_CIRCUITS_FINGERPRINT={:016x}", hasher.finish());
}

/// A file, or all files below a folder, in the order of their names; nothing if it is not there.
fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return if path.is_file() { vec![path.to_path_buf()] } else { Vec::new() };
    }
    let mut entries: Vec<_> = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries.iter().flat_map(|entry| files(entry)).collect()
}
