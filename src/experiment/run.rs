use super::Experiment;
use super::plan::system_number;
use super::present::present;
use super::progress::{Progress, Reused, Silent};
use super::run_tables::RunTables;
use super::{Instance, asking, measuring, up_to_date};
use crate::Result;
use crate::figure::Figure;
use crate::store::{Cache, Manifest, ModelRecord, PROGRAM, Staging};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime};

/// How an experiment is run.
///
/// ```
/// use attn_circuits::experiment::{LoadOptions, RunOptions, load_str, run};
/// use attn_circuits::store::Cache;
/// # use attn_circuits::Error;
/// # let text = "
/// # title: Composition
/// # models: { wired: { kind: wired, circuit: induction, vocab: 13, context: 25 } }
/// # cells: [{ measure: composition }]
/// # ";
/// # let experiment = load_str(text, "composition.yaml".as_ref(), &[], &LoadOptions::default())?;
/// # let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
/// let cache = Cache::new(folder.path().join("cache"), 1 << 20);
/// let options = RunOptions { cache: Some(&cache), ..RunOptions::default() };
/// let first = run(&experiment, &folder.path().join("results"), &options)?;
/// assert!(!first.reused.any());
/// // The second time nothing is measured, and the results are the same.
/// let second = run(&experiment, &folder.path().join("results"), &options)?;
/// assert_eq!(second.reused.to_string(), "1 of 1 measurement");
/// assert_eq!(second.manifest, first.manifest);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct RunOptions<'a> {
    /// What earlier runs have computed, and where what this one computes is kept. Without it everything is computed.
    ///
    /// Only the program that put something there finds it again: the same executable, by its length and the time at which it
    /// was written. So programs that add kinds of model, input, measure or figure can use one folder with others. A kind that
    /// comes from outside the executable, from a library that is loaded when it runs, is not seen: such a program needs a
    /// folder of its own, and another one when the kinds change.
    pub cache: Option<&'a Cache>,
    /// Hears how far the run is.
    pub progress: &'a dyn Progress,
}

impl Default for RunOptions<'_> {
    /// No cache, and nobody is told.
    fn default() -> Self {
        Self { cache: None, progress: &Silent }
    }
}

/// What became of a run, by [`run`].
#[derive(Clone, Debug)]
pub struct Finished {
    /// The results folder.
    pub folder: PathBuf,
    /// What it holds.
    pub manifest: Manifest,
    /// What was not computed anew.
    pub reused: Reused,
}

impl Instance<'_> {
    fn record(&self, seed: u64) -> ModelRecord {
        let swept = self.model.swept.iter().cloned().zip(self.variant.values.iter().cloned());
        ModelRecord {
            model: self.name.to_string(),
            kind: self.model.kind.clone(),
            swept: swept.collect(),
            replicate: self.replicate,
            stream: self.stream(seed).to_string(),
            shape: self.variant.config.to_string(),
            parameters: self.variant.config.n_params() as u64,
        }
    }
}

/// Runs an experiment and writes its results to `out/<stem of the file>`: whole, or not at all.
///
/// What `options.cache` has is not computed again: the results are the same. If another process runs the same experiment into the
/// same folder, this one waits for it.
///
/// ```
/// use attn_circuits::experiment::{LoadOptions, RunOptions, load_str, run};
/// use attn_circuits::store::Run;
/// # use attn_circuits::Error;
/// let text = "
/// title: K-composition
/// models: { wired: { kind: wired, circuit: induction, vocab: 13, context: 25 } }
/// cells:
///   - measure: composition
///   - claim: The largest score is 1/√V.
///     check: SELECT ABS(MAX(score) - 1 / SQRT(13)) < 0.00001 FROM composition
/// ";
/// let experiment = load_str(text, "keys.yaml".as_ref(), &[], &LoadOptions::default())?;
/// # let out = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
/// let finished = run(&experiment, out.path(), &RunOptions::default())?;
/// assert_eq!(finished.folder, out.path().join("keys"));
/// assert_eq!(finished.manifest.verdicts(), (1, 1));
/// // One pair of heads, through keys, queries and values.
/// assert_eq!(Run::open(&finished.folder)?.table("composition")?.height(), 3);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// What the models and the measures say; [`crate::Error::Table`] if a query cannot be run; [`crate::Error::Invalid`] with the
/// figure's number and name if one cannot be drawn; [`crate::Error::File`] if something that no run wrote lies in the results
/// folder, or a file that the experiment reads has changed since it was loaded; [`crate::Error::Io`]. Nothing is written then,
/// and the last results stay.
pub fn run(experiment: &Experiment, out: &Path, options: &RunOptions) -> Result<Finished> {
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let clock = Instant::now();
    let RunOptions { cache, progress } = *options;
    let target = out.join(experiment.path.file_stem().unwrap_or_default());
    let staging = Staging::new(&target, &|| progress.waiting(&target))?;
    let mut reused = Reused::default();
    let mut tables = RunTables::default();
    let measured = measuring::measure(experiment, &staging, options, &mut reused)?;
    let measuring = clock.elapsed();
    let cells = asking::derive(experiment, measured, (&mut tables, &staging), options, &mut reused)?;

    let mut manifest = Manifest {
        program: PROGRAM.to_string(),
        drawn_by: None,
        git_revision: git_revision(experiment.base()),
        file: experiment.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        title: experiment.title.clone(),
        about: experiment.about.clone(),
        seed: experiment.seed,
        overrides: experiment.overrides.iter().cloned().collect(),
        files: experiment.digests.iter().map(|(file, hash)| (file.to_string_lossy().into_owned(), hash.clone())).collect(),
        models: experiment.instances().map(|instance| instance.record(experiment.seed)).collect(),
        parameters: experiment.resolved.clone(),
        cells,
        tables: tables.records(),
        artifacts: Vec::new(),
    };
    let figures: Vec<&dyn Figure> = experiment.figures().collect();
    reused.figures = present(&mut manifest, Some(&figures), &tables.all(), &experiment.source, (cache, &staging), progress)?;
    staging.write("experiment.yaml", experiment.source.as_bytes())?;
    let manifest_text = manifest.to_json();
    staging.write("manifest.json", manifest_text.as_bytes())?;
    let about_this_run = json!({
        "started_unix_seconds": started,
        "wall_seconds": clock.elapsed().as_secs_f64(),
        "measuring_seconds": measuring.as_secs_f64(),
        "threads": rayon::current_num_threads(),
        "peak_memory_bytes": system_number("/proc/self/status", "VmHWM:"),
        "host": host(),
        "platform": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        "reused": reused,
    });
    staging.write("run.json", format!("{about_this_run:#}\n").as_bytes())?;
    experiment.check_unchanged(experiment.digests.keys())?;
    staging.publish()?;
    if let Some(cache) = cache {
        up_to_date::remember(experiment, &manifest_text, cache);
    }
    progress.finish();
    if reused.any() {
        progress.reused(&reused);
    }
    Ok(Finished { folder: target, manifest, reused })
}

