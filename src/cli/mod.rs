//! The command line: arguments in, exit status out.

mod describe;
mod plan;
mod progress;
mod score_card;

use crate::experiment::schema::experiment_schema;
use crate::experiment::{self, Experiment, LoadOptions, Progress, Registries, Silent};
use crate::model::build::BuildContext;
use crate::model::export::export;
use crate::store::{CellRecord, Manifest};
use crate::{Error, Result};
use clap::{Args, Parser, Subcommand};
use progress::Reporter;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Takes attention-only transformers apart: experiments in YAML, results as tables, figures and a report.
#[derive(Debug, Parser)]
#[command(name = "attn-circuits", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run experiments: tables, figures and a report into the results folder
    Run(RunArgs),
    /// Check experiments without computing anything, and show what a run would do
    Check(CheckArgs),
    /// Draw figures and reports again from stored tables, computing nothing
    Figures(FiguresArgs),
    /// List the kinds of model, input, measure and figure, and the wired circuits
    List,
    /// Explain one of them: what it is, its parameters, an example
    Describe {
        /// A name that `list` shows; `circuit NAME` prints a wired circuit as YAML, `circuit NAME 3` one with `n: 3`
        #[arg(required = true, num_args = 1..=3, value_name = "NAME")]
        name: Vec<String>,
    },
    /// Write a model as safetensors and config.json, in TransformerLens' names
    Export(ExportArgs),
    /// Write a commented experiment file to start from
    New {
        /// Name of the experiment; the file is NAME.yaml
        name: PathBuf,
    },
    /// Print the JSON Schema of the experiment file
    Schema,
}

#[derive(Debug, Args)]
struct Overrides {
    /// Override a value of the file, as in `--set models.wired.noise=0.3`; recorded in the manifest
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct Threads {
    /// Threads to compute with [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Experiment files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Folder for the results; each experiment has a folder of its own in it
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    threads: Threads,
    /// Compute everything anew, whatever earlier runs have left; so far, every run does
    #[arg(long)]
    force: bool,
    /// Say nothing but errors and failed claims
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Experiment files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
}

#[derive(Debug, Args)]
struct FiguresArgs {
    /// Results folders, or experiment files whose results are wanted
    #[arg(required = true, value_name = "DIR-or-FILE")]
    targets: Vec<PathBuf>,
    /// Folder in which the results of an experiment file lie
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,
    #[command(flatten)]
    threads: Threads,
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// Experiment file
    file: PathBuf,
    /// Name of the model in it
    model: String,
    /// Folder to write to [default: the model's name]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Which replicate, from 1
    #[arg(long, value_name = "N", default_value_t = 1)]
    replicate: usize,
    #[command(flatten)]
    overrides: Overrides,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((path, value)) if !path.trim().is_empty() => Ok((path.trim().to_string(), value.to_string())),
        _ => Err("write PATH=VALUE, as in models.wired.noise=0.3".to_string()),
    }
}

/// What became of a command that went through.
enum Outcome {
    Fine,
    ClaimFailed,
}

/// Parses the arguments, does what they say, and answers with the exit status: 0 fine, 1 a claim failed, 2 the input is wrong, 3
/// anything else.
pub fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::ClaimFailed) => ExitCode::from(1),
        Err(error) => {
            let text = error.to_string();
            eprintln!("{}", if text.starts_with("error") { text } else { format!("error: {text}") });
            ExitCode::from(status(&error))
        }
    }
}

fn status(error: &Error) -> u8 {
    match error {
        Error::Io { .. } | Error::Table(_) => 3,
        _ => 2,
    }
}

fn execute(command: Command) -> Result<Outcome> {
    match command {
        Command::Run(args) => run(&args),
        Command::Check(args) => {
            for experiment in load_all(&args.files, &args.overrides)? {
                say(&plan::show(&experiment))?;
            }
            Ok(Outcome::Fine)
        }
        Command::Figures(args) => figures(&args),
        Command::List => show(describe::list()),
        Command::Describe { name } => show(describe::describe(&name)?),
        Command::Export(args) => export_model(&args),
        Command::New { name } => new(&name),
        Command::Schema => show(format!("{:#}\n", experiment_schema(&Registries::standard()))),
    }
}

fn show(text: String) -> Result<Outcome> {
    say(&text)?;
    Ok(Outcome::Fine)
}

/// Writes to standard output. That its reader has seen enough (`list | head`) is no error.
fn say(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Error::io("standard output")),
    }
}

fn load(file: &Path, overrides: &Overrides) -> Result<Experiment> {
    match fs::metadata(file) {
        Ok(found) if found.is_dir() => return Err(Error::file(file, "is a folder; name an experiment file in it")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::file(file, "there is no such file")),
        _ => {}
    }
    let options = LoadOptions { colour: io::stderr().is_terminal(), ..LoadOptions::default() };
    experiment::load_with(file, &overrides.set, &options)
}

