//! The results folder's name, which is that of the experiment file without its ending.

use crate::{Error, Result};
use std::path::Path;

/// Longer names leave no room for what is put before and behind them while results are written.
const LONGEST: usize = 200;

/// Checks that results can be written to a folder called like the experiment file: below `--out` and nowhere else, visible, and
/// not a device of some system.
///
/// # Errors
/// [`Error::File`]: `...yaml` would be written to `..`, `.yaml` to a hidden folder.
pub fn check_name(path: &Path) -> Result<()> {
    let refuse =
        |what: String| Err(Error::file(path, format!("{what}, and the results folder is called like the file: rename it")));
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return refuse("has a name that is not UTF-8".to_string());
    };
    let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if stem.is_empty() || stem.starts_with('.') {
        return refuse("has a name that starts with a dot".to_string());
    }
    // Other signs that Windows does not allow cannot be in a name there anyway.
    if let Some(c) = stem.chars().find(|&c| c.is_control() || c == '\\') {
        return refuse(format!("has {c:?} in its name"));
    }
    if stem.ends_with(['.', ' ']) {
        return refuse("has a dot or a space before its ending".to_string());
    }
    if stem.len() > LONGEST {
        return refuse(format!("has a name of more than {LONGEST} bytes"));
    }
    if is_reserved(stem) {
        return refuse(format!("is called `{stem}`, which is a device on some systems"));
    }
    Ok(())
}

/// Whether a name means a device on Windows, whatever comes behind a dot.
pub fn is_reserved(name: &str) -> bool {
    let base = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = |device: &str| {
        base.strip_prefix(device).is_some_and(|rest| rest.len() == 1 && rest.chars().all(|digit| ('1'..='9').contains(&digit)))
    };
    ["CON", "PRN", "AUX", "NUL"].contains(&base.as_str()) || numbered("COM") || numbered("LPT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for (name, why) in [
            ("..yaml", "starts with a dot"),
            ("...yaml", "starts with a dot"),
            ("....yaml", "starts with a dot"),
            (".yaml", "starts with a dot"),
            ("..", "not UTF-8"),
            ("a\nb.yaml", "'\\n' in its name"),
            ("a\u{1b}[2J.yaml", "'\\u{1b}' in its name"),
            ("a\\b.yaml", "'\\\\' in its name"),
            ("a..yaml", "a dot or a space before its ending"),
            ("a .yaml", "a dot or a space before its ending"),
            ("con.yaml", "a device on some systems"),
            ("LPT1.notes.yaml", "a device on some systems"),
            (&format!("{}.yaml", "x".repeat(201)), "more than 200 bytes"),
        ] {
            let error = check_name(&Path::new("dir").join(name)).unwrap_err().to_string();
            assert!(error.contains(why), "{name:?}: {error}");
        }
        for name in [
            "x.yaml",
            "-x.yaml",
            "x.y.yaml",
            "x",
            "console.yaml",
            "com10.yaml",
            "é ü.yml",
            "a;b & c.yaml",
            "a: b.yaml",
            "~.yaml",
        ] {
            check_name(&Path::new("..").join(name)).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_not_text_is_refused() {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"a\xff.yaml");
        assert!(check_name(Path::new(name)).unwrap_err().to_string().contains("not UTF-8"));
    }
}
