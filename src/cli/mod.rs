//! The command line: arguments in, exit status out.

mod describe;
mod diff;
mod figures;
mod plan;
mod progress;
mod score_card;
mod targets;
mod terminal;
mod verify;

use crate::experiment::plan::{bytes, parse_bytes, program_bytes};
use crate::experiment::schema::experiment_schema;
use crate::experiment::{self, Experiment, Indexed, LoadOptions, Registries, RunOptions, Variant};
use crate::model::build::weight_bytes;
use crate::model::export::{export, export_bytes};
use crate::store::{self, Cache, ClaimRecord, Manifest};
use crate::{Error, Result};
use clap::{Args, Parser, Subcommand};
use progress::Reporter;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use terminal::{message, say, tell, tell_error};

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
    /// Draw figures and reports again from stored tables, measuring nothing
    ///
    /// With --out the figures are drawn into that folder, in another theme or size if asked for, and the results stay as they are.
    /// Otherwise they take the place of those in the results; the index page over all results is written as well.
    Figures(figures::FiguresArgs),
    /// Run experiments again elsewhere and compare with the stored results, which stay as they are
    ///
    /// Tables are compared by hash, then value by value: rows by their key columns, numbers within the tolerance, everything else
    /// exactly. So are claims, the manifest, and the files themselves with the hashes that the manifest has of them; figures and
    /// report by hash. Exit status 1 if anything differs. Paths in an experiment are relative to its file, which is looked for in
    /// the present folder, in that above the results, and in `experiments` at both, unless it is named itself.
    Verify(verify::VerifyArgs),
    /// Show in what two runs differ: settings with the lines that set them, tables, claims
    ///
    /// Rows are paired by their key columns. Of every column of numbers the largest differences are shown, and the first. Figures
    /// and reports come from the tables and are not compared. Exit status 1 if there is any difference, as with diff(1).
    Diff(diff::DiffArgs),
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
struct Memory {
    /// Refuse what needs more memory than this: a size as in 2GiB, 500M or 1.5G [default: what the machine has free]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    memory_limit: Option<usize>,
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
    #[command(flatten)]
    memory: Memory,
    /// Compute everything anew, whatever earlier runs have left in the cache
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    cache: CacheArgs,
    /// Say nothing but errors and failed claims
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Args)]
struct CacheArgs {
    /// Folder in which runs keep what they compute, for later ones; it can be deleted at any time [default: a folder
    /// `attn-circuits` where this system keeps caches]
    #[arg(long = "cache", value_name = "DIR", env = "ATTN_CIRCUITS_CACHE")]
    folder: Option<PathBuf>,
    /// Largest size of that folder in MiB; what was not used for longest goes first
    #[arg(long = "cache-limit", value_name = "MIB", default_value_t = 2048)]
    limit: u64,
}

impl CacheArgs {
    /// The cache; none on a system that has no place for it.
    fn open(&self, force: bool) -> Option<Cache> {
        let folder = self.folder.clone().or_else(Cache::default_folder)?;
        let cache = Cache::new(folder, self.limit.saturating_mul(1 << 20));
        Some(if force { cache.forgetful() } else { cache })
    }
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Experiment files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    memory: Memory,
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
    #[command(flatten)]
    memory: Memory,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((path, value)) if !path.trim().is_empty() => Ok((path.trim().to_string(), value.to_string())),
        _ => Err("write PATH=VALUE, as in models.wired.noise=0.3".to_string()),
    }
}

/// What became of a command, or of a part of it; the worse comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Fine,
    /// A claim or a verification failed.
    Failed,
    /// What was asked for could not be done, as has been said; with the exit status.
    Refused(u8),
}

/// Parses the arguments, does what they say, and answers with the exit status: 0 fine, 1 a claim or a verification failed, 2 the
/// input is wrong, 3 anything else.
///
/// The whole program is
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     attn_circuits::cli::main()
/// }
/// ```
pub fn main() -> ExitCode {
    match execute(Cli::parse().command).unwrap_or_else(refused) {
        Outcome::Fine => ExitCode::SUCCESS,
        Outcome::Failed => ExitCode::from(1),
        Outcome::Refused(status) => ExitCode::from(status),
    }
}

/// Says what is wrong.
fn refused(error: Error) -> Outcome {
    tell_error(&error);
    Outcome::Refused(status(&error))
}

/// [`refused`] of one of several things, `what`: what goes wrong in the middle of a run does not name the experiment.
fn refused_for(what: &Path, error: Error) -> Outcome {
    let outcome = Outcome::Refused(status(&error));
    tell_error(&match error {
        named @ (Error::Io { .. } | Error::File { .. } | Error::Experiment(_)) => named,
        other => Error::file(what, other.to_string()),
    });
    outcome
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
            for experiment in load_all(&args.files, &args.overrides, &args.memory)? {
                say(&plan::show(&experiment))?;
            }
            Ok(Outcome::Fine)
        }
        Command::Figures(args) => figures::execute(&args),
        Command::Verify(args) => verify::execute(&args),
        Command::Diff(args) => diff::execute(&args),
        Command::List => show(describe::list()),
        Command::Describe { name } => show(describe::describe(&name)?),
        Command::Export(args) => export_model(&args),
        Command::New { name } => new(&name),
        Command::Schema => show(format!("{:#}\n", *experiment_schema(&Registries::standard()))),
    }
}

fn show(text: String) -> Result<Outcome> {
    say(&text)?;
    Ok(Outcome::Fine)
}

fn load(file: &Path, overrides: &Overrides, options: &LoadOptions) -> Result<Experiment> {
    match fs::metadata(file) {
        Ok(found) if found.is_dir() => return Err(Error::file(file, "is a folder; name an experiment file in it")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::file(file, "there is no such file")),
        _ => {}
    }
    experiment::load_with(file, &overrides.set, options)
}

