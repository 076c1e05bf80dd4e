use polars_core::runtime::THREAD_POOL;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::sync::OnceLock;
use std::time::SystemTime;

/// The name of something that can be computed: a hash of all that it depends on, this program included: its sources, how they
/// were compiled, the very file that runs, the processor, and the number of threads among which polars divides sums.
///
/// Whatever goes in is told apart from what stands beside it, so that no two lists of ingredients read the same.
///
/// ```
/// use attn_circuits::store::Key;
/// use serde_json::json;
/// let key = |first: &str, second: &str| Key::new("table").text(first).text(second);
/// assert_ne!(key("ab", "c"), key("a", "bc"));
/// // The order of keys in a map says nothing.
/// let one = Key::new("model").json(&json!({ "vocab": 33, "context": 61 }));
/// assert_eq!(one, Key::new("model").json(&json!({ "context": 61, "vocab": 33 })));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(blake3::Hash);

impl Key {
    /// A key of this program for a kind of thing, with nothing yet that it depends on.
    pub fn new(kind: &str) -> Self {
        static PROGRAM: OnceLock<blake3::Hash> = OnceLock::new();
        let program = PROGRAM.get_or_init(|| program(THREAD_POOL.current_num_threads(), &executable()));
        Self(*program).text(kind)
    }

    /// The same, and it depends on this text.
    #[must_use]
    pub fn text(self, text: impl AsRef<[u8]>) -> Self {
        Self(blake3::keyed_hash(self.0.as_bytes(), text.as_ref()))
    }

    /// The same, and it depends on these values: numbers as they are written, maps whatever the order of their keys.
    #[must_use]
    pub fn json(self, value: &Value) -> Self {
        let mut text = String::new();
        canonical(value, &mut text);
        self.text(text)
    }

    /// The hash itself.
    pub(super) fn hash(&self) -> &blake3::Hash {
        &self.0
    }

    /// The same, and it depends on what has this key.
    ///
    /// ```
    /// use attn_circuits::store::Key;
    /// // A table depends on a model and on an input, in this order.
    /// let (model, input) = (Key::new("model").text("wired"), Key::new("input").text("repeated"));
    /// let table = Key::new("table").key(&model).key(&input);
    /// assert_ne!(table, Key::new("table").key(&input).key(&model));
    /// assert_ne!(table, Key::new("table").key(&Key::new("model").text("random")).key(&input));
    /// ```
    #[must_use]
    pub fn key(self, other: &Self) -> Self {
        self.text(other.0.as_bytes())
    }
}

/// All that everything depends on: the program and what it runs on. polars adds up a group in as many parts as it has `threads`.
fn program(threads: usize, executable: &str) -> blake3::Hash {
    let (version, sources) = (env!("CARGO_PKG_VERSION"), env!("ATTN_CIRCUITS_FINGERPRINT"));
    let words = [version, sources, std::env::consts::ARCH, &processor(), &threads.to_string(), executable];
    blake3::hash(words.join("\n").as_bytes())
}

/// Length and time of the file that runs. What the fingerprint of our own sources does not know makes another file: the sources
/// of another crate that this one is a part of, the versions of dependencies that it was built with, settings of the build.
fn executable() -> String {
    // Where the system has it, the file that was started, even if another one has its name by now.
    let file = fs::metadata("/proc/self/exe").or_else(|_| fs::metadata(std::env::current_exe()?));
    match file.and_then(|file| Ok((file.len(), file.modified()?))) {
        Ok((length, time)) => format!("{length} {time:?}"),
        // What cannot be told from others must not share with any.
        Err(_) => format!("process {} at {:?}", std::process::id(), SystemTime::now()),
    }
}

/// Kinds of processor differ in the last digits of a product: what ours is.
fn processor() -> String {
    let mut words: Vec<String> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    for (name, there) in [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512dq", std::arch::is_x86_feature_detected!("avx512dq")),
        ("avx512vl", std::arch::is_x86_feature_detected!("avx512vl")),
    ] {
        words.extend(there.then(|| name.to_string()));
    }
    // Where the system tells, the model as well: products are cut into blocks that fit its caches.
    // Of many cores the first is as good as all.
    let lines = File::open("/proc/cpuinfo").into_iter().flat_map(|file| BufReader::new(file).lines().map_while(io::Result::ok));
    let first = lines.take_while(|line| !line.is_empty());
    words.extend(first.filter(|line| line.starts_with("model name") || line.starts_with("cache size")));
    words.join(" ")
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (name, value) in entries {
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_tell_everything_apart_but_the_order_of_maps() {
        let json = |value: Value| Key::new("x").json(&value);
        assert_eq!(
            json(json!({ "b": [1, { "d": 2, "c": 3 }], "a": null })),
            json(json!({ "a": null, "b": [1, { "c": 3, "d": 2 }] }))
        );
        let different = [
            json(json!({ "a": 1 })),
            json(json!({ "a": 1.0 })),
            json(json!({ "a": "1" })),
            json(json!({ "b": 1 })),
            json(json!({ "a": 1, "b": 1 })),
            json(json!([1, 2])),
            json(json!([2, 1])),
            json(json!([[1], 2])),
            json(json!([[1, 2]])),
            Key::new("y").json(&json!({ "a": 1 })),
            Key::new("x").key(&Key::new("x")),
            Key::new("x"),
        ];
        for (index, one) in different.iter().enumerate() {
            assert!(!different[..index].contains(one), "{index}");
        }
    }

    #[test]
    fn another_program_has_other_keys() {
        let ours = program(1, "4096 bytes of today");
        assert_eq!(ours, program(1, "4096 bytes of today"));
        assert_ne!(ours, program(2, "4096 bytes of today"));
        assert_ne!(ours, program(1, "4096 bytes of yesterday"));
        let file = fs::metadata(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(executable(), format!("{} {:?}", file.len(), file.modified().unwrap()));
        let threads = THREAD_POOL.current_num_threads();
        assert_eq!(Key::new("x"), Key(program(threads, &executable())).text("x"));
    }
}
