//! polars SQL over the tables of a run, with the same answer every time.
//!
//! polars groups and joins in no particular order, and so the last digits of a mean over groups of an inner query differ from run to
//! run. Therefore every step of a plan keeps the order of its rows ([`execute`]). The rows of the answer are put in order by the
//! query's own ORDER BY and then by all its columns (where the engine can sort by them: not after an ORDER BY of a column that the
//! query hides). Last digits of sums depend on polars' number of threads; the program sets it to one (`POLARS_MAX_THREADS`), and so
//! should who needs equal bytes from the library.

mod joins;

use crate::Result;
use indexmap::IndexMap;
use polars::error::{PolarsError, PolarsResult};
use polars::prelude::{AnyValue, DataFrame, DslPlan, IntoLazy, JoinType, LazyFrame, SortMultipleOptions};
use polars::sql::SQLContext;
use polars_ops::frame::MaintainOrderJoin;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlparser::ast::{
    BinaryOperator, Expr, Ident, OrderBy, OrderByExpr, OrderByKind, Query, SelectItem, SetExpr, Statement, UnaryOperator,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::{Parser, ParserOptions};
use std::sync::Arc;

/// Tables by name, in the order in which the cells made them.
///
/// ```
/// use attn_circuits::query::{Tables, select};
/// use polars::prelude::df;
/// let ablated = df!("head" => ["0.0", "1.0"], "loss_change" => [2.5, 2.4])?;
/// let scores = df!("head" => ["0.0", "1.0"], "value" => [0.04, 0.98])?;
/// let tables = Tables::from([("ablation".to_string(), ablated), ("scores".to_string(), scores)]);
/// let both = "SELECT s.head, value, loss_change FROM scores AS s JOIN ablation AS a ON s.head = a.head WHERE value > 0.5";
/// assert_eq!(select(both, &tables)?, df!("head" => ["1.0"], "value" => [0.98], "loss_change" => [2.4])?);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
pub type Tables = IndexMap<String, DataFrame>;

/// What a claim's [`check`] found.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether the claim holds. A check that yields null, or not exactly one row, does not.
    pub holds: bool,
    /// The numbers that were compared, by name.
    pub numbers: Vec<(String, Value)>,
}

/// Whether a query can read a table: its name occurs, if only in a text or as a part of another name.
///
/// ```
/// use attn_circuits::query::may_read;
/// assert!(may_read("SELECT * FROM Head_Scores", "head_scores"));
/// assert!(!may_read("SELECT * FROM head_scores", "composition"));
/// ```
pub fn may_read(sql: &str, name: &str) -> bool {
    sql.to_ascii_lowercase().contains(&name.to_ascii_lowercase())
}

/// The data of a figure: the table called `of`, in its own order, or what the query `of` yields.
///
/// ```
/// use attn_circuits::query::{Tables, data};
/// use polars::prelude::df;
/// let losses = df!("model" => ["wired", "random"], "loss" => [0.1, 2.6])?;
/// let tables = Tables::from([("losses".to_string(), losses.clone())]);
/// assert_eq!(data("losses", &tables)?, losses);
/// // A query's answer has an order of its own.
/// assert_eq!(data("SELECT model FROM losses", &tables)?, df!("model" => ["random", "wired"])?);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// Those of [`select`].
pub fn data(of: &str, tables: &Tables) -> Result<DataFrame> {
    tables.get(of).map_or_else(|| select(of, tables), |table| Ok(table.clone()))
}

