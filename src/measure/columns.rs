//! What the tables of measures are made of.

use crate::circuit::loss::repeat_groups;
use crate::input::{Repeats, TokenBatch};
use crate::model::{Channel, HeadId, ModelConfig};
use crate::{Error, Result};
use polars::prelude::{DataFrame, DataType, Field, Schema, df};

/// A whole number: layer, head, position, token, repeat.
pub(super) const INTEGER: DataType = DataType::Int64;
/// A measured value.
pub(super) const NUMBER: DataType = DataType::Float64;
/// A name.
pub(super) const TEXT: DataType = DataType::String;

/// The columns of a measure in order.
pub(super) fn schema<const N: usize>(columns: [(&str, DataType); N]) -> Schema {
    columns.into_iter().map(|(name, dtype)| Field::new(name.into(), dtype)).collect()
}

/// The columns of a measure of pairs of heads: channel, earlier head, later head, then `more`.
pub(super) fn pair_schema<const N: usize>(more: [(&str, DataType); N]) -> Schema {
    let keys = [("kind", TEXT), ("from_layer", INTEGER), ("from_head", INTEGER), ("to_layer", INTEGER), ("to_head", INTEGER)];
    keys.into_iter().chain(more).map(|(name, dtype)| Field::new(name.into(), dtype)).collect()
}

/// The table with the keys of [`pair_schema`], one pair for each row of `more`, before the columns of `more`.
pub(super) fn pair_table(pairs: &[(Channel, HeadId, HeadId)], more: &DataFrame) -> Result<DataFrame> {
    let number = |of: fn(&(Channel, HeadId, HeadId)) -> usize| pairs.iter().map(|pair| integer(of(pair))).collect::<Vec<_>>();
    let keys = df!(
        "kind" => pairs.iter().map(|pair| pair.0.name()).collect::<Vec<_>>(),
        "from_layer" => number(|pair| pair.1.layer),
        "from_head" => number(|pair| pair.1.head),
        "to_layer" => number(|pair| pair.2.layer),
        "to_head" => number(|pair| pair.2.head),
    )?;
    Ok(keys.hstack(more.columns())?)
}

/// A count or an index as tables hold it.
pub(super) fn integer(value: usize) -> i64 {
    value as i64
}

/// The heads that the parameter `heads` (`["0.3"]`) names; every head without it.
pub(super) fn heads(model: &ModelConfig, list: Option<&[String]>) -> Result<Vec<HeadId>> {
    heads_of("heads", model, list)
}

/// The heads that a parameter names; every head without it.
pub(super) fn heads_of(parameter: &str, model: &ModelConfig, list: Option<&[String]>) -> Result<Vec<HeadId>> {
    let Some(list) = list else {
        return Ok(model.heads().collect());
    };
    let head = |(index, text): (usize, &String)| {
        let id = text.parse::<HeadId>().and_then(|id| model.check_head(id).map(|()| id));
        id.map_err(|error| Error::parameter(format!("{parameter}[{index}]"), error.to_string()))
    };
    let mut heads = list.iter().enumerate().map(head).collect::<Result<Vec<_>>>()?;
    heads.sort_unstable();
    heads.dedup();
    Ok(heads)
}

/// Checks the heads that a parameter names. Without a list there is nothing to check, and nothing is listed: whether all heads of
/// the model fit into memory is found out later.
pub(super) fn check_heads(parameter: &str, model: &ModelConfig, list: Option<&[String]>) -> Result<()> {
    list.map_or(Ok(()), |list| heads_of(parameter, model, Some(list)).map(drop))
}

/// Checks the indices that a parameter names. Without a list there is nothing to check, and nothing is listed.
pub(super) fn check_indices(parameter: &str, count: usize, list: Option<&[usize]>) -> Result<()> {
    let Some(list) = list else { return Ok(()) };
    if let Some(at) = list.iter().position(|&index| index >= count) {
        let text = format!("there is no {} here: the input has {count} {parameter}, counted from 0", list[at]);
        return Err(Error::parameter(format!("{parameter}[{at}]"), text));
    }
    Ok(())
}

/// The indices that a parameter (`sequences: [0, 1]`) names, below `count`; every index without it.
pub(super) fn indices(parameter: &str, count: usize, list: Option<&[usize]>) -> Result<Vec<usize>> {
    check_indices(parameter, count, list)?;
    let Some(list) = list else {
        return Ok((0..count).collect());
    };
    let mut indices = list.to_vec();
    indices.sort_unstable();
    indices.dedup();
    Ok(indices)
}

/// The tokens that a parameter (`rows: [3, 7]`) names, ascending, each once; `None` without a list: all.
pub(super) fn tokens(parameter: &str, model: &ModelConfig, list: Option<&[usize]>) -> Result<Option<Vec<usize>>> {
    let Some(list) = list else { return Ok(None) };
    if let Some(at) = list.iter().position(|&token| token >= model.d_vocab) {
        let text = format!("there is no token {}: the vocabulary has {} tokens, counted from 0", list[at], model.d_vocab);
        return Err(Error::parameter(format!("{parameter}[{at}]"), text));
    }
    let mut tokens = list.to_vec();
    tokens.sort_unstable();
    tokens.dedup();
    Ok(Some(tokens))
}

/// What the list names, in the order of `all`; all of it without a list.
pub(super) fn chosen<T: Copy + PartialEq>(list: Option<&[T]>, all: &[T]) -> Vec<T> {
    all.iter().copied().filter(|item| list.is_none_or(|list| list.contains(item))).collect()
}

/// At most how many a list chooses of `all`, without listing them.
pub(super) fn count<T>(list: Option<&[T]>, all: usize) -> usize {
    list.map_or(all, |list| list.len().min(all))
}

/// At most how many heads a list chooses, without listing them.
pub(super) fn head_count(model: &ModelConfig, list: Option<&[String]>) -> usize {
    count(list, model.n_layers.saturating_mul(model.n_heads))
}

/// At most how many pairs of a head and a later one lists choose, without listing them.
pub(super) fn pair_count(model: &ModelConfig, from: Option<&[String]>, to: Option<&[String]>) -> usize {
    let layer_pairs = model.n_layers.saturating_mul(model.n_layers.saturating_sub(1)) / 2;
    let all = layer_pairs.saturating_mul(model.n_heads).saturating_mul(model.n_heads);
    all.min(head_count(model, from).saturating_mul(head_count(model, to)))
}

/// The column `repeat` of a table that has a row for all positions and one for each repeat, and the positions of each row.
pub(super) fn repeats(batch: &TokenBatch) -> (Vec<Option<i64>>, Vec<Vec<usize>>) {
    let groups = repeat_groups(batch.length() - 1, batch.repeats());
    groups.into_iter().map(|(repeat, positions)| (repeat.map(integer), positions)).unzip()
}

/// Rows of a table that has one for all positions and one for each repeat.
pub(super) fn groups(repeats: Option<Repeats>) -> usize {
    repeats.map_or(0, |repeats| repeats.count).saturating_add(1)
}
