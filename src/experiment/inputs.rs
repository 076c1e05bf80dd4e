//! `inputs:`: from checked trees to builders with their shapes, whatever the order in which one is made of another.

use super::Input;
use super::diagnostic::{Diagnostic, Span, list};
use super::load::Loader;
use super::models::{Entries, Named, locate, parameters, words};
use super::yaml::Node;
use crate::input::{InputKind, InputShape};
use crate::kind::Kind;
use serde_json::Value as Json;
use std::collections::{HashMap, HashSet};

/// An input whose shape is not known yet.
struct Unshaped<'n> {
    node: &'n Node,
    kind: &'n str,
    parameters: Json,
    builder: Box<dyn InputKind>,
}

impl Unshaped<'_> {
    /// Where it says what it is made of.
    fn of_span(&self) -> Span {
        ["of", "kind"].iter().find_map(|key| self.node.get(key)).unwrap_or(self.node).span
    }
}

impl Loader<'_> {
    /// Reads `inputs:`.
    pub fn inputs(&mut self, root: &Node) -> Entries<Input> {
        let unshaped = self.entries(root, "inputs", Self::unshaped);
        // `None` where something is wrong, so that what is made of it is not reported as well.
        let mut shapes: HashMap<&str, Option<InputShape>> = HashMap::new();
        for name in unshaped.keys() {
            for name in self.first_needed(name, &unshaped, &mut shapes).into_iter().rev() {
                let shape = unshaped[name].value.as_ref().and_then(|input| self.shape(name, input, &shapes));
                shapes.insert(name, shape);
            }
        }
        let shapes: Vec<_> = unshaped.keys().map(|name| shapes.get(name.as_str()).copied().flatten()).collect();
        let shaped = unshaped.into_iter().zip(shapes).map(|((name, named), shape)| {
            let value = named.value.zip(shape);
            let value = value.map(|(input, shape)| {
                let Unshaped { kind, parameters, builder, .. } = input;
                Input { kind: kind.to_string(), parameters, builder, shape }
            });
            (name, Named { span: named.span, value })
        });
        shaped.collect()
    }

    fn unshaped<'n>(&mut self, _: &str, node: &'n Node) -> Option<Unshaped<'n>> {
        let kind_name = node.get("kind")?.as_str()?;
        let kind = Kind::find(self.registries.inputs, kind_name)?;
        let parameters = parameters(node, &["kind"]);
        let builder = self.parse(kind, parameters.clone(), node)?;
        Some(Unshaped { node, kind: kind_name, parameters: parameters.into(), builder })
    }

    /// The input `name`, what it is made of, what that is made of, up to what has a shape already or needs nothing: each needs the
    /// shape of the next. Reports a name that is not there, and a circle, of which none will have a shape.
    fn first_needed<'u>(
        &mut self,
        name: &'u str,
        unshaped: &'u Entries<Unshaped>,
        shapes: &mut HashMap<&'u str, Option<InputShape>>,
    ) -> Vec<&'u str> {
        let mut chain = Vec::new();
        let mut seen = HashSet::new();
        let mut at = name;
        while !shapes.contains_key(at) {
            if !seen.insert(at) {
                let start = chain.iter().position(|&name| name == at).unwrap_or_default();
                self.report_circle(&chain[start..], unshaped);
                shapes.extend(chain[start..].iter().map(|&name| (name, None)));
                chain.truncate(start);
                break;
            }
            chain.push(at);
            let Some(input) = &unshaped[at].value else { break };
            let Some(of) = input.builder.of() else { break };
            let Some((of, _)) = unshaped.get_key_value(of) else {
                let problem = Diagnostic::new(input.of_span(), format!("there is no input `{of}`"));
                let others = unshaped.keys().map(String::as_str).filter(|&name| name != at);
                self.problems.push(problem.suggest(of, "the other inputs are", others));
                shapes.insert(at, None);
                chain.pop();
                break;
            };
            at = of;
        }
        chain
    }

    fn report_circle(&mut self, circle: &[&str], unshaped: &Entries<Unshaped>) {
        let mut places = circle.iter().filter_map(|&name| Some((name, unshaped[name].value.as_ref()?)));
        let Some((name, first)) = places.next() else { return };
        let message = match circle {
            [_] => format!("input `{name}` is made of itself"),
            several => format!("the inputs {} are made of one another, and so of nothing", list(several)),
        };
        let problem =
            Diagnostic::new(first.of_span(), message).help("in the end there has to be an input that is made of no other");
        let problem = places
            .fold(problem, |problem, (name, input)| problem.context(input.of_span(), format!("what `{name}` is made of")));
        self.problems.push(problem);
    }

    /// The shape of an input; `None` if it has none, or what it is made of has none.
    fn shape(&mut self, name: &str, input: &Unshaped, shapes: &HashMap<&str, Option<InputShape>>) -> Option<InputShape> {
        let original = match input.builder.of() {
            Some(of) => Some(shapes.get(of).copied().flatten()?),
            None => None,
        };
        let base = self.base;
        let shape = self.settled(input.builder.files(), || input.builder.shape(base, original.as_ref()));
        let report = |error| {
            let span = locate(&error, input.node, "kind", self.base);
            self.problems.push(Diagnostic::new(span, format!("input `{name}`: {}", words(&error))));
        };
        shape.map_err(report).ok()
    }
}