/// Runs a query over `tables`.
///
/// ```
/// use attn_circuits::query::{Tables, select};
/// use polars::prelude::df;
/// let scores = df!("head" => [1i64, 0, 1, 0], "value" => [0.5, 0.25, 0.5, 0.75])?;
/// let tables = Tables::from([("scores".to_string(), scores)]);
/// let means = select("SELECT head, AVG(value) AS mean FROM scores GROUP BY head", &tables)?;
/// assert_eq!(means, df!("head" => [0i64, 1], "mean" => [0.5, 0.5])?);
/// // What an ORDER BY leaves open, the columns of the answer decide: LIMIT takes the same rows every time.
/// let best = select("SELECT mean, head FROM means ORDER BY mean DESC LIMIT 1", &[("means".to_string(), means)].into())?;
/// assert_eq!(best, df!("mean" => [0.5], "head" => [0i64])?);
/// assert!(select("SELECT heda FROM scores", &tables).is_err());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Table`] if polars cannot parse, plan or run the query.
pub fn select(sql: &str, tables: &Tables) -> Result<DataFrame> {
    // Which columns it yields does not depend on the rows.
    let empty = tables.iter().map(|(name, table)| (name.clone(), table.clear())).collect();
    let columns: Vec<String> = execute(sql, &empty)?.get_column_names().iter().map(ToString::to_string).collect();
    let query = parse(sql);
    let has_order = query.as_ref().is_some_and(|query| query.order_by.is_some());
    // Sorting by a column that the query renamed or hid is not always possible; the answer then is sorted afterwards.
    if let Some(ordered) = query.and_then(|query| with_order(query, &columns))
        && let Ok(found) = execute(&ordered, tables)
    {
        return Ok(found);
    }
    let found = execute(sql, tables)?;
    if has_order {
        return Ok(found);
    }
    Ok(found.sort(columns, SortMultipleOptions::default().with_nulls_last(false).with_maintain_order(true))?)
}

/// Runs a claim's check: one row, whose column `decides` is the verdict. The others are the numbers shown with it; so are both
/// sides of every comparison that the deciding column makes.
///
/// ```
/// use attn_circuits::query::{Tables, check};
/// use polars::prelude::df;
/// let scores = df!("head" => [0i64, 1], "value" => [0.25, 0.75])?;
/// let tables = Tables::from([("scores".to_string(), scores)]);
/// let verdict = check("SELECT MAX(value) > 0.7 AS holds, COUNT(*) AS heads FROM scores", "holds", &tables)?;
/// assert!(verdict.holds);
/// let names: Vec<_> = verdict.numbers.iter().map(|(name, _)| name.to_lowercase()).collect();
/// assert_eq!(names, ["heads", "max(value)"]);
/// // Of no rows, or of several, nothing is claimed.
/// assert!(!check("SELECT value > 0 AS holds FROM scores", "holds", &tables)?.holds);
/// assert!(check("SELECT MAX(value) AS most FROM scores", "holds", &tables).is_err());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Table`] if polars cannot run the query, or there is no such column.
pub fn check(sql: &str, decides: &str, tables: &Tables) -> Result<Verdict> {
    let compared = parse(sql).and_then(with_compared).and_then(|sql| execute(&sql, tables).ok());
    let found = match compared {
        Some(found) => found,
        None => execute(sql, tables)?,
    };
    if found.height() != 1 {
        let numbers = vec![("rows".to_string(), Value::from(found.height()))];
        return Ok(Verdict { holds: false, numbers });
    }
    let holds = matches!(found.column(decides)?.get(0)?, AnyValue::Boolean(true));
    let mut numbers = Vec::new();
    for column in found.columns().iter().filter(|column| column.name() != decides) {
        numbers.push((column.name().to_string(), to_value(&column.get(0)?)));
    }
    Ok(Verdict { holds, numbers })
}

/// The engine recurses over a query: a sum of fifty terms is too much for the stack of an ordinary thread.
const STACK: usize = 256 << 20;

