use super::*;
use crate::notebook::Claim;

const MODEL: &str = "{ kind: random, layers: 1, heads: 2, d_model: 4, vocab: 9, context: 7 }";
const INPUT: &str = "{ kind: repeated_tokens, sequences: 2, period: 3, repeats: 2 }";

fn notebook() -> Notebook {
    let mut notebook = Notebook::new("Does it: work?").unwrap();
    notebook.model("small", MODEL).unwrap();
    notebook.input("repeated", INPUT).unwrap();
    notebook
}

/// How many cells there are.
fn cells(notebook: &Notebook) -> usize {
    let file: serde_json::Value = serde_yaml::from_str(&notebook.yaml()).unwrap();
    file["cells"].as_array().unwrap().len()
}

#[test]
fn cells_give_what_they_make_and_what_is_saved_runs() {
    let mut notebook = notebook();
    let scores = notebook.cell("measure: head_scores\nscores: [previous_token]").unwrap().table().unwrap();
    assert_eq!(scores.height(), 2);
    let best = notebook.cell("- query: SELECT MAX(value) AS best FROM head_scores\n  name: best").unwrap();
    assert!(matches!(best, Shown::Table(table) if table.height() == 1));
    let figure = "
        figure: bar
        of: head_scores
        title: Two heads
        x: head
        y: value";
    assert!(matches!(notebook.cell(figure).unwrap(), Shown::Figure { svg, .. } if svg.contains("Two heads")));
    let claim = notebook.cell("claim: None looks back.\ncheck: SELECT best < 0.9 FROM best").unwrap();
    assert!(matches!(claim, Shown::Claim(Claim { holds: true, .. })));
    assert!(matches!(notebook.cell("text: \"**Done.**\"").unwrap(), Shown::Text(_)));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.yaml");
    notebook.save(&path).unwrap();
    let experiment = experiment::load(&path, &[]).unwrap();
    let finished = experiment::run(&experiment, folder.path(), &RunOptions::default()).unwrap();
    let tables = |run: &Run| run.manifest.tables.clone();
    assert_eq!(tables(&Run::open(finished.folder).unwrap()), tables(&notebook.run().unwrap()));
    notebook.save(&path).unwrap();
    let saved = std::fs::read_to_string(&path).unwrap();
    for theirs in ["title: Mine\n".to_string(), saved.replace("None looks back", "One looks back"), format!("{saved}# More\n")]
    {
        std::fs::write(&path, &theirs).unwrap();
        assert!(notebook.save(&path).unwrap_err().to_string().contains("was not written by a notebook"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), theirs);
    }
}

#[test]
fn a_cell_that_is_run_again_replaces_the_first() {
    let mut notebook = notebook();
    for scores in ["previous_token", "prefix_matching", "previous_token"] {
        notebook.cell(&format!("measure: head_scores\nscores: [{scores}]")).unwrap();
        assert_eq!(cells(&notebook), 1);
    }
    notebook.cell("query: SELECT MAX(value) AS best FROM head_scores WHERE score = 'previous_token'\nname: best").unwrap();
    assert_eq!((cells(&notebook), notebook.select("SELECT * FROM best").unwrap().height()), (2, 1));
    let before = notebook.yaml();
    let error = notebook.model("small", "{ kind: bigram }").unwrap_err().to_string();
    assert!(error.contains("notebook.yaml:3"), "{error}");
    assert_eq!(notebook.yaml(), before);
}

