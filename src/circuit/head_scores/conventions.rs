//! The conventions of head scores, one entry each. Tables, schema, `list` and `describe` all come from here.

use crate::batch::Repeats;
use ndarray::ArrayView1;
use std::borrow::Cow;
use std::fmt;

/// The sources that a score looks for: the marks (i, j), destination and source, of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// So many positions back.
    Back(usize),
    /// Position 0.
    First,
    /// Earlier copies of the current token.
    Duplicate,
    /// Right after each earlier copy of the current token.
    Induction,
    /// One position less than a period back; nothing where the input does not repeat.
    Stripe,
}

impl Target {
    /// What an ideal head attends to. The stripe is where an induction head attends if the input repeats.
    pub(super) fn ideal(self) -> Self {
        if self == Self::Stripe { Self::Induction } else { self }
    }

    /// What such a head is called.
    fn head(self) -> Cow<'static, str> {
        match self {
            Self::Back(0) => "current-token head".into(),
            Self::Back(1) => "previous-token head".into(),
            Self::Back(offset) => format!("{offset}-back head").into(),
            Self::First => "first-token head".into(),
            Self::Duplicate => "duplicate-token head".into(),
            Self::Induction | Self::Stripe => "induction head".into(),
        }
    }

    fn definition(self) -> Cow<'static, str> {
        match self {
            Self::Back(0) => "j = i".into(),
            Self::Back(offset) => format!("j = i − {offset}, for every i ≥ {offset}").into(),
            Self::First => "j = 0, for every i ≥ 1".into(),
            Self::Duplicate => "j < i with the same token as i".into(),
            Self::Induction => "1 ≤ j ≤ i with token j − 1 the same as token i".into(),
            Self::Stripe => "j = i − (p − 1), for every i ≥ p − 1; p is the period of the input".into(),
        }
    }

    /// All marks of a sequence, destinations ascending.
    pub(super) fn marks(self, tokens: ArrayView1<u32>, repeats: Option<Repeats>) -> Vec<(usize, usize)> {
        let stripe = repeats.filter(|repeats| repeats.count > 1).map(|repeats| repeats.period - 1);
        let mut marks = Vec::new();
        for i in 0..tokens.len() {
            match self {
                Self::Back(offset) => marks.extend(i.checked_sub(offset).map(|j| (i, j))),
                Self::First => marks.extend((i > 0).then_some((i, 0))),
                Self::Duplicate => marks.extend((0..i).filter(|&j| tokens[j] == tokens[i]).map(|j| (i, j))),
                Self::Induction => marks.extend((1..=i).filter(|&j| tokens[j - 1] == tokens[i]).map(|j| (i, j))),
                Self::Stripe => marks.extend(stripe.and_then(|offset| i.checked_sub(offset)).map(|j| (i, j))),
            }
        }
        marks
    }
}

/// How attention to the marks becomes one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Average {
    /// Attention mass on the marks of a destination, mean over the destinations that have one.
    Mass,
    /// The same over the destinations in repeats 2.. alone, where the input repeats.
    MassInRepeats,
    /// Mean over all marks.
    Entry,
    /// TransformerLens' `mul`: `Σ A∘M / Σ A` over all entries.
    Mul,
    /// TransformerLens' `abs`: `1 − n · mean |A − M|`, rounded to 3 decimals.
    Abs,
}

impl Average {
    fn formula(self) -> &'static str {
        match self {
            Self::Mass => "Σ_j A[i, j] over the marks of a destination i, mean over the destinations that have a mark",
            Self::MassInRepeats => {
                "Σ_j A[i, j] over the marks of a destination i, mean over the destinations that have a mark and lie in the second \
                 or a later repeat (anywhere, if the input is not known to repeat)"
            }
            Self::Entry => "mean of A[i, j] over all marks, so that a destination with many of them counts as often",
            Self::Mul => {
                "Σ A∘M / Σ A over all entries of one sequence, M being 1 on the marks and 0 elsewhere; mean over sequences"
            }
            Self::Abs => {
                "1 − n · mean |A − M| over the n × n entries of one sequence, M being 1 on the marks and 0 elsewhere, rounded to 3 \
                 decimals; mean over sequences"
            }
        }
    }
}