/// The revision of the repository that a folder lies in, if it lies in one.
pub(super) fn git_revision(folder: &Path) -> Option<String> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let output = Command::new("git").arg("-C").arg(folder).args(["rev-parse", "HEAD"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

fn host() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Count, LoadOptions, Registries, load_str, redraw, testing};
    use crate::input::InputContext;
    use crate::input::{INPUTS, Recipe};
    use crate::kind::Kind;
    use crate::model::build::{BuildContext, MODELS, ModelKind};
    use crate::model::{ModelConfig, Transformer};
    use crate::stream::Stream;

    /// Two models of other vocabularies read an input, one that is made of it, and one made of that.
    const TEXT: &str = "\
title: Contrasts
seed: 5
models:
  small: { kind: random, layers: 1, heads: 1, d_model: 2, vocab: 50, context: 9 }
  large: { kind: random, layers: 1, heads: 1, d_model: 2, vocab: 900, context: 9 }
inputs:
  twice: { kind: corrupted, of: once, recipe: other_tokens }
  once: { kind: corrupted, of: clean, recipe: changed_position, position: 3 }
  clean: { kind: repeated_tokens, sequences: 2, period: 4, repeats: 2 }
cells:
  - measure: contrast
    input: clean
    against: twice
    reference: once
";

    #[test]
    fn measures_read_further_inputs_drawn_for_their_model() {
        let folder = tempfile::tempdir().unwrap();
        let registries =
            Registries { models: MODELS, inputs: INPUTS, measures: testing::registries().measures, ..Registries::standard() };
        let options = LoadOptions { registries, memory_limit: None, colour: false };
        let experiment = load_str(TEXT, &folder.path().join("x.yaml"), &[], &options).unwrap();
        let Finished { folder: results, manifest, .. } = run(&experiment, folder.path(), &RunOptions::default()).unwrap();
        let record = serde_json::to_value(&manifest.cells[0]).unwrap();
        assert_eq!(record["input"], "clean");
        assert_eq!(record["other_inputs"], json!({ "against": "twice", "reference": "once" }));
        let report = std::fs::read_to_string(results.join("report.html")).unwrap();
        assert!(report.contains("contrast of small, large on clean, against: twice, reference: once"), "{report}");

        let table = std::fs::read_to_string(results.join("tables/contrast.csv")).unwrap();
        let mut expected = String::from("model,replicate,position,against,reference\n");
        for (model, d_vocab) in [("large", 900), ("small", 50)] {
            let stream = |name: &str| Stream::new(5).child("inputs").child(name);
            let context = InputContext { base: Path::new(""), stream: stream("clean"), d_vocab, original: None };
            let clean = experiment.inputs["clean"].builder.build(&context).unwrap();
            let once = Recipe::ChangedPosition { position: Some(3) }.apply(&clean, d_vocab, &stream("once")).unwrap();
            let twice = Recipe::OtherTokens.apply(&once, d_vocab, &stream("twice")).unwrap();
            for (position, (against, reference)) in twice.tokens().row(0).iter().zip(once.tokens().row(0)).enumerate() {
                expected += &format!("{model},1,{position},{against},{reference}\n");
            }
        }
        assert_eq!(table, expected);
    }

    #[test]
    fn figures_of_other_crates_are_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{TEXT}  - {{ figure: dots, of: contrast, title: Positions, x: position }}\n");
        let registries = Registries { models: MODELS, inputs: INPUTS, ..testing::registries() };
        let options = LoadOptions { registries, memory_limit: None, colour: false };
        let experiment = load_str(&text, &folder.path().join("x.yaml"), &[], &options).unwrap();
        let cache = Cache::new(folder.path().join("cache"), 1 << 30);
        let options = RunOptions { cache: Some(&cache), ..RunOptions::default() };
        for reused in [0, 1] {
            let finished = run(&experiment, folder.path(), &options).unwrap();
            let drawn = |name: &str| std::fs::read_to_string(finished.folder.join(name)).unwrap();
            assert_eq!(drawn("figures/01-contrast.svg"), "<svg width=\"9\"><title>Positions: position by 18</title></svg>");
            assert_eq!(drawn("figures/01-contrast.png"), "dots");
            assert_eq!(finished.reused.figures, Count { reused, all: 1 });
        }
        // Drawing again knows the kinds of this crate only.
        let error = redraw(&folder.path().join("x"), &Silent).unwrap_err().to_string();
        assert!(error.contains("figure 1 (contrast) cannot be drawn: there is no figure `dots`"), "{error}");
    }

    /// A model that is read from a file, which is another one when it has been read.
    #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Restless {
        /// Holds the seed.
        file: PathBuf,
        /// What the file holds afterwards, where that is something else.
        #[serde(default)]
        then: Option<String>,
    }

    impl crate::kind::Described for Restless {
        const NAME: &'static str = "restless";
        const EXAMPLE: &'static str = "m: { kind: restless, file: seed }\n";
    }

    impl ModelKind for Restless {
        fn config(&self, _: &Path) -> Result<ModelConfig> {
            random().config(Path::new(""))
        }

        fn build(&self, context: &BuildContext) -> Result<Transformer> {
            let file = context.base.join(&self.file);
            let seed = std::fs::read_to_string(&file).unwrap().parse().unwrap();
            self.then.iter().for_each(|text| std::fs::write(&file, text).unwrap());
            random().build(&BuildContext { base: context.base, stream: Stream::new(seed) })
        }

        fn files(&self) -> Vec<PathBuf> {
            vec![self.file.clone()]
        }

        fn is_random(&self) -> bool {
            false
        }
    }

    fn random() -> Box<dyn ModelKind> {
        let kind = Kind::find(MODELS, "random").unwrap();
        (kind.parse)(json!({ "layers": 2, "heads": 2, "d_model": 4, "vocab": 9, "context": 5 })).unwrap()
    }

    /// What is read must be what the key says, whenever a file changes.
    #[test]
    fn a_file_that_changes_during_a_run_stops_it_and_poisons_nothing() {
        const KINDS: &[Kind<dyn ModelKind>] = &[crate::kind!(dyn ModelKind, Restless)];
        let folder = tempfile::tempdir().unwrap();
        let (file, out) = (folder.path().join("seed"), folder.path().join("out"));
        let cache = Cache::new(folder.path().join("cache"), 1 << 30);
        let options = RunOptions { cache: Some(&cache), ..RunOptions::default() };
        let load = |then: &str| {
            let text =
                format!("title: X\nmodels:\n  m: {{ kind: restless, file: seed{then} }}\ncells:\n  - measure: composition\n");
            let registries = Registries { models: KINDS, ..Registries::standard() };
            let options = LoadOptions { registries, memory_limit: None, colour: false };
            load_str(&text, &folder.path().join("x.yaml"), &[], &options).unwrap()
        };
        let table = |finished: &Finished| std::fs::read_to_string(finished.folder.join("tables/composition.csv")).unwrap();

        std::fs::write(&file, "1").unwrap();
        let first = table(&run(&load(""), &out, &RunOptions::default()).unwrap());
        // While it is read.
        let error = run(&load(", then: '2'"), &out, &options).unwrap_err().to_string();
        assert!(error.contains("seed: has changed while the run was reading it"), "{error}");
        // Between loading and running.
        std::fs::write(&file, "1").unwrap();
        let loaded = load("");
        std::fs::write(&file, "2").unwrap();
        let error = run(&loaded, &out, &options).unwrap_err().to_string();
        assert!(error.contains("has changed"), "{error}");

        std::fs::write(&file, "1").unwrap();
        let again = run(&load(""), &out, &options).unwrap();
        assert!(!again.reused.any() && table(&again) == first);
        std::fs::write(&file, "2").unwrap();
        let other = run(&load(""), &out, &options).unwrap();
        assert!(!other.reused.any() && table(&other) != first);
        std::fs::write(&file, "1").unwrap();
        let back = run(&load(""), &out, &options).unwrap();
        assert!(back.reused.any() && table(&back) == first);
    }
}