/// How experiments are loaded; without a limit for the memory, what is free is the limit.
fn load_options(memory: &Memory) -> LoadOptions<'static> {
    let standard = LoadOptions::default();
    let memory_limit = memory.memory_limit.or(standard.memory_limit);
    LoadOptions { colour: io::stderr().is_terminal(), memory_limit, ..standard }
}

/// Loads every file before anything is computed; the problems of all of them are reported together.
fn load_all(files: &[PathBuf], overrides: &Overrides, memory: &Memory) -> Result<Vec<Experiment>> {
    load_those(files, |_| true, overrides, memory)
}

/// [`load_all`] of those that are `wanted`; that two of all would write to the same place is a problem, too.
fn load_those(
    files: &[PathBuf],
    wanted: impl Fn(usize) -> bool,
    overrides: &Overrides,
    memory: &Memory,
) -> Result<Vec<Experiment>> {
    let options = load_options(memory);
    let mut experiments: Vec<Experiment> = Vec::new();
    let mut problems = Vec::new();
    for (index, file) in files.iter().enumerate() {
        if let Some(other) = files[..index].iter().find(|other| other.file_stem() == file.file_stem()) {
            let text = format!("would write to the same results folder as {}; rename one", other.display());
            problems.push(Error::file(file, text));
        }
        if wanted(index) {
            match load(file, overrides, &options) {
                Ok(experiment) => experiments.push(experiment),
                Err(error) => problems.push(error),
            }
        }
    }
    match problems.len() {
        0 => Ok(experiments),
        1 => Err(problems.remove(0)),
        _ => {
            let texts: Vec<_> = problems.iter().map(|problem| message(problem).trim_end().to_string()).collect();
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
    let cache = args.cache.open(args.force);
    let mut any = false;
    let outcome = run_each(args, cache.as_ref(), &mut any);
    // Once for all, and also if one of them failed: the others are there.
    let indexed = if any { write_index(&args.out).map_or_else(refused, |()| Outcome::Fine) } else { Outcome::Fine };
    if let Some(problem) = cache.as_ref().and_then(Cache::problem).filter(|_| !args.quiet) {
        tell(&format!("note: not everything is kept for later runs: {problem}"));
    }
    outcome.map(|outcome| outcome.max(indexed))
}

/// Runs every file, also those behind one that fails; `any` tells whether results of one are there.
fn run_each(args: &RunArgs, cache: Option<&Cache>, any: &mut bool) -> Result<Outcome> {
    let there = |file: &PathBuf| experiment::up_to_date(file, &args.overrides.set, &args.out, cache?);
    let there: Vec<_> = args.files.iter().map(there).collect();
    let mut experiments = load_those(&args.files, |index| there[index].is_none(), &args.overrides, &args.memory)?.into_iter();
    let mut outcome = Outcome::Fine;
    for (file, there) in args.files.iter().zip(there) {
        let progress = Reporter::new(file, args.quiet);
        let ran = match there {
            Some(there) => {
                progress.up_to_date();
                store::clean_up(&there.0);
                Ok(there)
            }
            None => {
                let experiment = experiments.next().expect("what is not up to date was loaded");
                let options = RunOptions { cache, progress: &progress };
                experiment::run(&experiment, &args.out, &options).map(|finished| (finished.folder, finished.manifest))
            }
        };
        // With it goes the bar of a run that stopped.
        drop(progress);
        match ran {
            Ok((folder, manifest)) => {
                *any = true;
                outcome = outcome.max(if all_hold(&manifest) { Outcome::Fine } else { Outcome::Failed });
                say(&summary(&folder, &manifest, args.quiet))?;
            }
            Err(error) => outcome = outcome.max(refused_for(file, error)),
        }
    }
    Ok(outcome)
}

/// Brings the page over all results up to date; one that someone else has written stays.
fn write_index(folder: &Path) -> Result<()> {
    if let Indexed::Foreign(path) = experiment::update_index(folder)? {
        tell(&format!("note: {} is not ours and was left as it is", path.display()));
    }
    Ok(())
}

fn all_hold(manifest: &Manifest) -> bool {
    let (holding, all) = manifest.verdicts();
    holding == all
}

/// The claims with their numbers, failed ones with their checks, and where the report lies.
fn summary(folder: &Path, manifest: &Manifest, quiet: bool) -> String {
    let mut text = String::new();
    for ClaimRecord { statement, check, holds, numbers } in manifest.claims() {
        if holds && quiet {
            continue;
        }
        let mark = if holds { "✓ holds" } else { "✗ FAILS" };
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
        let (holding, all) = manifest.verdicts();
        if all > 0 {
            text += &format!("{holding} of {all} claims hold\n");
        }
        text += &format!("report: {}\n", folder.join("report.html").display());
    }
    text
}

fn export_model(args: &ExportArgs) -> Result<Outcome> {
    let options = load_options(&args.memory);
    // One model is made and nothing is measured: what the rest of the file needs is no matter.
    let experiment = load(&args.file, &args.overrides, &LoadOptions { memory_limit: None, ..options })?;
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
    let Variant { builder, config, .. } = instance.variant;
    let making = builder.building_bytes(config).saturating_add(weight_bytes::<f32>(config));
    let needed = making.max(export_bytes(config));
    if let Some(limit) = options.memory_limit.filter(|&limit| needed.saturating_add(program_bytes()) >= limit) {
        let text = format!(
            "writing model `{}` takes about {} beside the program itself, and the memory limit is {}; `--memory-limit` sets \
             the limit",
            args.model,
            bytes(needed),
            bytes(limit)
        );
        return Err(Error::file(&args.file, text));
    }
    let built = experiment.build(&instance)?;
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
