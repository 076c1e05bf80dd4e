use super::terminal::{plain, tell};
use crate::experiment::{Progress, Reused};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Mutex;

/// Shows a run's progress on standard error: a bar on a terminal, a line for each phase elsewhere.
///
/// A quiet one says only that the run waits, and for what: without that it would seem to hang.
pub(super) struct Reporter {
    quiet: bool,
    file: String,
    terminal: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Reporter {
    pub fn new(file: &Path, quiet: bool) -> Self {
        Self { quiet, file: file.display().to_string(), terminal: std::io::stderr().is_terminal(), bar: Mutex::default() }
    }

    /// Says that there is nothing to do.
    pub fn up_to_date(&self) {
        self.line("up to date: nothing has changed since these results were made, and all of them are reused");
    }

    fn line(&self, words: &str) {
        if !self.quiet {
            tell(&format!("{}: {words}", self.file));
        }
    }

    fn replace(&self, bar: Option<ProgressBar>) {
        let mut place = self.bar.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(old) = std::mem::replace(&mut *place, bar) {
            old.finish_and_clear();
        }
    }
}

impl Drop for Reporter {
    /// A run that stops at an error leaves no bar behind.
    fn drop(&mut self) {
        self.replace(None);
    }
}

impl Progress for Reporter {
    fn phase(&self, name: &str, steps: usize) {
        if self.quiet {
            return;
        }
        if !self.terminal {
            return self.line(&format!("{name} ({steps})"));
        }
        let style = ProgressStyle::with_template("{prefix} {bar:32} {pos}/{len} {wide_msg}");
        let bar = ProgressBar::new(steps as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(plain(&format!("{}: {name}", self.file)));
        self.replace(Some(bar));
    }

    fn step(&self, name: &str) {
        let bar = self.bar.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(bar) = bar.as_ref() {
            bar.set_message(plain(name.lines().next().unwrap_or_default()));
            bar.inc(1);
        }
    }

    fn waiting(&self, folder: &Path) {
        tell(&format!("{}: another run is writing {}; waiting until it is done", self.file, folder.display()));
    }

    fn reused(&self, reused: &Reused) {
        self.line(&format!("reused {reused}"));
    }

    fn finish(&self) {
        self.replace(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statement of a claim is a step, and an experiment's name is before every bar.
    #[test]
    fn a_bar_shows_text_and_obeys_none() {
        let mut reporter = Reporter::new(Path::new("a\u{1b}[2J.yaml"), false);
        reporter.terminal = true;
        reporter.phase("asking", 2);
        reporter.step("a \u{1b}[2J\u{202e}claim\nin two lines");
        let bar = reporter.bar.lock().unwrap();
        let bar = bar.as_ref().unwrap();
        assert_eq!((bar.prefix(), bar.message()), ("a\\u{1b}[2J.yaml: asking".into(), "a \\u{1b}[2J\\u{202e}claim".into()));
    }
}
