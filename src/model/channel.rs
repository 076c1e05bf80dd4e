use schemars::JsonSchema;
use serde::Deserialize;

/// One of the three inputs of a head, through which earlier heads can act on it.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Its keys; composition through them is `W_OV (W_QK)ᵀ`.
    K,
    /// Its queries; composition through them is `W_OV W_QK`.
    Q,
    /// Its values; composition through them is `W_OV W_OV`.
    V,
}

impl Channel {
    /// In the order of their names.
    pub const ALL: [Self; 3] = [Self::K, Self::Q, Self::V];

    /// `k`, `q`, `v`.
    pub fn name(self) -> &'static str {
        match self {
            Self::K => "k",
            Self::Q => "q",
            Self::V => "v",
        }
    }

    /// Its place where queries, keys and values of a layer stand side by side.
    pub(super) fn place(self) -> usize {
        match self {
            Self::Q => 0,
            Self::K => 1,
            Self::V => 2,
        }
    }
}
