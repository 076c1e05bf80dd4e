//! Whatever an experiment says is text in the report and in the figures, wherever it is said.

use crate::desk::{Desk, Finished};
use crate::markup::{Piece, read};
use std::collections::BTreeSet;
use std::process::Command;

/// Markup that would set an attribute of the page's root if any of it ran; `number` tells where it stood.
fn payload(number: usize) -> String {
    let run = format!("document.documentElement.setAttribute('data-ran','{number}')");
    format!(
        "P{number}\"'><script>{run}</script><img src=x onerror={run}><svg onload={run}></svg></style></title></textarea>&lt;b&gt;"
    )
}

/// As a YAML string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A payload within an SQL string.
fn sql(number: usize) -> String {
    payload(number).replace('\'', "''")
}

/// A payload as a column's name; in backticks, its script is one still.
fn column(number: usize) -> String {
    payload(number).replace('\'', "`").replace('"', "&quot;")
}

/// An experiment with a payload in every place that text can come from, and how many these are.
fn nasty() -> (String, usize) {
    let mut count = 0;
    let mut next = || {
        count += 1;
        count
    };
    let mut plain = || quoted(&payload(next()));
    let (title, text_title) = (plain(), plain());
    let [heatmap, line, x, y, color, series, caption, token_0, token_1, statement, rule] = std::array::from_fn(|_| plain());
    let mut markdown = || {
        let (raw, label, note, code) = (payload(next()), next(), payload(next()), payload(next()));
        quoted(&format!(
            "## {raw}\n\n<script>document.documentElement.setAttribute('data-ran','{label}')</script>\n\n\
             [link](javascript:document.documentElement.setAttribute('data-ran','{label}')) [upper](JaVaScRiPt:alert) \
             [tab](java\tscript:alert) [data](data:text/html,<script>1</script>) ![image](javascript:alert) ![load](http://x.example/x.png) \
             <a href=\"javascript:alert\" onclick=\"alert\">raw</a> <https://x.example/\"onmouseover=alert> <style>*{{display:none}}</style>\n\n\
             [ref][1]\n\n[1]: javascript:alert \"{label}\"\n\n| {note} |\n| --- |\n| `{code}` |\n\n```{note}\n{code}\n```\n\nA note[^n].\n\n[^n]: {raw}\n"
        ))
    };
    let (about, text, long_caption, long_statement) = (markdown(), markdown(), markdown(), markdown());
    let (cell, name, alias, comment) = (sql(next()), column(next()), column(next()), payload(next()));
    let query = quoted(&format!(
        "SELECT model, position, loss, '{cell}' AS \"{name}\", 'x' AS kind FROM loss -- {}",
        comment.replace('\n', " ")
    ));
    let by_text = quoted(&format!("SELECT position, loss, '{}' AS series FROM loss", sql(next())));
    let check =
        quoted(&format!("SELECT MAX(loss) > 0 AS holds, MAX(loss) AS \"{alias}\", '{}' AS words FROM loss", sql(next())));
    let text = format!(
        "title: {title}
about: {about}
models:
  m: {{ kind: random, layers: 1, heads: 1, d_model: 2, vocab: 2, context: 4 }}
inputs:
  i: {{ kind: tokens, tokens: [[0, 1, 1]] }}
cells:
  - text: {text_title}
  - text: {text}
  - measure: loss
  - measure: circuit_table
    circuits: [full_ov]
  - query: {query}
    name: nasty
  - figure: heatmap
    of: circuit_table
    title: {heatmap}
    caption: {caption}
    x: column_token
    y: row_token
    color: value
    x_label: {x}
    y_label: {y}
    color_label: {color}
  - figure: circuit_matrix
    of: circuit_table
    title: {heatmap}
    tokens: [{token_0}, {token_1}]
  - figure: line
    of: {by_text}
    title: {line}
    caption: {long_caption}
    x: position
    y: loss
    color: series
    color_label: {series}
    rule: [{{ value: 1, label: {rule} }}]
  - claim: {statement}
    check: {check}
  - claim: {long_statement}
    check: SELECT COUNT(*) = 0 FROM loss
"
    );
    (text, count)
}

