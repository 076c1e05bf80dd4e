//! `figures`: figures and reports again, from stored tables alone.

use super::progress::Reporter;
use super::targets::{Target, Targets};
use super::terminal::say;
use super::{Outcome, Threads, refused, refused_for, set_threads, write_index};
use crate::experiment;
use crate::figure::{Style, Theme};
use crate::names::counted;
use crate::{Error, Result};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct FiguresArgs {
    #[command(flatten)]
    targets: Targets,
    /// Draw the figures into DIR, in a folder for each experiment, and leave the results as they are
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// `screen`: as in the report; `print`: black text, thinner lines, hatching beside colour. Needs --out
    #[arg(long, value_name = "THEME", default_value = "screen", value_parser = theme())]
    theme: Theme,
    /// Width of every figure in pixels, instead of its own, 200 to 2400; labels that need it make it wider. Needs --out
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(200..=2400))]
    width: Option<u32>,
    /// Pixels of the PNG in a pixel of the figure: 1, 2, 3, 4, 6 or 8; at 96 pixels an inch, 4 is 384 dpi. Needs --out
    #[arg(long, value_name = "N", default_value = "2", value_parser = scale(), hide_possible_values = true)]
    scale: u32,
    #[command(flatten)]
    threads: Threads,
}

fn theme() -> impl TypedValueParser<Value = Theme> {
    PossibleValuesParser::new(["screen", "print"]).map(|name| if name == "print" { Theme::Print } else { Theme::Screen })
}

fn scale() -> impl TypedValueParser<Value = u32> {
    PossibleValuesParser::new(["1", "2", "3", "4", "6", "8"]).map(|text| text.parse().unwrap_or(2))
}

pub(super) fn execute(args: &FiguresArgs) -> Result<Outcome> {
    set_threads(&args.threads)?;
    let style = Style { theme: args.theme, width: args.width, png_scale: args.scale };
    if args.out.is_none() && style != Style::default() {
        let text = "--theme, --width and --scale would change the figures of the results, which are those of the report: \
                    name another folder for them with --out DIR";
        return Err(Error::invalid(text));
    }
    let targets = args.targets.resolve()?;
    match &args.out {
        Some(out) => draw_into(&targets, out, &style),
        None => redraw(&targets, &args.targets.whole_folders()),
    }
}

/// Draws the figures of all results into folders of their names in `out`, also of those behind some that cannot be drawn.
fn draw_into(targets: &[Target], out: &Path, style: &Style) -> Result<Outcome> {
    let mut places: Vec<(&Target, PathBuf)> = Vec::new();
    for target in targets {
        let place = out.join(target.real.file_name().unwrap_or_default());
        experiment::check_drawn_into(&place)?;
        if let Some((other, _)) = places.iter().find(|(_, taken)| *taken == place) {
            let other = other.folder.display();
            let text = format!("would be drawn into the same folder as {other}; draw it with another --out");
            return Err(Error::file(&target.folder, text));
        }
        places.push((target, place));
    }
    let mut outcome = Outcome::Fine;
    for (target, place) in &places {
        match experiment::draw_into(&target.real, place, style) {
            Ok(drawn) => say(&format!("{}: {}\n", counted(drawn, "figure"), place.display()))?,
            Err(error) => outcome = outcome.max(refused_for(&target.folder, error)),
        }
    }
    Ok(outcome)
}

/// Draws all results again, also those behind some that cannot be drawn, and brings the index pages over those that were drawn up to
/// date; those over the folders `whole` are begun where there is none.
fn redraw(targets: &[Target], whole: &[&Path]) -> Result<Outcome> {
    let mut parents: BTreeSet<&Path> = BTreeSet::new();
    let mut outcome = Outcome::Fine;
    for Target { folder, real, .. } in targets {
        match experiment::redraw(folder, &Reporter::new(folder, true)) {
            Ok(manifest) => {
                parents.extend(real.parent());
                let drawn = counted(manifest.figures().count(), "figure");
                say(&format!("{drawn} and the report: {}\n", folder.join("report.html").display()))?;
            }
            Err(error) => outcome = outcome.max(refused_for(folder, error)),
        }
    }
    for folder in whole {
        if let Ok(real) = std::fs::canonicalize(folder) {
            parents.remove(real.as_path());
        }
        match write_index(folder) {
            Ok(()) => say(&format!("the index: {}\n", folder.join("index.html").display()))?,
            Err(error) => outcome = outcome.max(refused(error)),
        }
    }
    // Single results may lie anywhere: an index is brought up to date there, but none is begun.
    for parent in parents {
        if let Err(error) = experiment::refresh_index(parent) {
            outcome = outcome.max(refused(error));
        }
    }
    Ok(outcome)
}