/// One way to score a head: a name, and what it means. A [`Score`] is made of it.
///
/// ```
/// use attn_circuits::circuit::head_scores::{CONVENTIONS, Score};
/// let score = Score::from(&CONVENTIONS[0]);
/// assert_eq!((score.name(), score.source()), (CONVENTIONS[0].name, CONVENTIONS[0].source));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convention {
    /// Its name in tables.
    pub name: &'static str,
    /// What it says, in a sentence.
    pub summary: &'static str,
    /// Who uses it.
    pub source: &'static str,
    target: Target,
    average: Average,
    /// TransformerLens' `exclude_bos` and `exclude_current_token`: column 0 and the diagonal count as 0.
    exclude: bool,
}

/// The conventions, in the order of their names. [`OFFSET`] is one more, with a parameter.
///
/// ```
/// use attn_circuits::circuit::head_scores::CONVENTIONS;
/// assert!(CONVENTIONS.is_sorted_by_key(|convention| convention.name));
/// // Three targets, two error measures, each with and without what TransformerLens can exclude.
/// assert_eq!(CONVENTIONS.iter().filter(|convention| convention.name.starts_with("tl_")).count(), 12);
/// ```
pub static CONVENTIONS: [Convention; 20] = [
    Convention {
        name: "current_token",
        summary: "How much a head attends to the position it stands at.",
        source: "ARENA's exercises (`current_attn_detector`).",
        ..mass(Target::Back(0))
    },
    Convention {
        name: "duplicate_token",
        summary: "How much a head attends to earlier copies of the current token.",
        source: "Wang et al. 2022 (duplicate-token heads, by their attention).",
        ..mass(Target::Duplicate)
    },
    Convention {
        name: "first_token",
        summary: "How much a head attends to position 0, where heads rest that have nothing to attend to.",
        source: "ARENA's exercises (`first_attn_detector`, which counts position 0 as a destination, too).",
        ..mass(Target::First)
    },
    Convention {
        name: "induction_entry",
        summary: "The mean entry of the pattern right after an earlier copy of the current token, every copy by itself.",
        source: "Olsson et al. 2022, head activation evaluators, taken by the letter: an average of pattern entries.",
        average: Average::Entry,
        ..mass(Target::Induction)
    },
    Convention {
        name: "induction_stripe",
        summary: "The mean of the whole diagonal on which an induction head attends where the input repeats.",
        source: "TransformerLens' Main Demo and ARENA's exercises (`induction_attn_detector`): `pattern.diagonal(1 − period).mean()`.",
        ..mass(Target::Stripe)
    },
    Convention {
        name: "induction_stripe_repeats",
        summary: "The mean of that diagonal in the second and later repeats, where an induction head has something to find.",
        source: "The same without the destinations that have no earlier copy.",
        average: Average::MassInRepeats,
        ..mass(Target::Stripe)
    },
    Convention {
        name: "prefix_matching",
        summary: "How much a head attends to positions right after an earlier copy of the current token.",
        source: "Olsson et al. 2022 (prefix matching), as attention mass: the copies share it.",
        average: Average::MassInRepeats,
        ..mass(Target::Induction)
    },
    Convention {
        name: "previous_token",
        summary: "How much a head attends to the position before.",
        source: "Olsson et al. 2022; ARENA's exercises (`prev_attn_detector`).",
        ..mass(Target::Back(1))
    },
    detector("tl_duplicate_token_abs", Target::Duplicate, Average::Abs, false),
    detector("tl_duplicate_token_abs_excl", Target::Duplicate, Average::Abs, true),
    detector("tl_duplicate_token_mul", Target::Duplicate, Average::Mul, false),
    detector("tl_duplicate_token_mul_excl", Target::Duplicate, Average::Mul, true),
    detector("tl_induction_abs", Target::Induction, Average::Abs, false),
    detector("tl_induction_abs_excl", Target::Induction, Average::Abs, true),
    detector("tl_induction_mul", Target::Induction, Average::Mul, false),
    detector("tl_induction_mul_excl", Target::Induction, Average::Mul, true),
    detector("tl_previous_token_abs", Target::Back(1), Average::Abs, false),
    detector("tl_previous_token_abs_excl", Target::Back(1), Average::Abs, true),
    detector("tl_previous_token_mul", Target::Back(1), Average::Mul, false),
    detector("tl_previous_token_mul_excl", Target::Back(1), Average::Mul, true),
];

