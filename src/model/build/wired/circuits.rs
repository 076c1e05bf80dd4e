//! Circuits that come with the program, as texts in the wiring language.

use super::language::Circuit;
use crate::{Error, Result};
use minijinja::{Environment, context, syntax::SyntaxConfig};
use schemars::{Schema, SchemaGenerator, json_schema};
use std::ops::RangeInclusive;

/// A circuit that a file can name instead of spelling it out.
///
/// ```
/// use attn_circuits::model::build::wired::circuits::Preset;
/// let prefix = Preset::find("n-token-prefix").expect("a circuit of this crate");
/// assert!(prefix.description.starts_with("Induction on a prefix"));
/// let number = prefix.n.as_ref().expect("it counts tokens");
/// assert_eq!((number.counts, number.default), ("tokens of the prefix", 2));
/// assert!(number.range.contains(&3) && !number.range.contains(&0));
/// // Others have no number.
/// assert!(Preset::find("induction").is_some_and(|preset| preset.n.is_none()));
/// ```
#[derive(Clone, Debug)]
pub struct Preset {
    /// The name that the YAML file uses.
    pub name: &'static str,
    /// What the circuit does, in a sentence.
    pub description: &'static str,
    /// What the parameter `n` counts, for a circuit that has one.
    pub n: Option<Number>,
    /// `residual:` and `heads:`, as they could stand in the experiment file once `n` is filled in.
    template: &'static str,
}

/// The parameter `n` of a circuit; [`Preset`] has an example.
#[derive(Clone, Debug)]
pub struct Number {
    /// What is counted.
    pub counts: &'static str,
    /// The number without one.
    pub default: usize,
    /// Numbers that are possible.
    pub range: RangeInclusive<usize>,
}

/// The most that a text is repeated: `n` is a count of heads or words, and a slip of the pen must not fill the memory.
const MOST: usize = 1000;

/// All presets, sorted by name. [`crate::circuit::closed_forms`] says what measures should find in them.
///
/// ```
/// use attn_circuits::model::build::Wired;
/// use attn_circuits::model::build::wired::circuits::CIRCUITS;
/// use serde_json::json;
/// assert!(CIRCUITS.is_sorted_by_key(|preset| preset.name));
/// for preset in CIRCUITS {
///     let wired: Wired = serde_json::from_value(json!({ "circuit": preset.name, "vocab": 13, "context": 25 }))?;
///     // Every circuit has a head that says something.
///     assert!(wired.resolve()?.heads.iter().any(|head| head.to == "output"), "{}", preset.name);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub static CIRCUITS: &[Preset] = &[
    Preset {
        name: "copying",
        description: "Copying, `[b] … [a] → [b]`: one head that looks for a token which could come next, and says it again.",
        n: None,
        template: include_str!("circuits/copying.yaml"),
    },
    Preset {
        name: "duplicate-token",
        description: "A duplicate-token head: it attends to the earlier copies of the current token.",
        n: None,
        template: include_str!("circuits/duplicate-token.yaml"),
    },
    Preset {
        name: "induction",
        description: "Induction by K-composition: a previous-token head, and a head that finds the earlier copies of the current \
                      token and predicts what came after them.",
        n: None,
        template: include_str!("circuits/induction.yaml"),
    },
    Preset {
        name: "induction-with-rest",
        description: "Induction by K-composition, with a resting place: as long as nothing matches, the induction head attends \
                      to the start token and moves nothing.",
        n: None,
        template: include_str!("circuits/induction-with-rest.yaml"),
    },
    Preset {
        name: "n-back",
        description: "One head that attends `n` positions back, and says which token stood there.",
        n: Some(Number { counts: "positions that the head looks back", default: 2, range: 1..=MOST }),
        template: include_str!("circuits/n-back.yaml"),
    },
    Preset {
        name: "n-token-prefix",
        description: "Induction on a prefix of `n` tokens: heads at the offsets 1 to `n`, and a head that matches them all.",
        n: Some(Number { counts: "tokens of the prefix", default: 2, range: 1..=MOST }),
        template: include_str!("circuits/n-token-prefix.yaml"),
    },
    Preset {
        name: "pointer-arithmetic",
        description: "Induction by Q-composition: a duplicate-token head hands over where the current token stood before, and a \
                      second head looks one position further.",
        n: None,
        template: include_str!("circuits/pointer-arithmetic.yaml"),
    },
    Preset {
        name: "previous-of-previous",
        description: "A virtual head by V-composition: two previous-token heads in sequence say which token stood two positions \
                      before.",
        n: None,
        template: include_str!("circuits/previous-of-previous.yaml"),
    },
    Preset {
        name: "skip-trigram",
        description: "A skip-trigram, `keep … in → mind`: one head that looks from one token for another, which raises a third.",
        n: None,
        template: include_str!("circuits/skip-trigram.yaml"),
    },
    Preset {
        name: "skip-trigram-bug",
        description: "`keep … in → mind` and `keep … at → bay`, in one head (`n: 1`), which raises the crossed pairs too, or in \
                      two (`n: 2`), which do not.",
        n: Some(Number { counts: "heads", default: 1, range: 1..=2 }),
        template: include_str!("circuits/skip-trigram-bug.yaml"),
    },
    Preset {
        name: "tokenization",
        description: "`[ab] … [a] → [b]`: one head that spells a word with two tokens after it stood there as one. `n` words.",
        n: Some(Number { counts: "words", default: 2, range: 1..=MOST }),
        template: include_str!("circuits/tokenization.yaml"),
    },
];