fn run_nasty() -> (Desk, usize) {
    let (text, mut count) = nasty();
    let desk = Desk::with("nasty&'x.yaml", &text);
    count += 1;
    let set = format!("cells[0].text={}", quoted(&payload(count)));
    let finished: Finished = desk.run(["run", "nasty&'x.yaml", "--set", &set]).expect(1);
    assert!(finished.stdout.contains("1 of 2 claims hold"), "{finished:#?}");
    (desk, count)
}

const FOLDER: &str = "results/nasty&'x";

/// What our own markup is made of. Anything else came from the experiment.
const ELEMENTS: &[&str] = &[
    "a",
    "body",
    "br",
    "caption",
    "circle",
    "clipPath",
    "code",
    "dd",
    "defs",
    "del",
    "details",
    "div",
    "dl",
    "dt",
    "em",
    "figcaption",
    "figure",
    "footer",
    "g",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "head",
    "header",
    "hr",
    "html",
    "li",
    "main",
    "meta",
    "nav",
    "ol",
    "p",
    "path",
    "pre",
    "polygon",
    "polyline",
    "rect",
    "section",
    "span",
    "strong",
    "style",
    "summary",
    "sup",
    "svg",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "title",
    "tr",
    "ul",
    "use",
    "wbr",
];

/// What the page over all results has besides: figures as pictures, in which nothing runs.
const OF_THE_INDEX: &[&str] = &["article", "img"];

