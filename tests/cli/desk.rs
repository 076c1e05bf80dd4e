//! A folder for each test, the program run in it, and what it leaves there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The repository, from which the tests' own files are read.
pub const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// A path within the repository, as an argument.
pub fn repository(path: &str) -> String {
    format!("{REPOSITORY}/{path}")
}

/// BLAKE3 as hex digits, as manifests have it.
pub fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// A temporary folder that the program is run in, with a cache of its own elsewhere.
pub struct Desk {
    folder: TempDir,
    cache: TempDir,
}

impl Desk {
    pub fn new() -> Self {
        let folder = || tempfile::tempdir().expect("a temporary folder");
        Self { folder: folder(), cache: folder() }
    }

    /// A desk with one experiment file on it.
    pub fn with(name: &str, text: &str) -> Self {
        let desk = Self::new();
        desk.write(name, text);
        desk
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder for the file");
        fs::write(path, content).expect("a file on the desk");
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Every file below a folder of the desk.
    pub fn tree(&self, path: &str) -> Tree {
        Tree::of(&self.path(path))
    }

    pub fn table(&self, path: &str) -> Table {
        Table::parse(&self.read(path))
    }

    /// The folder of the cache.
    pub fn cache(&self) -> &Path {
        self.cache.path()
    }

    /// The program, about to be run here.
    pub fn command(&self) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_attn-circuits"))
    }

    /// Another program, which will start ours here.
    pub fn command_of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // The estimate of memory that `check` prints depends on the number of threads.
        command.env("RAYON_NUM_THREADS", "2").env("ATTN_CIRCUITS_CACHE", self.cache.path()).current_dir(self.folder.path());
        command
    }

    /// Runs the program to its end.
    pub fn run<S: AsRef<str>>(&self, arguments: impl IntoIterator<Item = S>) -> Finished {
        let arguments: Vec<String> = arguments.into_iter().map(|argument| argument.as_ref().to_string()).collect();
        self.run_command(&mut self.command(), &arguments)
    }

    /// Runs a command with further arguments to its end.
    pub fn run_command<S: AsRef<str>>(&self, command: &mut Command, arguments: &[S]) -> Finished {
        let arguments: Vec<String> = arguments.iter().map(|argument| argument.as_ref().to_string()).collect();
        let output = command.args(&arguments).output().expect("the program starts");
        let text = |bytes| String::from_utf8(bytes).expect("what the program says is UTF-8");
        Finished { arguments, status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs an experiment that must go through with all its claims.
    pub fn run_well(&self, file: &str) -> Finished {
        self.run(["run", file]).expect(0)
    }
}

/// What became of a run of the program.
#[derive(Debug)]
pub struct Finished {
    #[allow(dead_code, reason = "messages show it")]
    pub arguments: Vec<String>,
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Insists on an exit status, and on no panic, not even one that was caught.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert!(self.status == Some(status) && !self.stderr.contains("panicked"), "expected exit status {status}: {self:#?}");
        self
    }

    /// Insists on a refusal: the status, a message on standard error that holds all `parts`, nothing on standard output.
    #[track_caller]
    pub fn expect_error(self, status: i32, parts: &[&str]) -> Self {
        let finished = self.expect(status);
        assert_eq!(finished.stdout, "", "{finished:#?}");
        assert!(finished.stderr.starts_with("error"), "{finished:#?}");
        for part in parts {
            assert!(finished.stderr.contains(part), "`{part}` is not in the message: {finished:#?}");
        }
        finished
    }
}

/// Files by their path below a folder.
#[derive(Clone, PartialEq)]
pub struct Tree(pub BTreeMap<String, Vec<u8>>);

impl Tree {
    pub fn of(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        collect(root, root, &mut files);
        Self(files)
    }

    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// Without the one file that differs from run to run.
    pub fn reproducible(mut self) -> Self {
        assert!(self.0.remove("run.json").is_some(), "no run.json among {:?}", self.names());
        self
    }

