//! Circuits that come with the program, as texts in the wiring language.

use super::language::Circuit;
use crate::{Error, Result};
use schemars::{Schema, SchemaGenerator, json_schema};

/// A circuit that a file can name instead of spelling it out.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// The name that the YAML file uses.
    pub name: &'static str,
    /// What the circuit does, in a sentence.
    pub description: &'static str,
    /// `residual:` and `heads:`, as they could stand in the experiment file.
    pub text: &'static str,
}

/// All presets.
pub static CIRCUITS: &[Preset] = &[
    Preset {
        name: "induction",
        description: "Induction by K-composition: a previous-token head, and a head that finds the earlier copies of the current \
                      token and predicts what came after them.",
        text: include_str!("circuits/induction.yaml"),
    },
    Preset {
        name: "pointer-arithmetic",
        description: "Induction by Q-composition: a duplicate-token head hands over where the current token stood before, and a \
                      second head looks one position further.",
        text: include_str!("circuits/pointer-arithmetic.yaml"),
    },
    Preset {
        name: "previous-of-previous",
        description: "A virtual head by V-composition: two previous-token heads in sequence say which token stood two positions \
                      before.",
        text: include_str!("circuits/previous-of-previous.yaml"),
    },
    Preset {
        name: "two-token-prefix",
        description: "Induction on a prefix of two tokens: two heads at offsets one and two, and a head that matches both.",
        text: include_str!("circuits/two-token-prefix.yaml"),
    },
];

impl Preset {
    /// The preset called `name`.
    pub fn find(name: &str) -> Option<&'static Self> {
        CIRCUITS.iter().find(|preset| preset.name == name)
    }

    pub(super) fn parse(&self) -> Result<Circuit> {
        serde_yaml::from_str(self.text).map_err(|error| Error::invalid(format!("circuit `{}`: {error}", self.name)))
    }
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
            let circuit = preset.parse().unwrap();
            assert!(!circuit.heads.is_empty() && !circuit.residual.is_empty(), "{}", preset.name);
        }
    }
}