/// `offset_2`, `offset_3`, …: so many positions back. A score of it is made by [`Score::offset`].
///
/// ```
/// use attn_circuits::circuit::head_scores::{CONVENTIONS, OFFSET, Score};
/// assert!(!CONVENTIONS.contains(&OFFSET));
/// assert_eq!((OFFSET.name, Score::offset(3).name()), ("offset_N", "offset_3"));
/// assert_eq!(Score::offset(3).summary(), OFFSET.summary);
/// ```
pub static OFFSET: Convention = Convention {
    name: "offset_N",
    summary: "How much a head attends to the position N before: `offset_2`, `offset_3`, … as asked by `offsets: [2, 3]`.",
    source: "n-back heads; the offset score of a virtual head tells a shift by two that two previous-token heads make.",
    ..mass(Target::Back(2))
};

const fn mass(target: Target) -> Convention {
    Convention { name: "", summary: "", source: "", target, average: Average::Mass, exclude: false }
}

/// One of TransformerLens' detectors.
const fn detector(name: &'static str, target: Target, average: Average, exclude: bool) -> Convention {
    let summary = match (average, exclude) {
        (Average::Mul, false) => "The share of all attention of a pattern that lies on the marks.",
        (Average::Mul, true) => {
            "The share that lies on the marks, of all attention neither to position 0 nor to the own position."
        }
        (_, false) => "How near a pattern is to the ideal one, entry by entry.",
        (_, true) => "How near it is, entry by entry, position 0 and the own position left out.",
    };
    let source = match (average, exclude) {
        (Average::Mul, false) => "TransformerLens' `detect_head`, `error_measure=\"mul\"`.",
        (Average::Mul, true) => {
            "TransformerLens' `detect_head`, `error_measure=\"mul\"`, `exclude_bos=True`, `exclude_current_token=True`."
        }
        (_, false) => "TransformerLens' `detect_head`, `error_measure=\"abs\"`.",
        (_, true) => {
            "TransformerLens' `detect_head`, `error_measure=\"abs\"`, `exclude_bos=True`, `exclude_current_token=True`."
        }
    };
    Convention { name, summary, source, target, average, exclude }
}

/// A score that can be taken: a convention, with its parameter if it has one.
///
/// ```
/// use attn_circuits::circuit::head_scores::Score;
/// assert!(Score::find("induction_stripe").is_some_and(|score| score.name() == "induction_stripe"));
/// assert_eq!(Score::find("offset_2"), Some(Score::offset(2)));
/// assert_eq!(Score::find("offset_02"), None);
/// // What it is, who uses it, what its ideal head is called.
/// let score = Score::find("prefix_matching").expect("a score of this crate");
/// assert!(score.summary().contains("right after an earlier copy") && score.source().starts_with("Olsson et al. 2022"));
/// assert_eq!((score.head().as_ref(), Score::offset(2).head().as_ref()), ("induction head", "2-back head"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    name: Cow<'static, str>,
    convention: &'static Convention,
    pub(super) target: Target,
}

impl From<&'static Convention> for Score {
    fn from(convention: &'static Convention) -> Self {
        Self { name: convention.name.into(), convention, target: convention.target }
    }
}

impl Score {
    /// Every score without a parameter, in the order of their names.
    ///
    /// ```
    /// use attn_circuits::circuit::head_scores::{CONVENTIONS, Score};
    /// assert!(Score::all().iter().map(Score::name).eq(CONVENTIONS.iter().map(|convention| convention.name)));
    /// ```
    pub fn all() -> Vec<Self> {
        CONVENTIONS.iter().map(Self::from).collect()
    }