    /// Only the files in `tables/`.
    pub fn tables(mut self) -> Self {
        self.0.retain(|name, _| name.starts_with("tables/"));
        assert!(!self.0.is_empty(), "no tables");
        self
    }
}

/// Folders count as files with a slash behind, so that an empty one does not go unseen.
fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        let name = path.strip_prefix(root).expect("it lies below").to_string_lossy().into_owned();
        if path.is_dir() {
            if fs::read_dir(&path).expect("a folder").next().is_none() {
                files.insert(format!("{name}/"), Vec::new());
            }
            collect(root, &path, files);
        } else {
            files.insert(name, fs::read(&path).expect("a file"));
        }
    }
}

/// Compares two trees byte for byte; the message names the files that differ.
#[track_caller]
pub fn assert_same(left: &Tree, right: &Tree) {
    assert_eq!(left.names(), right.names(), "not the same files");
    let differing: Vec<_> = left.names().into_iter().filter(|&name| left.0[name] != right.0[name]).collect();
    assert!(differing.is_empty(), "not the same bytes: {differing:?}");
}

/// A CSV table, as text. The tables of these tests hold nothing that needs quotes.
#[derive(Debug, PartialEq)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn parse(text: &str) -> Self {
        assert!(!text.contains('"'), "a table with quotes is more than this reads");
        let mut lines = text.lines().map(|line| line.split(',').map(String::from).collect::<Vec<_>>());
        let columns = lines.next().expect("a header");
        let rows: Vec<_> = lines.collect();
        assert!(rows.iter().all(|row| row.len() == columns.len()), "ragged rows");
        Self { columns, rows }
    }

    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|cells| Row { columns: &self.columns, cells })
    }

    /// The values of one column.
    pub fn column(&self, name: &str) -> Vec<&str> {
        self.rows().map(|row| row.text(name)).collect()
    }

    /// The rows in which a column has a value.
    pub fn of(&self, column: &str, value: &str) -> Self {
        let rows = self.rows().filter(|row| row.text(column) == value).map(|row| row.cells.to_vec()).collect();
        Self { columns: self.columns.clone(), rows }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Row<'t> {
    columns: &'t [String],
    cells: &'t [String],
}

impl<'t> Row<'t> {
    pub fn text(self, column: &str) -> &'t str {
        let index = self.columns.iter().position(|name| name == column);
        &self.cells[index.unwrap_or_else(|| panic!("no column {column} among {:?}", self.columns))]
    }

    /// A number; `None` where the table has null. Not a number is none of both.
    pub fn number(self, column: &str) -> Option<f64> {
        let text = self.text(column);
        let number = (!text.is_empty()).then(|| text.parse::<f64>().unwrap_or_else(|_| panic!("{column} is `{text}`")));
        assert!(number.is_none_or(f64::is_finite), "{column} is {text}");
        number
    }

    pub fn index(self, column: &str) -> usize {
        self.text(column).parse().unwrap_or_else(|_| panic!("{column} is `{}`", self.text(column)))
    }
}

/// Compares a text with `tests/cli/NAME`, exactly.
#[track_caller]
pub fn assert_golden(name: &str, text: &str) {
    let path = repository(&format!("tests/cli/{name}"));
    if std::env::var("SNAPSHOTS").is_ok_and(|value| value == "overwrite") {
        fs::write(&path, text).expect("write the golden file");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "tests/cli/{name}\n--- expected\n{expected}\n--- found\n{text}");
}

/// A small experiment in which everything occurs once: a model that is known, one that is drawn, a figure, two claims.
pub const SMALL: &str = include_str!("small.yaml");

/// [`SMALL`], but its input is a file.
pub fn reading_tokens(file: &str) -> String {
    let drawn = "{ kind: repeated_tokens, sequences: 4, period: 5, repeats: 3 }";
    assert!(SMALL.contains(drawn));
    SMALL.replace(drawn, &format!("{{ kind: tokens, file: {file} }}"))
}

/// What that file can hold.
pub const TOKENS: &str = "[[0, 1, 2, 3, 1, 2, 3], [0, 4, 5, 6, 4, 5, 6]]";