/// Loads every file before anything is computed; the problems of all of them are reported together.
fn load_all(files: &[PathBuf], overrides: &Overrides) -> Result<Vec<Experiment>> {
    let mut experiments: Vec<Experiment> = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        match load(file, overrides) {
            Ok(experiment) => {
                let same = |other: &&Experiment| other.path.file_stem() == experiment.path.file_stem();
                if let Some(other) = experiments.iter().find(same) {
                    let text = format!("would write to the same results folder as {}; rename one", other.path.display());
                    problems.push(Error::file(file, text));
                }
                experiments.push(experiment);
            }
            Err(error) => problems.push(error),
        }
    }
    match problems.len() {
        0 => Ok(experiments),
        1 => Err(problems.remove(0)),
        _ => {
            let texts: Vec<_> = problems.iter().map(|problem| problem.to_string().trim_end().to_string()).collect();
            Err(Error::Experiment(texts.join("\n\n")))
        }
    }
}

fn set_threads(threads: &Threads) -> Result<()> {
    let Some(threads) = threads.threads else { return Ok(()) };
    rayon::ThreadPoolBuilder::new()
        .num_threads(usize::from(threads))
        .build_global()
        .map_err(|error| Error::invalid(format!("--threads {threads}: {error}")))
}

fn run(args: &RunArgs) -> Result<Outcome> {
    set_threads(&args.threads)?;
    let experiments = load_all(&args.files, &args.overrides)?;
    let mut outcome = Outcome::Fine;
    for experiment in &experiments {
        let reporter = Reporter::new(&experiment.path);
        let progress: &dyn Progress = if args.quiet { &Silent } else { &reporter };
        let (folder, manifest) = experiment::run(experiment, &args.out, progress)?;
        if !all_hold(&manifest) {
            outcome = Outcome::ClaimFailed;
        }
        say(&summary(&folder, &manifest, args.quiet))?;
    }
    Ok(outcome)
}

fn all_hold(manifest: &Manifest) -> bool {
    let (holding, all) = manifest.claims();
    holding == all
}

/// The claims with their numbers, failed ones with their checks, and where the report lies.
fn summary(folder: &Path, manifest: &Manifest, quiet: bool) -> String {
    let mut text = String::new();
    for cell in &manifest.cells {
        let CellRecord::Claim { statement, holds, numbers, check } = cell else { continue };
        if *holds && quiet {
            continue;
        }
        let mark = if *holds { "✓ holds" } else { "✗ FAILS" };
        let numbers: Vec<_> = experiment::named(numbers).into_iter().map(|(name, value)| format!("{name} = {value}")).collect();
        text += &format!("{mark}  {}\n", statement.trim());
        if !numbers.is_empty() {
            text += &format!("         {}\n", numbers.join(", "));
        }
        if !holds {
            text += &format!("         check: {}\n", check.trim());
        }
    }
    if !quiet {
        let (holding, all) = manifest.claims();
        if all > 0 {
            text += &format!("{holding} of {all} claims hold\n");
        }
        text += &format!("report: {}\n", folder.join("report.html").display());
    }
    text
}

fn figures(args: &FiguresArgs) -> Result<Outcome> {
    set_threads(&args.threads)?;
    for target in &args.targets {
        let folder = match target.is_file() {
            true => args.out.join(target.file_stem().unwrap_or_default()),
            false => target.clone(),
        };
        let manifest = experiment::redraw(&folder, &Silent)?;
        let drawn = manifest.cells.iter().filter(|cell| matches!(cell, CellRecord::Figure { .. })).count();
        let s = if drawn == 1 { "" } else { "s" };
        say(&format!("{drawn} figure{s} and the report: {}\n", folder.join("report.html").display()))?;
    }
    Ok(Outcome::Fine)
}

fn export_model(args: &ExportArgs) -> Result<Outcome> {
    let experiment = load(&args.file, &args.overrides)?;
    let model = experiment.models.get(&args.model).ok_or_else(|| {
        let names: Vec<_> = experiment.models.keys().map(String::as_str).collect();
        Error::file(&args.file, format!("has no model `{}`; it has {}", args.model, names.join(", ")))
    })?;
    if model.variants.len() > 1 {
        let text = format!("model `{}` is swept over {}; choose one value with --set", args.model, model.swept.join(", "));
        return Err(Error::file(&args.file, text));
    }
    let instance = model.instances(&args.model).find(|instance| instance.replicate == args.replicate).ok_or_else(|| {
        let text = format!("model `{}` has replicates 1 to {}, not {}", args.model, model.replicates, args.replicate);
        Error::file(&args.file, text)
    })?;
    let context = BuildContext { base: experiment.base(), stream: instance.stream(experiment.seed) };
    let built = instance.variant.builder.build(&context)?;
    let folder = args.out.clone().unwrap_or_else(|| PathBuf::from(&args.model));
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    export(&built, &folder)?;
    show(format!("{}\n{}\n", folder.join("weights.safetensors").display(), folder.join("config.json").display()))
}

fn new(name: &Path) -> Result<Outcome> {
    let path = if name.extension().is_some_and(|e| e == "yaml" || e == "yml") {
        name.to_path_buf()
    } else {
        let mut path = name.as_os_str().to_owned();
        path.push(".yaml");
        PathBuf::from(path)
    };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    // A JSON string is a YAML one, and stays a string where the name reads as a number, a boolean or a map.
    let title = serde_json::Value::from(stem.replace(['-', '_'], " ")).to_string();
    let text = include_str!("new.yaml").replace("TITLE", &title);
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).open(&path);
    let mut file = file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::file(&path, "is already there, and is not overwritten"),
        _ => Error::io(&path)(error),
    })?;
    file.write_all(text.as_bytes()).map_err(Error::io(&path))?;
    show(format!("{}\n", path.display()))
}
