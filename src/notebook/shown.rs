//! What cells give.

use crate::experiment;
use crate::store::{CellRecord, ClaimRecord, Run};
use crate::{Error, Result};
use polars::prelude::DataFrame;

/// A claim, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The sentence (Markdown).
    pub statement: String,
    /// The query that checks it.
    pub check: String,
    /// Whether it holds.
    pub holds: bool,
    /// The numbers that were compared: column name and value, as the report writes it.
    pub numbers: Vec<(String, String)>,
}

impl From<ClaimRecord<'_>> for Claim {
    fn from(ClaimRecord { statement, check, holds, numbers }: ClaimRecord) -> Self {
        Self { statement: statement.into(), check: check.into(), holds, numbers: experiment::named(numbers) }
    }
}

/// What a cell gave ([`super::Notebook::cell`]).
#[derive(Clone, Debug)]
pub enum Shown {
    /// Prose (Markdown).
    Text(String),
    /// A measured or derived table.
    Table(DataFrame),
    /// A figure.
    Figure {
        /// Its title.
        title: String,
        /// A complete SVG document.
        svg: String,
    },
    /// A claim.
    Claim(Claim),
}

impl Shown {
    /// The table.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 17, context: 31 }")?;
    /// assert_eq!(notebook.cell("measure: composition")?.table()?.height(), 3);
    /// assert!(notebook.cell("text: Heads compose.")?.table().is_err());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if the cell gave something else.
    pub fn table(self) -> Result<DataFrame> {
        match self {
            Self::Table(table) => Ok(table),
            _ => Err(Error::invalid("this cell gives no table: that is what a `measure:` or a `query:` does")),
        }
    }
}

/// What the cell at `index` gave.
pub(super) fn shown(run: &Run, index: usize) -> Result<Shown> {
    let cells = &run.manifest.cells;
    let cell = cells.get(index).ok_or_else(|| Error::invalid("the cell is not among the results"))?;
    Ok(match cell {
        CellRecord::Text { markdown } => Shown::Text(markdown.clone()),
        CellRecord::Measure { table, .. } | CellRecord::Query { table, .. } => Shown::Table(run.table(table)?),
        CellRecord::Figure { title, .. } => {
            let number = cells[..=index].iter().filter(|cell| matches!(cell, CellRecord::Figure { .. })).count();
            Shown::Figure { title: title.clone(), svg: run.figure(number)? }
        }
        CellRecord::Claim { statement, check, holds, numbers } => {
            Shown::Claim(Claim::from(ClaimRecord { statement, check, holds: *holds, numbers }))
        }
    })
}
