//! `figures`: figures and reports again, from stored tables alone.

use super::progress::Reporter;
use super::targets::Targets;
use super::terminal::say;
use super::{Outcome, Threads, set_threads, write_index};
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
    /// Width of every figure in pixels, instead of its own, 200 to 2400. Needs --out
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
    // Looked for before anything is drawn: a folder in which the user stands is replaced by the new one.
    let whole = args.targets.whole_folders();
    let absolute = targets.iter().filter_map(|target| std::fs::canonicalize(&target.folder).ok());
    let parents: BTreeSet<PathBuf> = absolute.filter_map(|folder| folder.parent().map(Path::to_path_buf)).collect();
    for target in &targets {
        match &args.out {
            Some(out) => draw_into(&target.folder, out, &style)?,
            None => redraw(&target.folder)?,
        }
    }
    if args.out.is_none() {
        for folder in whole {
            write_index(folder)?;
            say(&format!("the index: {}\n", folder.join("index.html").display()))?;
        }
        // Single results may lie anywhere: an index is brought up to date there, but none is begun.
        for parent in &parents {
            experiment::refresh_index(parent)?;
        }
    }
    Ok(Outcome::Fine)
}

fn redraw(folder: &Path) -> Result<()> {
    let manifest = experiment::redraw(folder, &Reporter::new(folder, true))?;
    let drawn = manifest.figures().count();
    say(&format!("{} and the report: {}\n", counted(drawn, "figure"), folder.join("report.html").display()))
}

fn draw_into(folder: &Path, out: &Path, style: &Style) -> Result<()> {
    let folder = &std::fs::canonicalize(folder).map_err(Error::io(folder))?;
    let target = out.join(folder.file_name().unwrap_or_default());
    let drawn = experiment::draw_into(folder, &target, style)?;
    say(&format!("{}: {}\n", counted(drawn, "figure"), target.display()))
}
