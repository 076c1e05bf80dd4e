//! `verify`: whether stored results are what their experiments yield.

use super::progress::Reporter;
use super::targets::{Target, Targets};
use super::terminal::say;
use super::{Memory, Outcome, Threads, load_options, refused_for, set_threads};
use crate::Result;
use crate::experiment::compare::Tolerance;
use crate::experiment::verify::{Finding, Verdict, Verification, VerifyOptions, verify};
use crate::names::counted;
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    targets: Targets,
    /// How far two numbers may lie apart and still count as the same: by at most this, or this share of the greater one
    ///
    /// Within the tolerance, but with other bytes, is said as such. Another kind of processor adds numbers up in another order, so
    /// last digits differ: models compute with 32-bit numbers, and sums and exponentials multiply their rounding. On the machine
    /// that wrote the results every byte is the same.
    #[arg(long, value_name = "T", default_value_t = Tolerance::DEFAULT, value_parser = tolerance)]
    tolerance: Tolerance,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    memory: Memory,
    /// Say nothing but errors and what is not the same
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn tolerance(text: &str) -> Result<Tolerance, String> {
    let number = text.parse().map_err(|_| format!("`{text}` is no number; write it like 1e-4"))?;
    Tolerance::new(number).map_err(|error| error.to_string())
}

pub(super) fn execute(args: &VerifyArgs) -> Result<Outcome> {
    set_threads(&args.threads)?;
    let targets = args.targets.resolve()?;
    let (mut verified, mut outcome) = (0, Outcome::Fine);
    for target in &targets {
        match one(target, args) {
            Ok(verification) => {
                let fine = verification.verdict() != Verdict::Differs;
                verified += usize::from(fine);
                outcome = outcome.max(if fine { Outcome::Fine } else { Outcome::Failed });
                if !(fine && args.quiet) {
                    say(&report(&verification, args.tolerance))?;
                }
            }
            // The others are verified all the same.
            Err(error) => outcome = outcome.max(refused_for(&target.folder, error)),
        }
    }
    if targets.len() > 1 && !args.quiet {
        say(&format!("{verified} of {} verified\n", targets.len()))?;
    }
    Ok(outcome)
}

fn one(target: &Target, args: &VerifyArgs) -> Result<Verification> {
    let progress = Reporter::new(&target.folder, args.quiet);
    let load = load_options(&args.memory);
    let options = VerifyOptions { tolerance: args.tolerance, file: target.file.as_deref(), load };
    verify(&target.folder, &options, &progress)
}

/// The verdict on one results folder, and what it comes from.
fn report(found: &Verification, tolerance: Tolerance) -> String {
    let manifest = &found.manifest;
    let figures = manifest.figures().count();
    let (holding, claims) = manifest.verdicts();
    let what = format!(
        "{}, {}, {holding} of {claims} claims hold",
        counted(manifest.tables.len(), "table"),
        counted(figures, "figure")
    );
    let verdict = match found.verdict() {
        Verdict::Same => format!("the same to the byte ({what})"),
        Verdict::WithinTolerance => format!("the same values within {tolerance}, other bytes ({what})"),
        Verdict::Differs => "DIFFERS".to_string(),
    };
    let mut text = format!("{}: {verdict}\n", found.folder.display());
    for note in &found.notes {
        text += &format!("  note: {note}\n");
    }
    for Finding { what, details } in found.faults.iter().chain(&found.close) {
        text += &format!("  {what}\n");
        for detail in details {
            text += &format!("    {detail}\n");
        }
    }
    text
}
