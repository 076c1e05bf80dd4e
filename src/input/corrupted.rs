//! Corrupted copies of other inputs: what patching compares with.

use super::{InputContext, InputKind, InputShape, Recipe, TokenBatch};
use crate::kind::Described;
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::Path;

/// Another input of the experiment, spoilt by a recipe: as many sequences, as long, with other tokens.
///
/// `other_tokens`: every token behind the start token is drawn anew, independently and uniformly from the vocabulary without the
/// start token. Nothing that the original says is left.
///
/// `swapped_repeats`: every repeat but the last holds the period of another sequence, so that the last repeat is as it was, but what
/// it repeats is gone; single tokens may stand in the foreign period by chance. The sequences are put in a random circle, and each
/// takes the repeats of the next. Needs repeats, two at least, and two sequences.
///
/// `changed_position`: one token of each sequence is replaced by one that occurs nowhere in the sequence (by any other where all
/// occur).
///
/// What counts as start token: the tokens before the first period where the original is known to repeat; else the first token if
/// it is the same in all sequences. Every sequence has a random stream of its own: more sequences leave the first ones as they
/// are, but with `swapped_repeats`, whose circle is another for each number of sequences.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Corrupted {
    /// The name of the input that this one is made of; it may stand anywhere under `inputs:`, and may be corrupted itself.
    of: String,
    /// What is done to it.
    recipe: RecipeName,
    /// With `changed_position`: where, from 0. Default: for each sequence a random position in the first repeat, or anywhere behind
    /// the start token where the original is not known to repeat.
    #[serde(default)]
    position: Option<usize>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum RecipeName {
    OtherTokens,
    SwappedRepeats,
    ChangedPosition,
}

impl Described for Corrupted {
    const NAME: &'static str = "corrupted";
    const EXAMPLE: &'static str = "\
repeated: { kind: repeated_tokens, sequences: 64, period: 20, repeats: 3 }
swapped: { kind: corrupted, of: repeated, recipe: swapped_repeats }
";
}

impl Corrupted {
    fn recipe(&self) -> Result<Recipe> {
        match (self.recipe, self.position) {
            (RecipeName::ChangedPosition, position) => Ok(Recipe::ChangedPosition { position }),
            (_, Some(_)) => {
                Err(Error::parameter("position", "`position` has a meaning only with the recipe `changed_position`"))
            }
            (RecipeName::OtherTokens, None) => Ok(Recipe::OtherTokens),
            (RecipeName::SwappedRepeats, None) => Ok(Recipe::SwappedRepeats),
        }
    }

    fn original<T>(&self, original: Option<T>) -> Result<T> {
        original.ok_or_else(|| Error::parameter("of", format!("the input `{}` has to be there before this one", self.of)))
    }
}

impl InputKind for Corrupted {
    fn of(&self) -> Option<&str> {
        Some(&self.of)
    }

    fn shape(&self, _: &Path, original: Option<&InputShape>) -> Result<InputShape> {
        self.recipe()?.shape(self.original(original)?)
    }

    fn build(&self, context: &InputContext) -> Result<TokenBatch> {
        self.recipe()?.apply(self.original(context.original)?, context.d_vocab, &context.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Repeats;
    use serde_json::{Value, json};

    #[test]
    fn the_position_belongs_to_its_recipe() {
        let repeats = Some(Repeats { start: 1, period: 4, count: 2 });
        let original = InputShape { sequences: 2, length: 9, repeats, min_vocab: 9, max_vocab: None };
        let shape = |recipe: &str, position: Value| {
            let kind: Corrupted = serde_json::from_value(json!({ "of": "x", "recipe": recipe, "position": position })).unwrap();
            assert_eq!(kind.of(), Some("x"));
            kind.shape(Path::new("."), Some(&original)).map_err(|error| error.to_string())
        };
        for recipe in ["other_tokens", "swapped_repeats", "changed_position"] {
            assert_eq!(shape(recipe, Value::Null).unwrap().repeats, None);
            match shape(recipe, json!(3)) {
                Ok(_) => assert_eq!(recipe, "changed_position"),
                Err(error) => {
                    assert!(recipe != "changed_position" && error.starts_with("position: `position` has a meaning"), "{error}")
                }
            }
        }
    }
}