/// Runs a query as it is, on a thread that has stack enough.
///
/// ```
/// use attn_circuits::query::{Tables, execute};
/// use polars::prelude::df;
/// let losses = df!("model" => ["wired", "random", "wired"], "loss" => [0.1, 2.6, 0.3])?;
/// let tables = Tables::from([("losses".to_string(), losses)]);
/// // Groups in the order in which they begin; `select` would sort them.
/// let most = execute("SELECT model, MAX(loss) AS most FROM losses GROUP BY model", &tables)?;
/// assert_eq!(most, df!("model" => ["wired", "random"], "most" => [0.3, 2.6])?);
/// // Each row beside each of the others is too much of many.
/// let many = Tables::from([("many".to_string(), df!("n" => (0..10_000i64).collect::<Vec<_>>())?)]);
/// assert!(execute("SELECT COUNT(*) FROM many AS a CROSS JOIN many AS b", &many).is_err());
/// # Ok::<(), polars::error::PolarsError>(())
/// ```
///
/// # Errors
/// What polars says of a query that it cannot parse, plan or run; [`PolarsError::ComputeError`] if one of its joins would yield
/// more rows than anybody means (2²⁴), or polars panics.
pub fn execute(sql: &str, tables: &Tables) -> PolarsResult<DataFrame> {
    let run = || {
        let mut context = SQLContext::new();
        for (name, table) in tables {
            context.register(name, table.clone().lazy());
        }
        let plan = in_order(context.execute(sql)?.logical_plan);
        joins::check(&plan)?;
        // The optimiser forgets an order that nothing but a sum would notice.
        LazyFrame::from(plan).with_check_order(false).collect()
    };
    let failed = |message: &str| Err(PolarsError::ComputeError(message.to_string().into()));
    std::thread::scope(|scope| {
        match std::thread::Builder::new().name("sql".into()).stack_size(STACK).spawn_scoped(scope, run) {
            // The engine is young: what it panics on is the query's fault as far as the user is concerned.
            Ok(thread) => thread.join().unwrap_or_else(|_| failed("the SQL engine gave up on this query")),
            Err(error) => failed(&format!("no thread to run the query on: {error}")),
        }
    })
}

/// The plan with groups, joins, unions and distinct rows in the order of the rows that they are made of.
fn in_order(plan: DslPlan) -> DslPlan {
    use DslPlan::{Cache, Distinct, Filter, GroupBy, HConcat, HStack, IR, Join, MapFunction, Select, Slice, Sort, Union};
    let next = |input: Arc<DslPlan>| Arc::new(in_order(Arc::unwrap_or_clone(input)));
    let all = |inputs: Vec<DslPlan>| inputs.into_iter().map(in_order).collect();
    match plan {
        Cache { input, id } => Cache { input: next(input), id },
        Distinct { input, mut options } => {
            options.maintain_order = true;
            Distinct { input: next(input), options }
        }
        Filter { input, predicate } => Filter { input: next(input), predicate },
        GroupBy { input, keys, predicates, aggs, maintain_order: _, options, apply } => {
            GroupBy { input: next(input), keys, predicates, aggs, maintain_order: true, options, apply }
        }
        HConcat { inputs, options } => HConcat { inputs: all(inputs), options },
        HStack { input, exprs, options } => HStack { input: next(input), exprs, options },
        Join { input_left, input_right, left_on, right_on, predicates, options } => {
            let mut options = Arc::unwrap_or_clone(options);
            if matches!(options.args.how, JoinType::Inner | JoinType::Left | JoinType::Full) {
                options.args.maintain_order = MaintainOrderJoin::LeftRight;
            }
            let (input_left, input_right) = (next(input_left), next(input_right));
            Join { input_left, input_right, left_on, right_on, predicates, options: Arc::new(options) }
        }
        // What the engine has looked at before is kept in a wrapping.
        IR { dsl, .. } => in_order(Arc::unwrap_or_clone(dsl)),
        MapFunction { input, function } => MapFunction { input: next(input), function },
        Select { expr, input, options } => Select { expr, input: next(input), options },
        Slice { input, offset, len } => Slice { input: next(input), offset, len },
        Sort { input, by_column, slice, mut sort_options } => {
            sort_options.maintain_order = true;
            Sort { input: next(input), by_column, slice, sort_options }
        }
        Union { inputs, mut args } => {
            args.maintain_order = true;
            Union { inputs: all(inputs), args }
        }
        other => other,
    }
}

