//! The inputs that a measure cell reads.

use super::cells::Scope;
use super::diagnostic::{Diagnostic, Span, list};
use super::load::Loader;
use super::overrides::descend;
use super::yaml::Node;
use crate::input::InputShape;
use crate::measure::Measure;
use crate::model::ModelConfig;
use indexmap::IndexMap;
use std::collections::HashSet;

/// One input that a cell reads.
#[derive(Clone, Copy)]
pub struct Read<'s> {
    /// Where the cell names it.
    pub at: Span,
    /// Its name.
    pub name: &'s str,
    /// Its shape.
    pub shape: &'s InputShape,
}

/// All inputs that a cell reads.
#[derive(Default)]
pub struct Reads<'s> {
    /// The cell's `input:`.
    pub input: Option<Read<'s>>,
    /// Those that parameters of the measure name, by parameter.
    pub others: IndexMap<&'static str, Read<'s>>,
}

impl<'s> Reads<'s> {
    /// All.
    pub fn iter(&self) -> impl Iterator<Item = &Read<'s>> {
        self.input.iter().chain(self.others.values())
    }
}

impl Loader<'_> {
    /// What a measure cell reads; `None` if that is wrong, or wrong in itself.
    pub fn reads<'s>(&mut self, node: &Node, tag: &Node, measure: &dyn Measure, scope: &Scope<'s>) -> Option<Reads<'s>> {
        let input = self.main_input(node, tag, measure, scope);
        let mut others = Some(IndexMap::new());
        for other in measure.other_inputs() {
            let at = descend(node, other.parameter).unwrap_or(tag).span;
            let read = self.named_input(other.name, at, scope);
            let fits = read.zip(input.as_ref()).map(|(read, input)| {
                let same = input.as_ref().is_none_or(|input| self.check_same(&read, input, other.same_sequences));
                same.then_some(read)
            });
            others = others.zip(fits.flatten()).map(|(mut others, read)| {
                others.insert(other.parameter, read);
                others
            });
        }
        Some(Reads { input: input?, others: others? })
    }

    /// The cell's `input:`; `Some(None)` for a measure that reads none.
    fn main_input<'s>(
        &mut self,
        node: &Node,
        tag: &Node,
        measure: &dyn Measure,
        scope: &Scope<'s>,
    ) -> Option<Option<Read<'s>>> {
        let kind = tag.as_str()?;
        let named = node.entry("input");
        if !measure.needs_input() {
            let Some((key, _)) = named else { return Some(None) };
            let problem = Diagnostic::new(key.span, format!("`{kind}` reads no input: it looks at the weights only"));
            self.problems.push(problem.help("leave `input` out"));
            return None;
        }
        let names: Vec<&str> = scope.inputs.keys().map(String::as_str).collect();
        let (name, at) = match (named, names.as_slice()) {
            (Some((_, value)), _) => (value.as_str()?, value.span),
            (None, [only]) => (*only, tag.span),
            (None, _) if !scope.knows_inputs => return None,
            (None, []) => {
                let problem = Diagnostic::new(tag.span, format!("`{kind}` needs an input, and the file has none"));
                self.problems.push(problem.help("add one under `inputs:`"));
                return None;
            }
            (None, several) => {
                let problem = Diagnostic::new(tag.span, format!("`{kind}` needs an input, and the file has {}", several.len()));
                self.problems.push(problem.help(format!("name one with `input:`: {}", list(several))));
                return None;
            }
        };
        self.named_input(name, at, scope).map(Some)
    }

    /// The input that is called so at a place; `None` if there is none, or it has a problem of its own.
    fn named_input<'s>(&mut self, name: &str, at: Span, scope: &Scope<'s>) -> Option<Read<'s>> {
        match scope.inputs.get_key_value(name) {
            Some((name, input)) => input.value.as_ref().map(|input| Read { at, name, shape: &input.shape }),
            None if !scope.knows_inputs => None,
            None => {
                let problem = Diagnostic::new(at, format!("there is no input `{name}`"));
                self.problems.push(problem.suggest(name, "the inputs are", scope.inputs.keys().map(String::as_str)));
                None
            }
        }
    }

    /// Whether a further input has the length of the cell's, and the number of its sequences if they go in pairs.
    fn check_same(&mut self, other: &Read, input: &Read, same_sequences: bool) -> bool {
        let before = self.problems.len();
        let mut report = |found: String, wanted: String| {
            let message = format!("input `{}` has {found}, but the cell's `{}` has {wanted}", other.name, input.name);
            let help = format!("an input of kind `corrupted` with `of: {}` has its shape", input.name);
            self.problems.push(Diagnostic::new(other.at, message).help(help));
        };
        if other.shape.length != input.shape.length {
            report(format!("sequences of {} tokens", other.shape.length), format!("sequences of {}", input.shape.length));
        }
        if same_sequences && other.shape.sequences != input.shape.sequences {
            report(format!("{} sequences", other.shape.sequences), input.shape.sequences.to_string());
        }
        self.problems.len() == before
    }

    /// Whether a model can read an input at all.
    pub fn check_fit(&mut self, (model, config): (&str, &ModelConfig), input: &Read, said: &mut HashSet<String>) {
        let Read { at, name: input, shape } = *input;
        let mut report = |message: String, help: &str| {
            if said.insert(message.clone()) {
                self.problems.push(Diagnostic::new(at, message).help(help));
            }
        };
        if shape.length > config.n_ctx {
            let (length, context) = (shape.length, config.n_ctx);
            let message = format!("input `{input}` is {length} tokens long, but model `{model}` reads at most {context}");
            report(message, "make the input shorter or the model's context longer");
        }
        if shape.min_vocab > config.d_vocab {
            let (least, vocab) = (shape.min_vocab, config.d_vocab);
            let message = format!("input `{input}` needs a vocabulary of at least {least}, but model `{model}` has {vocab}");
            report(message, "use fewer different tokens or a larger vocabulary");
        }
        if let Some(most) = shape.max_vocab.filter(|&most| config.d_vocab > most) {
            let vocab = config.d_vocab;
            let message =
                format!("input `{input}` is made for a vocabulary of at most {most}, but model `{model}` has {vocab}");
            report(message, "give the model a smaller vocabulary, or this cell an input of another kind");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::experiment::testing::{load, problems};
    use crate::experiment::{Cell, Experiment};

    /// An experiment with one cell that reads `main` and what these lines name.
    fn experiment(lines: &str) -> String {
        format!(
            "title: Contrasts
models:
  plain: {{ kind: toy, vocab: 5 }}
inputs:
  main: {{ kind: ramp, length: 5, sequences: 3 }}
  same: {{ kind: ramp, length: 5, sequences: 3 }}
  more: {{ kind: ramp, length: 5, sequences: 4 }}
  short: {{ kind: ramp, length: 4, sequences: 2 }}
  words: {{ kind: ramp, length: 5, sequences: 3, largest: 9 }}
  echo: {{ kind: echo, of: same }}
cells:
  - measure: contrast
    input: main
{lines}"
        )
    }

    fn working(experiment: &Experiment) -> usize {
        experiment.plan().cells[0].working_bytes
    }

    #[test]
    fn further_inputs_are_kept_by_parameter_and_counted_once() {
        let experiment = |lines: &str| load(&experiment(lines), &[]).unwrap();
        let both = experiment("    against: same\n    reference: more\n");
        let Cell::Measure(cell) = &both.cells[0] else { panic!("not a measure") };
        let named: Vec<_> = cell.other_inputs.iter().map(|(parameter, name)| (parameter.as_str(), name.as_str())).collect();
        assert_eq!(named, [("against", "same"), ("reference", "more")]);
        let none = working(&experiment(""));
        assert_eq!(working(&both) - none, (3 + 4) * 5 * 4);
        // The input itself costs nothing more, and neither does what is held anyway.
        assert_eq!(working(&experiment("    against: main\n")), none);
        assert_eq!(working(&experiment("    against: echo\n    reference: same\n")) - none, 2 * 3 * 5 * 4);
    }

    #[test]
    fn further_inputs_fit_the_cells() {
        let text = |lines: &str| problems(&experiment(lines), &[]);
        insta::assert_snapshot!(text("    against: sme\n    reference: short\n"), @r"
        error: there is no input `sme`
          --> x.yaml:14:14
           |
        14 |     against: sme
           |              ^^^
           |
           = help: did you mean `same`?

        error: input `short` has sequences of 4 tokens, but the cell's `main` has sequences of 5
          --> x.yaml:15:16
           |
        15 |     reference: short
           |                ^^^^^
           |
           = help: an input of kind `corrupted` with `of: main` has its shape
        ");
        insta::assert_snapshot!(text("    against: short\n"), @r"
        error: input `short` has sequences of 4 tokens, but the cell's `main` has sequences of 5
          --> x.yaml:14:14
           |
        14 |     against: short
           |              ^^^^^
           |
           = help: an input of kind `corrupted` with `of: main` has its shape

        error: input `short` has 2 sequences, but the cell's `main` has 3
          --> x.yaml:14:14
           |
        14 |     against: short
           |              ^^^^^
           |
           = help: an input of kind `corrupted` with `of: main` has its shape
        ");
        insta::assert_snapshot!(text("    against: more\n    reference: words\n"), @r"
        error: input `more` has 4 sequences, but the cell's `main` has 3
          --> x.yaml:14:14
           |
        14 |     against: more
           |              ^^^^
           |
           = help: an input of kind `corrupted` with `of: main` has its shape
        ");
        insta::assert_snapshot!(text("    reference: words\n"), @r"
        error: input `words` needs a vocabulary of at least 10, but model `plain` has 5
          --> x.yaml:14:16
           |
        14 |     reference: words
           |                ^^^^^
           |
           = help: use fewer different tokens or a larger vocabulary
        ");
    }

    /// What is wrong with the main input does not hide what is wrong with the others.
    #[test]
    fn all_names_are_checked_at_once() {
        let text = experiment("    against: sme\n").replace("input: main", "input: mian");
        let problems = problems(&text, &[]);
        assert!(problems.contains("no input `mian`") && problems.contains("no input `sme`"), "{problems}");
    }
}