/// Insists that a document has no element, attribute, address or style that is not ours; answers with the payloads in its text.
fn assert_nothing_but_text(what: &str, text: &str, more: &[&str]) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut note = |text: &str| {
        for part in text.split('P').skip(1) {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            seen.extend(digits.parse::<usize>().ok().filter(|_| part[digits.len()..].starts_with(['"', '&', '\'', '”', '“'])));
        }
    };
    let mut styles = 0;
    for piece in read(text) {
        match piece {
            Piece::Text(text) => note(&text),
            Piece::Close(_) => {}
            Piece::Open(element, attributes) => {
                let known = ELEMENTS.iter().chain(more).any(|known| *known == element);
                assert!(known, "{what}: an element <{element}>");
                styles += usize::from(element == "style");
                for (name, value) in attributes {
                    let place = format!("{what}: <{element} {name}=\"{value}\">");
                    assert!(!name.starts_with("on"), "{place}");
                    let picture = name == "src" && element == "img" && value.starts_with("data:image/svg+xml;base64,");
                    assert!(
                        picture
                            || !["src", "srcset", "action", "formaction", "ping", "background", "poster"]
                                .contains(&name.as_str()),
                        "{place}"
                    );
                    note(&value);
                    match name.as_str() {
                        "href" | "xlink-href" => {
                            let scheme = value.split(['/', '#', '?']).next().unwrap_or_default();
                            let allowed = ["http:", "https:", "mailto:"].contains(&scheme) || !scheme.contains(':');
                            assert!(allowed && !value.contains(char::is_whitespace), "{place}");
                        }
                        "style" => {
                            let ours = value.starts_with("--width: ") || value.starts_with("text-align: ");
                            assert!(ours && value.chars().all(|c| c.is_ascii_alphanumeric() || "-: ".contains(c)), "{place}");
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    assert!(styles <= 1, "{what}: {styles} style sheets");
    seen
}

/// Payloads that the page does not show as text: one that `--set` replaces; labels of axes and colours, names of tokens, a rule, and
/// a series of a figure's own query.
const NOT_SHOWN: [usize; 9] = [2, 5, 6, 7, 8, 10, 11, 13, 34];

#[test]
fn markup_in_an_experiment_comes_out_as_text() {
    let (desk, count) = run_nasty();
    let report = desk.read(&format!("{FOLDER}/report.html"));
    assert_nothing_but_text("report.html", &report, &[]);
    // Without the experiment's own text at the end, in which every payload stands anyway.
    let (page, _) = report.split_once("<h2 id=\"experiment-file\"").expect("the page shows the experiment at its end");
    let seen = assert_nothing_but_text("report.html", page, &[]);
    let shown: String =
        read(page).into_iter().filter_map(|piece| if let Piece::Text(text) = piece { Some(text) } else { None }).collect();
    let missing: Vec<_> =
        (1..=count).filter(|number| !seen.contains(number) && !shown.contains(&format!("'{number}'"))).collect();
    // Text in a figure is drawn as outlines, but for its title.
    assert_eq!(missing, NOT_SHOWN, "payloads that are not there at all test nothing");
    let figures = desk.tree(&format!("{FOLDER}/figures"));
    let drawings: Vec<_> = figures.0.iter().filter(|(name, _)| name.ends_with(".svg")).collect();
    assert_eq!(drawings.len(), 3);
    for (name, bytes) in drawings {
        let svg = std::str::from_utf8(bytes).expect("an SVG file is UTF-8");
        assert!(!assert_nothing_but_text(name, svg, &[]).is_empty(), "{name} has a payload for its title");
    }
    // Title, opening sentence, statements and the figure's title stand there again.
    let listed = assert_nothing_but_text("index.html", &desk.read("results/index.html"), OF_THE_INDEX);
    assert!(listed.contains(&1) && listed.len() >= 3, "{listed:?}");
    // No element within a figure may act, whatever HTML makes of it.
    for piece in read(&report) {
        assert!(
            !matches!(&piece, Piece::Open(name, _) if ["script", "iframe", "object", "embed", "form", "base", "link"].contains(&name.as_str())),
            "{piece:?}"
        );
    }
}

/// A browser that runs scripts, if there is one.
fn chromium() -> Option<&'static str> {
    let there = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(there)
}

fn dom(browser: &str, desk: &Desk, page: &str) -> String {
    let profile = format!("--user-data-dir={}", desk.path("profile").display());
    let url = format!("file://{}", desk.path(page).display());
    let arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom", &profile, &url];
    let output = Command::new(browser).args(arguments).output().expect("the browser starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("</html>") || text.contains("</svg>"), "{page}: {}", String::from_utf8_lossy(&output.stderr));
    text
}

/// What ran has set `data-ran` at the root.
fn ran(dom: &str) -> bool {
    let start = dom.find("<html").or_else(|| dom.find("<svg")).expect("a root");
    dom[start..start + dom[start..].find('>').expect("the root's tag ends")].contains("data-ran")
}

#[test]
fn nothing_of_an_experiment_runs_in_a_browser() {
    let Some(browser) = chromium() else {
        // Not everybody has one; continuous integration has.
        assert!(std::env::var_os("CHROMIUM_REQUIRED").is_none(), "there is no Chromium on the PATH");
        eprintln!("NOT RUN: there is no Chromium on the PATH, so what a browser makes of the report was not looked at");
        return;
    };
    let (desk, _) = run_nasty();
    for path in [format!("{FOLDER}/report.html"), "results/index.html".to_string()] {
        let page = desk.read(&path);
        let policy =
            page.lines().find(|line| line.contains("Content-Security-Policy")).expect("the page has a policy").to_string();
        // Without the policy it is the escaping alone that is tested. A page in which something does run shows that it would be seen.
        let open = page.replace(&policy, "");
        let alive = |page: &str| page.replacen("<main>", &format!("<main>{}", payload(0)), 1);
        for (text, runs, what) in [
            (&alive(&open), true, "a payload that is not escaped runs"),
            (&alive(&page), false, "the policy forbids what is not escaped"),
            (&open, false, "the page without its policy"),
            (&page, false, "the page"),
        ] {
            desk.write("page.html", text);
            assert_eq!(ran(&dom(browser, &desk, "page.html")), runs, "{path}: {what}");
        }
    }
    for name in desk.tree(&format!("{FOLDER}/figures")).names().into_iter().filter(|name| name.ends_with(".svg")) {
        desk.write("figure.svg", desk.read(&format!("{FOLDER}/figures/{name}")));
        assert!(!ran(&dom(browser, &desk, "figure.svg")), "{name}");
    }
}