/// A table cell as a JSON value; numbers that JSON cannot hold are null.
///
/// ```
/// use attn_circuits::query::to_value;
/// use polars::prelude::AnyValue;
/// use serde_json::json;
/// let values = [AnyValue::Int64(3), AnyValue::Float64(0.5), AnyValue::String("0.1"), AnyValue::Boolean(true), AnyValue::Null];
/// assert_eq!(values.map(|value| to_value(&value)), [json!(3), json!(0.5), json!("0.1"), json!(true), json!(null)]);
/// assert_eq!(to_value(&AnyValue::Float64(f64::NAN)), json!(null));
/// ```
pub fn to_value(value: &AnyValue) -> Value {
    match value {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(v) => Value::from(*v),
        AnyValue::String(v) => Value::from(*v),
        AnyValue::StringOwned(v) => Value::from(v.as_str()),
        other if other.is_integer() => other.extract::<i64>().map_or(Value::Null, Value::from),
        other if other.is_float() => other.extract::<f64>().map_or(Value::Null, Value::from),
        other => Value::from(other.to_string()),
    }
}

/// The query, if the text is a single one; polars itself says what is wrong where it is not.
fn parse(sql: &str) -> Option<Query> {
    let options = ParserOptions { trailing_commas: true, ..ParserOptions::default() };
    let statements = Parser::new(&GenericDialect).with_options(options).try_with_sql(sql).ok()?.parse_statements().ok()?;
    match <[Statement; 1]>::try_from(statements) {
        Ok([Statement::Query(query)]) => Some(*query),
        _ => None,
    }
}

/// The query with every column that it yields appended to its ORDER BY.
fn with_order(mut query: Query, columns: &[String]) -> Option<String> {
    let ties = columns.iter().map(|name| OrderByExpr::from(Ident::with_quote('"', name)));
    match &mut query.order_by {
        Some(OrderBy { kind: OrderByKind::Expressions(expressions), .. }) => expressions.extend(ties),
        Some(_) => return None,
        none => *none = Some(OrderBy { kind: OrderByKind::Expressions(ties.collect()), interpolate: None }),
    }
    Some(query.to_string())
}

/// The query with both sides of every comparison of its select list as further columns, named by their own text.
fn with_compared(mut query: Query) -> Option<String> {
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let mut known = Vec::new();
    let mut sides = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                known.push(expr.to_string());
                compared(expr, &mut sides);
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                known.extend([expr.to_string(), alias.value.clone()]);
                compared(expr, &mut sides);
            }
            _ => return None,
        }
    }
    for expr in sides {
        let name = expr.to_string();
        if !known.contains(&name) {
            select.projection.push(SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name.replace('"', "")) });
            known.push(name);
        }
    }
    Some(query.to_string())
}

fn compared(expr: &Expr, sides: &mut Vec<Expr>) {
    use BinaryOperator::{And, Eq, Gt, GtEq, Lt, LtEq, NotEq, Or};
    match expr {
        Expr::Nested(inner) => compared(inner, sides),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => compared(expr, sides),
        Expr::BinaryOp { left, op: And | Or, right } => {
            compared(left, sides);
            compared(right, sides);
        }
        Expr::BinaryOp { left, op: Eq | Gt | GtEq | Lt | LtEq | NotEq, right } => {
            sides.extend([left, right].into_iter().filter(|side| !is_literal(side)).map(|side| side.as_ref().clone()));
        }
        Expr::Between { expr, low, high, .. } => {
            sides.extend([expr, low, high].into_iter().filter(|side| !is_literal(side)).map(|side| side.as_ref().clone()));
        }
        _ => {}
    }
}

