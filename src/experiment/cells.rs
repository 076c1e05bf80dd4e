//! `cells:`: what each refers to, and the columns of its table.

use super::diagnostic::{Diagnostic, Span, list};
use super::load::Loader;
use super::models::{Entries, check_name, locate, parameters, words};
use super::sql::{Table, Tables};
use super::tables::{key_columns, table_columns};
use super::yaml::{Node, Value};
use super::{Cell, FigureCell, Input, MeasureCell, Model};
use crate::kind::Kind;
use polars::prelude::{DataType, Schema};
use std::collections::HashSet;

/// What cells can refer to.
pub struct Scope<'s> {
    /// The models.
    pub models: &'s Entries<Model>,
    /// The inputs.
    pub inputs: &'s Entries<Input>,
    /// The tables.
    pub tables: Tables,
    /// Whether `models:` can be read, so that a name that is not there is wrong.
    pub knows_models: bool,
    /// The same for `inputs:`.
    pub knows_inputs: bool,
}

impl Loader<'_> {
    /// Reads `cells:`; a cell with a problem is left out.
    pub fn cells(&mut self, root: &Node, models: &Entries<Model>, inputs: &Entries<Input>) -> Vec<Cell> {
        let items = root.get("cells").map(Node::items).unwrap_or_default();
        let mut scope = Scope {
            models,
            inputs,
            tables: Tables::default(),
            knows_models: root.get("models").is_some_and(|node| !node.entries().is_empty())
                && !self.outcome.failed_itself("models"),
            knows_inputs: root.get("inputs").is_none_or(|node| matches!(node.value, Value::Map(_))),
        };
        for (name, span) in items.iter().filter_map(table_name) {
            scope.tables.all.entry(name.to_string()).or_insert(span);
        }
        let mut cells = Vec::new();
        if self.outcome.failed_itself("cells") {
            return cells;
        }
        for (index, node) in items.iter().enumerate() {
            let sound = !self.outcome.failed(&format!("cells/{index}"));
            let cell = if sound { self.cell(node, &scope) } else { None };
            if let Some((name, span)) = table_name(node) {
                let columns = match &cell {
                    Some(Cell::Measure(cell)) => Some(cell.schema.clone()),
                    Some(Cell::Query { schema, .. }) => Some(schema.clone()),
                    _ => None,
                };
                self.define(&mut scope.tables, name, span, columns, node.get("name").is_none());
            }
            cells.extend(cell);
        }
        cells
    }

    fn define(&mut self, tables: &mut Tables, name: &str, span: Span, columns: Option<Schema>, by_default: bool) {
        if let Err(problem) = check_name(span, name, false) {
            self.problems.push(problem);
            // What the name was meant to be is used below, and that is not another problem.
            let meant: String = name.chars().filter(|&c| c.is_ascii_alphanumeric() || c == '_').collect();
            tables.above.insert(meant, Table { span, columns: None });
            return;
        }
        // Two names that differ by case only are one file on some systems.
        let Some((taken, first)) = tables.above.iter().find(|(taken, _)| taken.eq_ignore_ascii_case(name)) else {
            tables.above.insert(name.to_string(), Table { span, columns });
            return;
        };
        let message = if taken == name {
            format!("there are two tables called `{name}`")
        } else {
            format!("the tables `{taken}` and `{name}` differ by case only, and some systems take them for one file")
        };
        let problem = Diagnostic::new(span, message).context(first.span, "the first");
        self.problems.push(match by_default {
            true => problem.help("a table is called like its measure: give this one another name with `name:`"),
            false => problem.help("give this one another name"),
        });
        tables.above.entry(name.to_string()).or_insert(Table { span, columns: None });
    }

    fn cell(&mut self, node: &Node, scope: &Scope) -> Option<Cell> {
        if let Some(text) = node.get("text") {
            Some(Cell::Text(text.as_str()?.to_string()))
        } else if let Some(measure) = node.get("measure") {
            self.measure(node, measure, scope).map(Cell::Measure)
        } else if let Some(query) = node.get("query") {
            let schema = self.query(query, scope)?;
            Some(Cell::Query { sql: query.as_str()?.to_string(), name: node.get("name")?.as_str()?.to_string(), schema })
        } else if let Some(figure) = node.get("figure") {
            self.figure(node, figure, scope).map(Cell::Figure)
        } else {
            self.claim(node, scope)
        }
    }

    fn query(&mut self, node: &Node, scope: &Scope) -> Option<Schema> {
        scope.tables.check(node, self.sources).unwrap_or_else(|problem| {
            self.problems.push(problem);
            None
        })
    }

    fn measure(&mut self, node: &Node, tag: &Node, scope: &Scope) -> Option<MeasureCell> {
        let kind = Kind::find(self.registries.measures, tag.as_str()?)?;
        let models = self.named_models(node, scope);
        let parameters = parameters(node, &["measure", "name", "models", "input"]);
        let measure = self.parse(kind, parameters.clone(), node)?;
        let reads = self.reads(node, tag, measure.as_ref(), scope);
        let (models, reads) = (models?, reads?);
        let before = self.problems.len();
        let mut said = HashSet::new();
        for (name, model) in &models {
            for variant in &model.variants {
                for read in reads.iter() {
                    self.check_fit((name, &variant.config), read, &mut said);
                }
                if let Err(error) = measure.check(&variant.config, reads.input.map(|read| read.shape))
                    && said.insert(error.to_string())
                {
                    let words = words(&error);
                    let message = if models.len() > 1 { format!("model `{name}`: {words}") } else { words };
                    self.problems.push(Diagnostic::new(locate(&error, node, "measure", self.base), message));
                }
            }
        }
        let keys = key_columns(models.iter().map(|(_, model)| *model));
        let schema = table_columns(&keys, &measure.columns()).map_err(|column| {
            let message = format!("the swept parameter `{column}` is called like a column of `{}`", kind.name);
            let problem = Diagnostic::new(tag.span, message);
            self.problems.push(problem.help(format!("list other `models:` here, or sweep something else than `{column}`")));
        });
        if self.problems.len() > before {
            return None;
        }
        Some(MeasureCell {
            kind: kind.name.to_string(),
            name: node.get("name").and_then(Node::as_str).unwrap_or(kind.name).to_string(),
            models: models.iter().map(|(name, _)| (*name).to_string()).collect(),
            input: reads.input.map(|read| read.name.to_string()),
            other_inputs: reads.others.iter().map(|(parameter, read)| (parameter.to_string(), read.name.to_string())).collect(),
            parameters: parameters.into(),
            measure,
            schema: schema.ok()?,
        })
    }

    /// The models that a cell names, all without a name; `None` if one does not exist or has a problem of its own.
    fn named_models<'s>(&mut self, node: &Node, scope: &Scope<'s>) -> Option<Vec<(&'s str, &'s Model)>> {
        let Some(named) = node.get("models") else {
            return scope.models.iter().map(|(name, model)| Some((name.as_str(), model.value.as_ref()?))).collect();
        };
        let names = if named.as_str().is_some() { std::slice::from_ref(named) } else { named.items() };
        let mut seen = HashSet::new();
        let mut models = Some(Vec::new());
        for node in names {
            let name = node.as_str()?;
            let found = scope.models.get_key_value(name);
            if found.is_none() && scope.knows_models {
                let problem = Diagnostic::new(node.span, format!("there is no model `{name}`"));
                self.problems.push(problem.suggest(name, "the models are", scope.models.keys().map(String::as_str)));
            } else if !seen.insert(name) {
                self.problems.push(Diagnostic::new(node.span, format!("the model `{name}` is here twice")));
            }
            let model = found.and_then(|(name, model)| Some((name.as_str(), model.value.as_ref()?)));
            models = models.zip(model).map(|(mut models, model)| {
                models.push(model);
                models
            });
        }
        models
    }

    fn figure(&mut self, node: &Node, tag: &Node, scope: &Scope) -> Option<FigureCell> {
        let kind = Kind::find(self.registries.figures, tag.as_str()?)?;
        let of = node.get("of")?;
        let text = of.as_str()?.trim();
        let is_name = !text.contains(|c: char| c.is_whitespace() || c == '(');
        let columns = if is_name {
            match scope.tables.above.get(text) {
                Some(table) => table.columns.clone(),
                None => {
                    self.problems.push(scope.tables.no_table(text, of.span));
                    None
                }
            }
        } else {
            self.query(of, scope)
        };
        if let Some((name, value)) = node.get("name").and_then(|value| Some((value.as_str()?, value))) {
            check_name(value.span, name, false).map_err(|problem| self.problems.push(problem)).ok()?;
        }
        let mut parameters = parameters(node, &["figure", "of", "title", "name", "caption"]);
        let mut figure = self.parse(kind, parameters.clone(), node)?;
        let columns = columns?;
        let before = self.problems.len();
        if let Err(error) = figure.check() {
            self.problems.push(Diagnostic::new(locate(&error, node, "figure", self.base), words(&error)));
        }
        let base = self.base;
        match self.settled(figure.files(), || figure.read(base)) {
            Ok(read) if read.is_empty() => {}
            Ok(read) => {
                parameters.extend(read.into_iter().map(|(parameter, value)| (parameter.to_string(), value)));
                figure = self.parse(kind, parameters.clone(), node)?;
            }
            Err(error) => {
                self.problems.push(Diagnostic::new(locate(&error, node, "figure", self.base), words(&error)));
            }
        }
        for (parameter, column) in figure.columns() {
            let value = node.get(parameter);
            let span = value.map_or(tag.span, |value| item_called(value, column).span);
            if let Some(dtype) = columns.get(column) {
                if figure.numbers().contains(&parameter) && !(dtype.is_primitive_numeric() || dtype.is_null()) {
                    let what = if dtype.is_bool() { "true and false" } else { "text" };
                    let message = format!("`{parameter}` needs a column of numbers, and `{column}` holds {what}");
                    self.problems.push(Diagnostic::new(span, message));
                }
            } else {
                let problem = Diagnostic::new(span, format!("there is no column `{column}` in the figure's data"));
                self.problems.push(problem.suggest(column, "its columns are", columns.iter_names().map(|name| name.as_str())));
            }
        }
        if self.problems.len() > before {
            return None;
        }
        let default_name = if is_name { text } else { kind.name };
        let string = |key: &str| node.get(key).and_then(Node::as_str).map(String::from);
        Some(FigureCell {
            kind: kind.name.to_string(),
            name: string("name").unwrap_or_else(|| default_name.to_string()),
            of: text.to_string(),
            title: string("title")?,
            caption: string("caption"),
            figure,
            parameters: parameters.into(),
        })
    }

    fn claim(&mut self, node: &Node, scope: &Scope) -> Option<Cell> {
        let check = node.get("check")?;
        let columns = self.query(check, scope)?;
        match deciding(&columns) {
            Ok(decides) => {
                let statement = node.get("claim")?.as_str()?.to_string();
                Some(Cell::Claim { statement, check: check.as_str()?.to_string(), decides })
            }
            Err(message) => {
                let problem = Diagnostic::new(check.span, message);
                self.problems
                    .push(problem.help("compare, as in `SELECT MAX(value) > 0.95 AS holds, MAX(value) AS value FROM …`"));
                None
            }
        }
    }
}