impl Preset {
    /// The preset called `name`, if there is one; the names are those of [`CIRCUITS`].
    pub fn find(name: &str) -> Option<&'static Self> {
        CIRCUITS.iter().find(|preset| preset.name == name)
    }

    /// `residual:` and `heads:`, as they could stand in the experiment file. Without `n`, its default.
    ///
    /// ```
    /// use attn_circuits::model::build::wired::circuits::Preset;
    /// let back = Preset::find("n-back").expect("a circuit of this crate");
    /// assert!(back.text(Some(3))?.contains("query: { from: position, shift: -3 }"));
    /// assert_eq!(back.text(None)?, back.text(Some(2))?);
    /// assert!(back.text(Some(0)).is_err());
    /// let induction = Preset::find("induction").expect("a circuit of this crate");
    /// assert!(induction.text(Some(2)).is_err_and(|error| error.to_string().contains("has no `n`")));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] for the parameter `n`, if the circuit has none or not this one.
    pub fn text(&self, n: Option<usize>) -> Result<String> {
        let name = self.name;
        let n = match (&self.n, n) {
            (None, None) => 0,
            (None, Some(_)) => {
                let with = CIRCUITS.iter().filter(|preset| preset.n.is_some()).map(|preset| format!("`{}`", preset.name));
                let with = with.collect::<Vec<_>>().join(", ");
                let text = format!("the circuit `{name}` has no `n`: leave it out (those that have one: {with})");
                return Err(Error::parameter("n", text));
            }
            (Some(number), n) => {
                let n = n.unwrap_or(number.default);
                if !number.range.contains(&n) {
                    let (least, most, counts) = (number.range.start(), number.range.end(), number.counts);
                    let text =
                        format!("n, the number of {counts} of `{name}`, must lie between {least} and {most}, and is {n}");
                    return Err(Error::parameter("n", text));
                }
                n
            }
        };
        render(self.template, n).map_err(|error| Error::invalid(format!("circuit `{name}`: {error}")))
    }

    pub(super) fn parse(&self, n: Option<usize>) -> Result<Circuit> {
        serde_yaml::from_str(&self.text(n)?).map_err(|error| Error::invalid(format!("circuit `{}`: {error}", self.name)))
    }
}

fn render(template: &str, n: usize) -> Result<String, minijinja::Error> {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build()?;
    let mut templates = Environment::new();
    templates.set_syntax(syntax);
    templates.render_str(template, context! { n })
}

/// The schema of a parameter that holds the name of a preset, or null.
pub(super) fn name_schema(_: &mut SchemaGenerator) -> Schema {
    let names = CIRCUITS.iter().map(|preset| Some(preset.name)).chain([None]).collect::<Vec<_>>();
    json_schema!({ "type": ["string", "null"], "enum": names })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_parses() {
        for preset in CIRCUITS {
            for n in preset.n.as_ref().map_or(vec![None], |n| vec![None, Some(*n.range.start()), Some(*n.range.end())]) {
                let circuit = preset.parse(n).unwrap();
                assert!(!circuit.heads.is_empty() && !circuit.residual.is_empty(), "{}", preset.name);
            }
        }
        assert!(CIRCUITS.is_sorted_by_key(|preset| preset.name));
    }

    #[test]
    fn texts_are_as_if_written_by_hand() {
        for preset in CIRCUITS {
            let text = preset.text(None).unwrap();
            assert!(!text.contains(['%', '\t']) && !text.contains("\n\n") && text.ends_with('\n'), "{}:\n{text}", preset.name);
            assert!(text.lines().all(|line| line.trim_end() == line), "{}:\n{text}", preset.name);
        }
    }
}
