//! `config.json` in TransformerLens' names.

use crate::model::build::checked;
use crate::model::{ModelConfig, Normalization, Positions};
use crate::names::shorten;
use crate::{Error, Result, files};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::path::Path;

/// Larger files are no configurations.
const LARGEST: u64 = 1 << 20;

/// Whether a value leaves the computation as this program does it.
type Harmless = fn(&Value) -> bool;

/// Settings of TransformerLens that change what a model computes, with the values under which they do not: a file with
/// any other value is refused.
const HARMLESS: &[(&str, Harmless)] = &[
    ("attention_dir", |value| value == "causal"),
    ("attn_only", |value| value == true),
    ("attn_scores_soft_cap", not_positive),
    ("final_rms", off),
    ("load_in_4bit", off),
    ("output_logits_soft_cap", not_positive),
    ("post_embedding_ln", off),
    ("rotary_base_local", off),
    ("scale_attn_by_inverse_layer_idx", off),
    ("use_NTK_by_parts_rope", off),
    ("use_local_attn", off),
    ("use_normalization_before_and_after", off),
    ("use_qk_norm", off),
    ("use_yarn_rope", off),
];

fn off(value: &Value) -> bool {
    value.is_null() || value == false
}

fn not_positive(value: &Value) -> bool {
    off(value) || value.as_f64().is_some_and(|cap| cap <= 0.0)
}

/// The settings of one file.
struct Settings<'a> {
    path: &'a Path,
    values: Map<String, Value>,
}

impl Settings<'_> {
    fn error(&self, message: impl Into<String>) -> Error {
        Error::file(self.path, message)
    }

    /// The value, if it is there and not null.
    fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let parsed = T::deserialize(value).map_err(|error| self.error(format!("`{name}`: {error}")))?;
                Ok(Some(parsed))
            }
        }
    }

    fn need<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        self.get(name)?.ok_or_else(|| self.error(format!("`{name}` is missing")))
    }

    fn refused(&self, name: &str, value: impl std::fmt::Display) -> Error {
        self.error(format!("`{name}` is {}, which this program cannot compute", shorten(&value.to_string())))
    }

    fn check_harmless(&self) -> Result<()> {
        for (name, harmless) in HARMLESS {
            if let Some(value) = self.values.get(*name)
                && !harmless(value)
            {
                return Err(self.refused(name, value));
            }
        }
        if !self.values.contains_key("attn_only") {
            return Err(
                self.error("`attn_only` is missing: only attention-only models can be imported, which say `true` there")
            );
        }
        // TransformerLens writes −1 where it takes the number from another setting.
        for (name, other) in [("d_vocab_out", "d_vocab"), ("n_key_value_heads", "n_heads")] {
            let value = self.get::<i64>(name)?;
            let expected = self.need::<i64>(other)?;
            if let Some(value) = value.filter(|&value| value != -1 && value != expected) {
                return Err(self.refused(name, format!("{value} and `{other}` {expected}")));
            }
        }
        Ok(())
    }

    fn normalization(&self) -> Result<Normalization> {
        match self.values.get("normalization_type") {
            None => Err(self.error("`normalization_type` is missing: null, \"LN\" or \"LNPre\"")),
            Some(Value::Null) => Ok(Normalization::None),
            Some(value) if value == "LN" => Ok(Normalization::Ln),
            Some(value) if value == "LNPre" => Ok(Normalization::LnPre),
            Some(other) => Err(self.refused("normalization_type", other)),
        }
    }

    fn positions(&self, d_head: usize) -> Result<Positions> {
        let scheme = self.get::<String>("positional_embedding_type")?;
        match scheme.as_deref().unwrap_or("standard") {
            "standard" => Ok(Positions::Standard),
            "shortformer" => Ok(Positions::Shortformer),
            "rotary" => {
                let dim = self.get("rotary_dim")?.unwrap_or(d_head);
                if dim == 0 {
                    return Ok(Positions::None);
                }
                Ok(Positions::Rotary {
                    dim,
                    base: self.get("rotary_base")?.unwrap_or(10_000.0),
                    adjacent_pairs: self.get("rotary_adjacent_pairs")?.unwrap_or(false),
                })
            }
            other => Err(self.refused("positional_embedding_type", format!("{other:?}"))),
        }
    }

    fn attn_scale(&self, d_head: usize) -> Result<f64> {
        if self.get("use_attn_scale")? == Some(false) {
            return Ok(1.0);
        }
        let root = (d_head as f64).sqrt();
        let given = self.get::<f64>("attn_scale")?.filter(|&scale| scale != -1.0);
        // A root that was rounded on its way through decimal digits is still the root.
        Ok(given.filter(|scale| (scale / root - 1.0).abs() > 1e-12).unwrap_or(root))
    }
}

/// Reads and checks the configuration.
///
/// # Errors
/// [`Error::Io`] and [`Error::File`]; a setting that this program cannot follow is named with its value.
pub(super) fn read(path: &Path) -> Result<ModelConfig> {
    let text = files::read_text(path, LARGEST, "a configuration")?;
    let values = serde_json::from_str(&text).map_err(|error| Error::file(path, format!("not a JSON object: {error}")))?;
    let settings = Settings { path, values };
    settings.check_harmless()?;
    let d_head = settings.need("d_head")?;
    let config = ModelConfig {
        n_layers: settings.need("n_layers")?,
        n_heads: settings.need("n_heads")?,
        d_model: settings.need("d_model")?,
        d_head,
        d_vocab: settings.need("d_vocab")?,
        n_ctx: settings.need("n_ctx")?,
        normalization: settings.normalization()?,
        eps: settings.get("eps")?.unwrap_or(1e-5),
        positions: settings.positions(d_head)?,
        attn_scale: settings.attn_scale(d_head)?,
    };
    checked(config).map_err(|error| settings.error(error.to_string()))
}
