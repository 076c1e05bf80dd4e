use crate::experiment::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Mutex;

/// Shows a run's progress on standard error: a bar on a terminal, a line for each phase elsewhere.
pub(super) struct Reporter {
    file: String,
    terminal: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Reporter {
    pub fn new(file: &Path) -> Self {
        Self { file: file.display().to_string(), terminal: std::io::stderr().is_terminal(), bar: Mutex::default() }
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
        if !self.terminal {
            eprintln!("{}: {name} ({steps})", self.file);
            return;
        }
        let style = ProgressStyle::with_template("{prefix} {bar:32} {pos}/{len} {wide_msg}");
        let bar = ProgressBar::new(steps as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(format!("{}: {name}", self.file));
        self.replace(Some(bar));
    }

    fn step(&self, name: &str) {
        let bar = self.bar.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(bar) = bar.as_ref() {
            bar.set_message(name.lines().next().unwrap_or_default().to_string());
            bar.inc(1);
        }
    }

    fn finish(&self) {
        self.replace(None);
    }
}