    /// `offset_N`: attention to the position `offset` before.
    ///
    /// ```
    /// use attn_circuits::circuit::head_scores::{Score, ideal_scores};
    /// # use attn_circuits::prelude::*;
    /// // With an offset of 1 it is the previous-token score under another name: same marks, same number.
    /// let previous = Score::find("previous_token").expect("a score of this crate");
    /// let batch = TokenBatch::new(array![[3, 1, 2, 1]], None)?;
    /// let found = ideal_scores(&previous, &batch, &[Score::offset(1), Score::offset(2), previous.clone()]);
    /// assert_eq!([0, 1, 2].map(|index| found[index].ceiling), [Some(1.0), Some(0.0), Some(1.0)]);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn offset(offset: usize) -> Self {
        Self { name: format!("offset_{offset}").into(), convention: &OFFSET, target: Target::Back(offset) }
    }

    /// The score called `name`: one of [`CONVENTIONS`], or `offset_N` for a number N.
    pub fn find(name: &str) -> Option<Self> {
        let offset = || Some(Self::offset(name.strip_prefix("offset_")?.parse().ok()?)).filter(|score| score.name == name);
        CONVENTIONS.iter().find(|convention| convention.name == name).map(Self::from).or_else(offset)
    }

    /// Its name in tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is, in a sentence.
    pub fn summary(&self) -> &'static str {
        self.convention.summary
    }

    /// Who uses it.
    pub fn source(&self) -> &'static str {
        self.convention.source
    }

    /// What its ideal head is called: "induction head".
    pub fn head(&self) -> Cow<'static, str> {
        self.target.head()
    }

    /// Its definition: the marks (i, j) of a sequence, and the number made of them.
    pub fn formula(&self) -> Formula {
        Formula { target: self.target, average: self.convention.average, exclude: self.convention.exclude }
    }

    /// The pairs (destination, source) of a sequence `[n]` that the score looks for, destinations ascending.
    ///
    /// ```
    /// use attn_circuits::circuit::head_scores::Score;
    /// use ndarray::array;
    /// let marks = |name| Score::find(name).map(|score| score.marks(array![0, 5, 7, 5, 7].view(), None));
    /// // 5 stands at 1 and 3, 7 at 2 and 4.
    /// assert_eq!(marks("duplicate_token"), Some(vec![(3, 1), (4, 2)]));
    /// assert_eq!(marks("prefix_matching"), Some(vec![(3, 2), (4, 3)]));
    /// // The stripe hangs on the period of the input, and none is known here.
    /// assert_eq!(marks("induction_stripe"), Some(vec![]));
    /// ```
    pub fn marks(&self, tokens: ArrayView1<u32>, repeats: Option<Repeats>) -> Vec<(usize, usize)> {
        self.target.marks(tokens, repeats)
    }

    pub(super) fn average(&self) -> Average {
        self.convention.average
    }

    pub(super) fn excludes(&self) -> bool {
        self.convention.exclude
    }
}

/// The definition of a score, which prints in words; [`Score::formula`] gives it.
///
/// ```
/// use attn_circuits::circuit::head_scores::Score;
/// let text = Score::offset(2).formula().to_string();
/// assert!(text.starts_with("Marks (destination i, source j): j = i − 2, for every i ≥ 2."));
/// assert!(text.contains("Score of a pattern A: Σ_j A[i, j] over the marks of a destination i"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formula {
    target: Target,
    average: Average,
    exclude: bool,
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { target, average, exclude } = self;
        writeln!(f, "Marks (destination i, source j): {}.", target.definition())?;
        write!(f, "Score of a pattern A: {}.", average.formula())?;
        match (exclude, average) {
            (false, _) => Ok(()),
            (true, Average::Abs) => write!(f, " Column 0 and the diagonal of |A − M| are set to 0 first."),
            (true, _) => write!(f, " Column 0 and the diagonal of A are set to 0 first."),
        }
    }
}
