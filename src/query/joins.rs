//! How many rows a query's joins yield: counted before they are made. What is unnested is not counted.

use polars::error::{PolarsResult, polars_bail};
use polars::prelude::{DataType, DslPlan, Expr, JoinArgs, JoinType, LazyFrame, col, len};
use std::sync::Arc;

/// Rows that a join may yield. The largest measured tables of usual experiments have some millions.
pub(super) const MOST_ROWS: usize = 1 << 24;

/// Refuses a plan with a join of more than [`MOST_ROWS`] rows: two tables of fifty thousand rows each are enough for a join without
/// a condition that no memory holds.
///
/// # Errors
/// A join is too large; or a part of the plan that has to be run to know it does not run.
pub(super) fn check(plan: &DslPlan) -> PolarsResult<()> {
    most_rows(plan).map(drop)
}

/// No more rows than these come out of a plan, as far as can be told without running it. Joins that could be too large are counted.
fn most_rows(plan: &DslPlan) -> PolarsResult<usize> {
    Ok(match plan {
        DslPlan::DataFrameScan { df, .. } => df.height(),
        DslPlan::Join { input_left, input_right, left_on, right_on, predicates, options } => {
            let sides = [Side::new(input_left, left_on)?, Side::new(input_right, right_on)?];
            joined(&sides, &options.args.how, !predicates.is_empty())?
        }
        DslPlan::Union { inputs, .. } => {
            inputs.iter().try_fold(0, |sum: usize, input| most_rows(input).map(|rows| sum.saturating_add(rows)))?
        }
        DslPlan::HConcat { inputs, .. } => {
            inputs.iter().try_fold(0, |most: usize, input| most_rows(input).map(|rows| most.max(rows)))?
        }
        DslPlan::IR { dsl: input, .. }
        | DslPlan::Cache { input, .. }
        | DslPlan::Distinct { input, .. }
        | DslPlan::Filter { input, .. }
        | DslPlan::GroupBy { input, .. }
        | DslPlan::HStack { input, .. }
        | DslPlan::Select { input, .. }
        | DslPlan::Slice { input, .. }
        | DslPlan::Sort { input, .. } => most_rows(input)?,
        // Unnesting, above all. A join of it is counted.
        _ => usize::MAX,
    })
}

/// One side of a join.
struct Side<'a> {
    plan: &'a Arc<DslPlan>,
    keys: &'a [Expr],
    most: usize,
}

impl<'a> Side<'a> {
    fn new(plan: &'a Arc<DslPlan>, keys: &'a [Expr]) -> PolarsResult<Self> {
        Ok(Self { plan, keys, most: most_rows(plan)? })
    }

    fn frame(&self) -> LazyFrame {
        LazyFrame::from(self.plan.as_ref().clone())
    }

    fn rows(&self) -> PolarsResult<usize> {
        single(self.frame().select([len()]))
    }

    /// Each combination of keys with the number of rows that have it.
    fn rows_by_key(&self, count: &str) -> LazyFrame {
        let keys = self.keys.iter().enumerate().map(|(index, key)| key.clone().alias(key_name(index)));
        self.frame().select(keys.collect::<Vec<_>>()).group_by(key_columns(self.keys.len())).agg([len().alias(count)])
    }
}

fn key_name(index: usize) -> String {
    format!("key {index}")
}

fn key_columns(count: usize) -> Vec<Expr> {
    (0..count).map(|index| col(key_name(index))).collect()
}

/// At most the rows that come out of a join. With other conditions than equality all pairs of rows are gone through, whatever
/// equalities stand beside them.
fn joined(sides: &[Side; 2], how: &JoinType, all_pairs: bool) -> PolarsResult<usize> {
    let [left, right] = sides;
    // Rows without a counterpart are kept on their side.
    let alone = match how {
        JoinType::Left => left.most,
        JoinType::Right => right.most,
        JoinType::Full => left.most.saturating_add(right.most),
        JoinType::Inner | JoinType::Cross => 0,
        // Semi and anti joins choose among the rows of one side.
        _ => return Ok(left.most),
    };
    let product = left.most.saturating_mul(right.most);
    if product <= MOST_ROWS {
        return Ok(product.saturating_add(alone));
    }
    let pairs = if left.keys.is_empty() {
        left.rows()?.saturating_mul(right.rows()?)
    } else {
        let args = JoinArgs::new(JoinType::Inner);
        let keys = || key_columns(left.keys.len());
        let counted = left.rows_by_key("left rows").join(right.rows_by_key("right rows"), keys(), keys(), args);
        let float = |name: &str| col(name).cast(DataType::Float64);
        single(counted.select([(float("left rows") * float("right rows")).sum()]))?
    };
    if pairs > MOST_ROWS && all_pairs {
        polars_bail!(
            ComputeError: "a join on more than equality would compare {pairs} pairs of rows, and at most {MOST_ROWS} are: join ON \
             equal columns, and put the other conditions into WHERE"
        );
    }
    if pairs > MOST_ROWS {
        polars_bail!(
            ComputeError: "a join would yield {pairs} rows, and at most {MOST_ROWS} are computed: join ON more columns, or choose \
             rows of its tables first, in a query of their own"
        );
    }
    Ok(pairs.saturating_add(alone))
}

/// The one number that a frame holds.
fn single(frame: LazyFrame) -> PolarsResult<usize> {
    let found = frame.collect()?;
    let number: f64 = found.columns()[0].get(0)?.extract().unwrap_or_default();
    Ok(number as usize)
}
