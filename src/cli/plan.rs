use crate::experiment::plan::{bytes, program_bytes};
use crate::experiment::{Cell, Experiment};
use std::fmt::Write;

/// What a run of the experiment would do, and how large it would be.
pub(super) fn show(experiment: &Experiment) -> String {
    let plan = experiment.plan();
    let mut text = format!("{}: {}\n", experiment.path.display(), experiment.title);
    text.push_str("  models\n");
    for (of_model, (name, model)) in plan.models.iter().zip(&experiment.models) {
        let shape = &model.variants[0].config;
        let each = if of_model.instances == 1 { String::new() } else { format!("{} × ", of_model.instances) };
        let _ = writeln!(text, "    {name}: {}, {each}{shape}; {}", model.kind, bytes(of_model.bytes));
    }
    if !experiment.inputs.is_empty() {
        text.push_str("  inputs\n");
    }
    for (name, input) in &experiment.inputs {
        let shape = input.shape;
        let repeats = shape.repeats.map_or(String::new(), |r| format!(", {} repeats of {}", r.count, r.period));
        let of = input.builder.of().map_or(String::new(), |of| format!(" of {of}"));
        let _ =
            writeln!(text, "    {name}: {}{of}, {} sequences of {} tokens{repeats}", input.kind, shape.sequences, shape.length);
    }
    text.push_str("  cells\n");
    for (cost, cell) in plan.cells.iter().zip(&experiment.cells) {
        let line = match cell {
            Cell::Text(_) => continue,
            Cell::Measure(cell) => {
                let rows = format!("{} rows, {}", cost.rows, bytes(cost.table_bytes));
                format!("table {}: {} of {} ({rows})", cell.name, cell.kind, cell.models.join(", "))
            }
            Cell::Query { name, .. } => format!("table {name}: a query"),
            Cell::Figure(cell) => format!("{} {}: {}", cell.kind, cell.name, cell.title),
            Cell::Claim { statement, .. } => format!("claim: {}", statement.trim()),
        };
        let _ = writeln!(text, "    {line}");
    }
    let total = plan.peak_bytes.saturating_add(program_bytes());
    let _ = writeln!(
        text,
        "  needs about {} of memory: {} beside the program itself (writing tables takes {}, drawing figures {})",
        bytes(total),
        bytes(plan.peak_bytes),
        bytes(plan.tables_bytes),
        bytes(plan.drawing_bytes),
    );
    text
}