#[test]
fn cells_can_be_taken_away_and_read_what_was_made_later() {
    let mut notebook = notebook();
    notebook.cell("measure: head_scores").unwrap();
    let query = |from: &str| format!("query: SELECT MAX(value) AS best FROM {from}\nname: best");
    notebook.cell(&query("head_scores")).unwrap();
    notebook.cell("measure: head_scores\nname: later").unwrap();
    notebook.cell(&query("later")).unwrap();
    let (later, best) = ("measure: head_scores\n    name: later", "query: SELECT MAX(value) AS best FROM later");
    assert!(notebook.yaml().find(later).unwrap() < notebook.yaml().find(best).unwrap());
    notebook.cell("claim: Something.\ncheck: SELECT best < 2 FROM best").unwrap();
    assert!(notebook.remove("best").is_err(), "the claim needs it");
    notebook.remove("Something.").unwrap();
    notebook.remove("best").unwrap();
    assert_eq!(notebook.remove("best").unwrap_err().to_string(), "there is no cell `best`");
    assert_eq!(cells(&notebook), 2);
}

#[test]
fn a_model_that_cells_cannot_be_run_on_is_refused() {
    let mut notebook = notebook();
    notebook.model("small", &MODEL.replace("layers: 1", "layers: 2")).unwrap();
    notebook.cell("measure: head_scores").unwrap();
    notebook.cell("query: SELECT * FROM head_scores WHERE layer = 1\nname: late").unwrap();
    notebook.cell("figure: bar\nof: late\ntitle: Late heads\nx: head\ny: value\ncolor: score").unwrap();
    let before = notebook.yaml();
    assert!(notebook.model("small", MODEL).is_err());
    assert_eq!(notebook.yaml(), before);
    assert!(notebook.run().is_ok());
}

#[test]
fn cells_are_read_as_yaml_is() {
    let mut notebook = notebook();
    for yaml in [
        "measure: head_scores\nscores:\n- previous_token\n- prefix_matching",
        "# Which heads?\n- measure: head_scores\n",
        "\r\nmeasure: head_scores\r\n",
    ] {
        notebook.cell(yaml).unwrap_or_else(|error| panic!("{yaml:?}: {error}"));
    }
    assert_eq!(cells(&notebook), 1);
    notebook.model("large", &MODEL.replace("vocab: 9", "vocab: 99")).unwrap();
    let tokens = notebook.input("given", "{ kind: tokens, tokens: [[0, 50]] }");
    assert!(tokens.unwrap_err().to_string().contains("needs an input"), "the cell has to name one of two");
}

#[test]
fn what_is_wrong_is_shown_where_it_is_and_changes_nothing() {
    let mut notebook = notebook();
    let before = notebook.yaml();
    let message = |result: Result<Shown>| result.unwrap_err().to_string();
    let error = message(notebook.cell("measure: head_score"));
    assert!(error.contains("head_score") && error.contains("did you mean `head_scores`?"), "{error}");
    assert!(message(notebook.cell("- text: a\n- text: b")).contains("several cells"));
    let error = message(notebook.cell("query: SELECT valeu FROM head_scores\nname: q"));
    assert!(error.contains("SELECT valeu"), "{error}");
    assert!(message(notebook.cell("")).contains("-->"));
    assert!(notebook.input("x", "{ kind: markov }").is_err() && notebook.model("two\nlines: 1", MODEL).is_err());
    assert_eq!(notebook.yaml(), before);
    assert!(Notebook::new("Empty").unwrap().input("x", INPUT).unwrap_err().to_string().contains("add a model first"));
}

#[test]
fn folders_of_processes_that_have_ended_go_and_others_stay() {
    let (living, ended) = (Notebook::new("Living").unwrap(), Notebook::new("Ended").unwrap());
    let folder = living.results.path().to_path_buf();
    // As a process leaves it that ends without dropping anything: the system takes the lock back, and the files stay.
    let left = ended.results.path().with_file_name(format!("{FOLDER}left"));
    std::fs::create_dir(&left).unwrap();
    std::fs::write(files::beside(&left, "lock"), "").unwrap();
    drop(ended);
    Notebook::new("Next").unwrap();
    assert!(folder.exists() && !left.exists() && !files::beside(&left, "lock").exists());
    drop(living);
    assert!(!folder.exists() && !files::beside(&folder, "lock").exists());
}
