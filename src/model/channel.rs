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
    /// In the order of their names; [`Channel::name`] has an example.
    pub const ALL: [Self; 3] = [Self::K, Self::Q, Self::V];

    /// `k`, `q`, `v`: as files and tables spell it.
    ///
    /// ```
    /// use attn_circuits::model::Channel;
    /// assert_eq!(Channel::ALL.map(Channel::name), ["k", "q", "v"]);
    /// let channel: Channel = serde_json::from_str("\"q\"")?;
    /// assert_eq!(channel, Channel::Q);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
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