fn is_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) => true,
        Expr::Nested(inner) | Expr::UnaryOp { expr: inner, .. } => is_literal(inner),
        Expr::BinaryOp { left, right, .. } => is_literal(left) && is_literal(right),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::df;

    fn tables() -> Tables {
        let scores = df!(
            "model" => ["a", "a", "b", "b"],
            "head" => [0i64, 1, 0, 1],
            "value" => [0.25, 0.75, 0.5, 0.5],
        );
        Tables::from([("scores".to_string(), scores.unwrap())])
    }

    #[test]
    fn groups_come_in_order_without_an_order_by() {
        let found = select("SELECT model, AVG(value) AS mean FROM scores GROUP BY model", &tables()).unwrap();
        assert_eq!(found, df!("model" => ["a", "b"], "mean" => [0.5, 0.5]).unwrap());
    }

    #[test]
    fn ties_of_an_order_by_are_broken_by_the_other_columns() {
        let found = select("SELECT head, value FROM scores ORDER BY value DESC", &tables()).unwrap();
        assert_eq!(found, df!("head" => [1i64, 0, 1, 0], "value" => [0.75, 0.5, 0.5, 0.25]).unwrap());
    }

    #[test]
    fn a_limit_takes_the_same_rows_every_time() {
        let found = select("SELECT model, head FROM scores WHERE value = 0.5 LIMIT 1", &tables()).unwrap();
        assert_eq!(found, df!("model" => ["b"], "head" => [0i64]).unwrap());
    }

    #[test]
    fn joins_of_more_rows_than_anybody_means_are_refused_before_they_are_made() {
        let rows = 20_000i64;
        let large = df!("key" => (0..rows).collect::<Vec<_>>(), "half" => (0..rows).map(|row| row % 2).collect::<Vec<_>>());
        let mut tables = tables();
        tables.insert("large".into(), large.unwrap());
        let count = |sql: &str| execute(sql, &tables).map(|found| found.column("n").unwrap().get(0).unwrap().extract::<i64>());
        for sql in [
            "SELECT COUNT(*) AS n FROM large a CROSS JOIN large b",
            "SELECT COUNT(*) AS n FROM large a JOIN large b ON a.half = b.half",
            "SELECT COUNT(*) AS n FROM (SELECT * FROM large WHERE key >= 0) a LEFT JOIN large b USING (half)",
            "WITH c AS (SELECT a.key, model FROM large a CROSS JOIN scores b)
             SELECT COUNT(*) AS n FROM c JOIN c d ON c.model = d.model",
        ] {
            let error = count(sql).unwrap_err().to_string();
            assert!(error.contains("a join would yield"), "{sql}: {error}");
        }
        let found = count("SELECT COUNT(*) AS n FROM large a JOIN large b ON a.key = b.key AND a.half = b.half").unwrap();
        assert_eq!(found, Some(rows));
        let unequal = "SELECT COUNT(*) AS n FROM large a JOIN large b ON a.key = b.key AND a.half < b.key";
        let error = count(unequal).unwrap_err().to_string();
        assert!(error.contains("put the other conditions into WHERE"), "{error}");
        let found = count("SELECT COUNT(*) AS n FROM large a JOIN large b ON a.key = b.key WHERE a.half < b.key").unwrap();
        assert_eq!(found, Some(rows - 2));
        // What is chosen from its tables counts, not what they hold.
        let found = count("SELECT COUNT(*) AS n FROM (SELECT * FROM large WHERE key < 100) a CROSS JOIN large b").unwrap();
        assert_eq!(found, Some(100 * rows));
        let found =
            count("SELECT COUNT(*) AS n FROM large a FULL JOIN (SELECT key + 10000 AS key FROM large) b ON a.key = b.key");
        assert_eq!(found.unwrap(), Some(30_000));
    }

    #[test]
    fn a_claim_shows_both_sides_of_what_it_compares() {
        let sql = "SELECT MAX(value) > 0.7 AND MIN(value) < MAX(value) AS holds, COUNT(*) AS n FROM scores";
        let verdict = check(sql, "holds", &tables()).unwrap();
        assert!(verdict.holds);
        let expected = [("n", Value::from(4)), ("max(value)", Value::from(0.75)), ("min(value)", Value::from(0.25))];
        let numbers: Vec<_> = verdict.numbers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
        assert_eq!(numbers, expected.map(|(name, value)| (name.to_string(), value)));
    }

    #[test]
    fn a_claim_about_nothing_does_not_hold() {
        let none = check("SELECT MAX(value) > 0.7 AS holds FROM scores WHERE head = 9", "holds", &tables()).unwrap();
        assert!(!none.holds);
        let rows = check("SELECT value > 0.7 AS holds FROM scores", "holds", &tables()).unwrap();
        assert_eq!(rows, Verdict { holds: false, numbers: vec![("rows".into(), Value::from(4))] });
    }
}
