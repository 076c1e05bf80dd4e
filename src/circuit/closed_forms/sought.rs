//! Which position a wired head looks for, read off the names that it compares.

use crate::model::build::wired::{POSITION, TOKEN, Translation, WiredHead, Wiring};

/// The position that a head looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sought {
    /// So many positions before its own.
    Back(i64),
    /// So many positions after an earlier copy of its own token.
    AfterCopy(i64),
}

impl Sought {
    /// How many positions back, where a position can be there.
    pub fn back(self) -> Option<i64> {
        match self {
            Self::Back(offset) => Some(offset).filter(|&offset| offset >= 0),
            Self::AfterCopy(_) => None,
        }
    }

    /// How many positions after an earlier copy.
    pub fn after_copy(self) -> Option<i64> {
        match self {
            Self::AfterCopy(offset) => Some(offset),
            Self::Back(_) => None,
        }
    }
}

/// What stands in a subspace, at some position.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Content {
    /// The token so many positions before.
    Token(i64),
    /// The number of the position itself, and so much.
    Position(i64),
    /// The number of the position of an earlier copy of the token here, and so much.
    Copy(i64),
}

impl Content {
    /// As read with a shift. A shifted token is another one.
    fn shifted(self, shift: i64) -> Option<Self> {
        match self {
            Self::Token(_) => (shift == 0).then_some(self),
            Self::Position(at) => Some(Self::Position(at.checked_add(shift)?)),
            Self::Copy(at) => Some(Self::Copy(at.checked_add(shift)?)),
        }
    }

    /// As it stands here after a head moved it from the position that it looks for.
    fn moved(self, sought: Sought) -> Option<Self> {
        match (self, sought) {
            (Self::Token(back), Sought::Back(offset)) => Some(Self::Token(back.checked_add(offset)?)),
            (Self::Position(at), Sought::Back(offset)) => Some(Self::Position(at.checked_sub(offset)?)),
            (Self::Position(at), Sought::AfterCopy(offset)) => Some(Self::Copy(at.checked_add(offset)?)),
            _ => None,
        }
    }

    /// Where a source stands whose key is `key`, for a destination whose query is this.
    fn sought(self, key: Self) -> Option<Sought> {
        Some(match (self, key) {
            (Self::Token(here), Self::Token(there)) => Sought::AfterCopy(there.checked_sub(here)?),
            (Self::Position(here), Self::Position(there)) => Sought::Back(there.checked_sub(here)?),
            (Self::Copy(here), Self::Position(there)) => Sought::AfterCopy(here.checked_sub(there)?),
            _ => return None,
        })
    }
}

/// What each head of a wiring looks for, in the order of the wiring; `None` where it is neither of what [`Sought`] names, or where
/// what it compares comes from several heads.
pub(super) fn sought(wiring: &Wiring) -> Vec<Option<Sought>> {
    // Heads may be listed in any order, so layer by layer.
    let mut found = vec![None; wiring.heads.len()];
    for layer in 0..wiring.n_layers {
        for (index, head) in wiring.heads.iter().enumerate().filter(|(_, head)| head.layer == layer) {
            found[index] = of_head(wiring, &found, head);
        }
    }
    found
}

fn of_head(wiring: &Wiring, earlier: &[Option<Sought>], head: &WiredHead) -> Option<Sought> {
    let (Translation::Shift(query), Translation::Shift(key)) = (&head.query.translation, &head.key.translation) else {
        return None;
    };
    let mut of_pairs = head.query.from.iter().zip(&head.key.from).map(|(here, there)| {
        let content = |subspace: &str, shift: i64| content(wiring, earlier, head.layer, subspace)?.shifted(shift);
        content(here, *query)?.sought(content(there, *key)?)
    });
    let first = of_pairs.next()??;
    (head.sharpness > 0.0 && of_pairs.all(|other| other == Some(first))).then_some(first)
}

/// What stands in a subspace when the heads of a layer read it.
fn content(wiring: &Wiring, earlier: &[Option<Sought>], layer: usize, subspace: &str) -> Option<Content> {
    let mut writers = wiring.heads.iter().zip(earlier).filter(|(writer, _)| writer.layer < layer && writer.to == subspace);
    match (subspace, writers.next(), writers.next()) {
        (TOKEN, None, _) => Some(Content::Token(0)),
        (POSITION, None, _) => Some(Content::Position(0)),
        (TOKEN | POSITION, _, _) => None,
        (_, Some((writer, Some(sought))), None) if writer.scale > 0.0 => {
            let Translation::Shift(shift) = writer.value.translation else { return None };
            let read = content(wiring, earlier, writer.layer, &writer.value.from[0])?;
            read.shifted(shift)?.moved(*sought)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::model::build::{MODELS, ModelKind};
    use serde_json::{Value, json};
    use std::path::Path;

    fn of(model: Value) -> Vec<Option<Sought>> {
        let kind = Kind::<dyn ModelKind>::find(MODELS, "wired").unwrap();
        let kind = (kind.parse)(model).unwrap();
        kind.config(Path::new("")).unwrap();
        sought(&kind.wiring().unwrap().unwrap())
    }

    #[test]
    fn circuits_look_where_their_names_say() {
        let back = |offset| Some(Sought::Back(offset));
        let after = |offset| Some(Sought::AfterCopy(offset));
        for (circuit, expected) in [
            ("copying", vec![None]),
            ("duplicate-token", vec![after(0)]),
            ("induction", vec![back(1), after(1)]),
            ("induction-with-rest", vec![back(1), after(1)]),
            ("n-back", vec![back(2)]),
            ("n-token-prefix", vec![back(1), back(2), after(1)]),
            ("pointer-arithmetic", vec![after(0), after(1)]),
            ("previous-of-previous", vec![back(1), back(1)]),
            ("skip-trigram", vec![None]),
        ] {
            assert_eq!(of(json!({ "circuit": circuit, "vocab": 9, "context": 7 })), expected, "{circuit}");
        }
        let blunt = of(json!({ "circuit": "induction", "vocab": 9, "context": 7, "sharpness": 0 }));
        assert_eq!(blunt, [None, None]);
    }

    #[test]
    fn what_two_heads_write_or_what_is_shifted_is_not_known() {
        let residual = json!({ "token": "vocab", "position": "context", "previous": "vocab", "output": "vocab" });
        let previous = json!({
            "layer": 0,
            "query": { "from": "position", "shift": -1 }, "key": { "from": "position" },
            "value": { "from": "token", "to": "previous" }, "sharpness": 20
        });
        let reader = |shift: i64| {
            json!({
                "layer": 1,
                "query": { "from": "token", "shift": shift }, "key": { "from": "previous" },
                "value": { "from": "token", "to": "output" }, "sharpness": 20
            })
        };
        let model = |heads: Value| of(json!({ "residual": residual, "heads": heads, "vocab": 9, "context": 7 }));
        let (back, after) = (Some(Sought::Back(1)), Some(Sought::AfterCopy(1)));
        // The order of the text does not matter.
        assert_eq!(model(json!([reader(0), previous])), [after, back]);
        assert_eq!(model(json!([previous, reader(1)])), [back, None]);
        assert_eq!(model(json!([previous, previous, reader(0)])), [back, back, None]);
        assert_eq!(model(json!([reader(0)])), [None]);
    }
}