/// The table that a cell makes, with the place of its name.
fn table_name(node: &Node) -> Option<(&str, Span)> {
    let tag = node.get("measure").or_else(|| node.get("query"))?;
    let named = node.get("name").or_else(|| node.get("measure"))?;
    if node.get("measure").is_none() && node.get("name").is_none() {
        return None;
    }
    let name = named.as_str()?;
    Some((name, if named.span.start < named.span.end { named.span } else { tag.span }))
}

/// The item of a list that holds this text; the value itself if it is no list.
fn item_called<'n>(value: &'n Node, text: &str) -> &'n Node {
    match &value.value {
        Value::Seq(items) => items.iter().find(|item| item.as_str() == Some(text)).unwrap_or(value),
        _ => value,
    }
}

/// The column of a claim's check that decides.
fn deciding(columns: &Schema) -> Result<String, String> {
    if let Some(data_type) = columns.get("holds") {
        return match data_type {
            DataType::Boolean => Ok("holds".to_string()),
            _ => Err("the column `holds` of a check must be true or false".to_string()),
        };
    }
    let booleans: Vec<&str> =
        columns.iter().filter(|(_, data_type)| **data_type == DataType::Boolean).map(|(name, _)| name.as_str()).collect();
    match booleans.as_slice() {
        [only] => Ok((*only).to_string()),
        [] => {
            let names: Vec<&str> = columns.iter_names().map(|name| name.as_str()).collect();
            Err(format!("a check needs a column that is true or false, and this one yields {}", list(&names)))
        }
        several => Err(format!("the columns {} could all decide: call one of them `holds`", list(several))),
    }
}