#[cfg(test)]
mod tests {
    use crate::experiment::testing::{load, problems};
    use std::fmt::Write;

    /// An experiment with these inputs, of which the cell reads one.
    fn text(inputs: &str, read: &str) -> String {
        format!(
            "title: Echoes\nmodels:\n  plain: {{ kind: toy, vocab: 5 }}\ninputs:\n{inputs}cells:\n  - measure: scores\n    input: {read}\n"
        )
    }

    #[test]
    fn an_input_may_stand_before_what_it_is_made_of() {
        let inputs = "  second: { kind: echo, of: first }\n  third: { kind: echo, of: second }\n  first: { kind: echo, of: ramp }\n  \
                      ramp: { kind: ramp, length: 7, largest: 4 }\n";
        let experiment = load(&text(inputs, "third"), &[]).unwrap();
        assert!(experiment.inputs.keys().eq(["second", "third", "first", "ramp"]));
        for (name, input) in &experiment.inputs {
            assert_eq!((input.shape.length, input.shape.min_vocab), (7, 5), "{name}");
        }
        let made_of: Vec<_> = experiment.made_of("third").map(|(name, _)| name).collect();
        assert_eq!(made_of, ["third", "second", "first", "ramp"]);
        // All four are held.
        let alone = load(&text("  ramp: { kind: ramp, length: 7, largest: 4 }\n", "ramp"), &[]).unwrap();
        assert_eq!(experiment.plan().cells[0].working_bytes - alone.plan().cells[0].working_bytes, 3 * 7 * 4);
    }

    #[test]
    fn long_chains_are_read() {
        let mut inputs = String::new();
        for i in 0..20_000 {
            writeln!(inputs, "  i{i}: {{ kind: echo, of: i{} }}", i + 1).unwrap();
        }
        inputs += "  i20000: { kind: ramp, length: 2 }\n";
        assert_eq!(load(&text(&inputs, "i0"), &[]).unwrap().made_of("i0").count(), 20_001);
    }

    #[test]
    fn what_is_made_of_nothing_is_said_once() {
        let inputs = "  far: { kind: echo, of: a }\n  a: { kind: echo, of: b }\n  b: { kind: echo, of: c }\n  c: { kind: echo, of: a }\n  \
                      self: { kind: echo, of: self }\n  slip: { kind: echo, of: rmp }\n  of_slip: { kind: echo, of: slip }\n  \
                      ramp: { kind: ramp, length: 2 }\n  bad: { kind: ramp, length: 13 }\n  of_bad: { kind: echo, of: bad }\n";
        insta::assert_snapshot!(problems(&text(inputs, "far"), &[]), @r"
        error: the inputs `a`, `b` and `c` are made of one another, and so of nothing
         --> x.yaml:6:24
          |
        6 |   a: { kind: echo, of: b }
          |                        ^
        7 |   b: { kind: echo, of: c }
          |                        - what `b` is made of
        8 |   c: { kind: echo, of: a }
          |                        - what `c` is made of
          |
          = help: in the end there has to be an input that is made of no other

        error: input `self` is made of itself
         --> x.yaml:9:27
          |
        9 |   self: { kind: echo, of: self }
          |                           ^^^^
          |
          = help: in the end there has to be an input that is made of no other

        error: there is no input `rmp`
          --> x.yaml:10:27
           |
        10 |   slip: { kind: echo, of: rmp }
           |                           ^^^
           |
           = help: did you mean `ramp`?

        error: input `bad`: 13 is bad luck
          --> x.yaml:13:30
           |
        13 |   bad: { kind: ramp, length: 13 }
           |                              ^^
        ");
    }
}
