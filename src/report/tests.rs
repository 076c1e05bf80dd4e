use super::*;
use polars::prelude::df;
use std::fmt::Write;

/// A heat map of `layers` by `heads`, drawn as our figures draw.
fn heatmap(layers: usize, heads: usize) -> String {
    let mut svg = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg width=\"860\" height=\"320\" viewBox=\"0 0 860 320\" \
         xmlns=\"http://www.w3.org/2000/svg\" font-family=\"sans-serif\" font-size=\"13\"><title>Prefix matching by head</title>\
         <rect width=\"860\" height=\"320\" fill=\"#fff\"/>",
    );
    for layer in 0..layers {
        for head in 0..heads {
            let (x, y) = (80 + head * 740 / heads, 20 + layer * 240 / layers);
            let value = ((layer * 7 + head * 13) % 10) as f64 / 10.0;
            let (light, ink) = (96.0 - 62.0 * value, if value > 0.5 { "#fff" } else { "#222" });
            write!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" fill=\"hsl(215 60% {light}%)\"/>\
                 <text x=\"{}\" y=\"{}\" fill=\"{ink}\" text-anchor=\"middle\">{value:.2}</text>",
                740 / heads - 3,
                240 / layers - 3,
                x + 370 / heads,
                y + 124 / layers
            )
            .unwrap();
        }
    }
    svg.push_str("<text x=\"450\" y=\"300\" text-anchor=\"middle\">head</text><text x=\"30\" y=\"140\">layer</text></svg>");
    svg
}

fn by_head() -> DataFrame {
    df!(
        "model" => ["random", "random", "random", "random", "wired", "wired", "wired", "wired"],
        "layer" => [0_u32, 0, 1, 1, 0, 0, 1, 1],
        "head" => [0_u32, 1, 0, 1, 0, 1, 0, 1],
        "mean" => [0.048_712, 0.051_3, 0.000_123_4, 0.0497, 0.032_258, 0.05, 0.998_765_4, 1.0],
        "deviation" => [Some(0.0031), Some(0.0029), Some(0.000_045), Some(0.0033), None, None, None, None],
        "note" => [None, None, None, None, Some("previous token"), None, Some("induction"), None],
    )
    .unwrap()
}

fn scores() -> DataFrame {
    let n = 500_u32;
    df!(
        "model" => (0..n).map(|i| if i < 250 { "random" } else { "wired" }).collect::<Vec<_>>(),
        "replicate" => (0..n).map(|i| (i < 250).then_some(i / 25)).collect::<Vec<_>>(),
        "layer" => (0..n).map(|i| i / 5 % 2).collect::<Vec<_>>(),
        "head" => (0..n).map(|i| i % 4).collect::<Vec<_>>(),
        "score" => (0..n).map(|i| ["previous_token", "prefix_matching", "tl_induction_mul_excl"][i as usize % 3]).collect::<Vec<_>>(),
        "value" => (0..n).map(|i| f64::from(i * 7919 % 1000) / 1003.0).collect::<Vec<_>>(),
        "floor" => (0..n).map(|_| 1.0 / 61.0).collect::<Vec<_>>(),
        "ceiling" => vec![1.0; 500],
    )
    .unwrap()
}

/// What a real experiment gives, in every kind of block.
fn sample(check: impl FnOnce(&Report)) {
    let (by_head, scores, svg) = (by_head(), scores(), heatmap(2, 8));
    let text = |markdown| Block::Text { markdown };
    let claim = |statement, check, holds, numbers: &[(&str, &str)]| Block::Claim {
        statement,
        check,
        holds,
        numbers: numbers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
    };
    check(&Report {
        title: "Induction heads from K-composition",
        about: Some(
            "A previous-token head and an induction head, wired by hand, next to random models of the same shape. The question is \
             whether the measures of the field find the two heads, and *only* those.\n\nEvery number below is computed by the file at \
             the end of this page; [Figure 1](#figure-1) has it at a glance.[^paper]\n\n[^paper]: Elhage et al., *A Mathematical \
             Framework for Transformer Circuits*, [transformer-circuits.pub](https://transformer-circuits.pub/2021/framework/index.html).",
        ),
        blocks: vec![
            text(
                "## Which head looks where?\n\nAn induction head attends from the token `t` to the one *after* the earlier copy of `t`. \
                 Its pattern is `A = softmax(x W_Q W_K^T x^T / sqrt(d_head))`, so that `W_QK` has to match the current token with what \
                 a head of layer 0 wrote about the previous one:\n\n```\nscore(i, j) = e[x_i] · W_E W_QK (W_OV W_E)^T · e[x_(j-1)]\n```\n\n\
                 - **Wired:** one head per layer does the work, the others are distractors.\n- **Random:** nothing should stand out.",
            ),
            Block::Table {
                name: "head_scores",
                caption: "head_scores of wired, random on repeated".into(),
                query: None,
                data: &scores,
                csv: "tables/head_scores.csv".into(),
                folded: true,
            },
            Block::Table {
                name: "induction_by_head",
                caption: "Prefix matching of every head, mean over replicates".into(),
                query: Some(
                    "SELECT model, layer, head, AVG(value) AS mean, STD(value) AS deviation\nFROM head_scores\nWHERE score = 'prefix_matching'\nGROUP BY model, layer, head\nORDER BY model, layer, head",
                ),
                data: &by_head,
                csv: "tables/induction_by_head.csv".into(),
                folded: false,
            },
            Block::Figure {
                number: 1,
                title: "Prefix matching by head",
                caption: Some(
                    "One head of layer 1 reaches the ceiling in the *wired* model; a random head stays at chance, `1 / 61`.",
                ),
                svg: &svg,
                path: "figures/01-prefix-matching.svg".into(),
            },
            claim(
                "One head of layer 1 attends right after the earlier copy of the current token.",
                "SELECT MAX(value) > 0.95 AS holds, MAX(value) AS best FROM induction_by_head WHERE model = 'wired' AND layer = 1",
                true,
                &[("best", "0.9988")],
            ),
            claim(
                "No random head does.",
                "SELECT MAX(value) < 0.2 FROM induction_by_head WHERE model = 'random'",
                true,
                &[("best", "0.0513")],
            ),
            text(
                "## How the heads compose\n\nThe score of `0.0>1.0` on the key side is far above chance, as it must be.\n\n### Composition \
                 against chance\n\n| channel | score | chance | z |\n| --- | ---: | ---: | ---: |\n| `q` | 0.031 | 0.029 | 0.4 |\n| `k` | 0.998 | 0.029 | 212 |\n\
                 | `v` | 0.030 | 0.029 | 0.2 |\n\n> Composition that is *possible* is not yet composition that is *used*: hence the \
                 ablation below.",
            ),
            claim(
                "K-composition between the two heads is above chance by more than **ten** standard deviations, while Q- and V-composition stay within two.",
                "SELECT MIN(z) > 10 FROM composition WHERE kind = 'k'",
                true,
                &[("z_k", "212"), ("z_q", "0.4"), ("z_v", "0.2"), ("chance_sd", "0.004571")],
            ),
            text("### What ablation says\n\nWithout the head of layer 0 the induction head has nothing to match."),
            claim(
                "Ablating `0.0` costs exactly as much as ablating `1.0`.",
                "SELECT ABS(a - b) < 0.01 AS holds, a, b FROM costs",
                false,
                &[("a", "2.417"), ("b", "3.102"), ("difference", "0.6853")],
            ),
            claim(
                "The loss after the first repeat is below 0.01 nats.",
                "SELECT loss < 0.01, loss FROM losses",
                true,
                &[("loss", "1.2e-4")],
            ),
        ],
        provenance: vec![
            ("attn-circuits".into(), "0.1.0 (3f9c2ab)".into()),
            ("Seed".into(), "2021".into()),
            ("wired".into(), "2 layers × 1 head, d_model 160, vocabulary 33, context 61".into()),
            ("random".into(), "2 layers × 4 heads, d_model 64, d_head 16; 16 replicates".into()),
            ("Inputs".into(), "repeated: 64 sequences, 20 distinct tokens three times".into()),
            ("BLAKE3 of the file".into(), "a7b2c9e45f0d8813a7b2c9e45f0d8813a7b2c9e45f0d8813a7b2c9e45f0d8813".into()),
        ],
        source: "title: Induction heads from K-composition\nseed: 2021\nmodels:\n  wired:\n    kind: wired\n    circuit: induction # a preset that may be spelt out, with a long comment behind it so that the line is wide\n    vocab: 33\n",
    });
}

/// Everything that a browser would run or load, were it not escaped. `text` is hostile in text, attributes and Markdown.
const HOSTILE: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>{{ 7*7 }}</style></title></pre>\
                       [a](javascript:alert(4))![b](https://example.org/b.png) <a href='data:text/html,x'>";

/// The tags of a page outside its text: what lies between `<` and `>`.
fn tags(page: &str) -> Vec<&str> {
    page.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or(rest)).collect()
}

#[test]
fn hostile_text_does_nothing_wherever_it_stands() {
    let data = df!(HOSTILE => [HOSTILE], "x" => [1.5]).unwrap();
    let table = |folded| Block::Table {
        name: HOSTILE,
        caption: HOSTILE.into(),
        query: Some(HOSTILE),
        data: &data,
        csv: format!("javascript:{HOSTILE}"),
        folded,
    };
    let page = render(&Report {
        title: HOSTILE,
        about: Some(HOSTILE),
        blocks: vec![
            Block::Text { markdown: HOSTILE },
            Block::Text { markdown: "# <script>alert(5)</script> <img src=x onerror=alert(6)>\n\n# two\n\n# three" },
            Block::Text { markdown: "<script>\nalert(7)\n</script>\n\n```\"><script>alert(8)</script>\nx\n```\n\na[^\"><script>]\n\n[^\"><script>]: x" },
            table(true),
            table(false),
            Block::Figure {
                number: 1,
                title: HOSTILE,
                caption: Some(HOSTILE),
                svg: "<svg width=\"10\"></svg>",
                path: format!("//{HOSTILE}.svg"),
            },
            Block::Claim { statement: HOSTILE, check: HOSTILE, holds: false, numbers: vec![(HOSTILE.into(), HOSTILE.into())] },
        ],
        provenance: vec![(HOSTILE.into(), HOSTILE.into())],
        source: HOSTILE,
    })
    .unwrap();
    // To see what a browser makes of it.
    if let Ok(path) = std::env::var("REPORT_HOSTILE") {
        std::fs::write(path, &page).unwrap();
    }
    assert!(page.matches("alert(1)").count() > 15, "the text itself is shown");
    assert!(!page.contains("49"), "a template within a value is no template");
    let known = [
        "!doctype",
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "main",
        "footer",
        "section",
        "nav",
        "div",
        "p",
        "span",
        "h1",
        "h2",
        "h3",
        "h4",
        "ul",
        "ol",
        "li",
        "a",
        "code",
        "pre",
        "strong",
        "sup",
        "details",
        "summary",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "wbr",
        "td",
        "figure",
        "figcaption",
        "svg",
        "dl",
        "dt",
        "dd",
    ];
    for tag in tags(&page) {
        let name = tag.trim_start_matches('/').split_whitespace().next().unwrap_or("").to_ascii_lowercase();
        assert!(known.contains(&name.as_str()), "<{tag}>");
        // Within quotation marks anything may stand: cut them out.
        let bare: String = tag.split('"').step_by(2).collect();
        assert!(!bare.to_ascii_lowercase().contains(" on"), "<{tag}>");
        assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
        for target in tag.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap_or("")) {
            let scheme = target.split(['/', '#', '?']).next().unwrap_or("");
            assert!(!scheme.contains(':') || scheme == "https:", "<{tag}>");
        }
        assert!(!bare.contains("src="), "<{tag}>");
    }
    assert_eq!(page.matches("</style>").count(), 1);
    assert_eq!(page.matches("</title>").count(), 1);
}

#[test]
fn a_report_shows_everything_in_order() {
    sample(|report| {
        let page = render(report).unwrap();
        // To look at it: REPORT_SAMPLE=page.html cargo test --lib report::
        if let Ok(path) = std::env::var("REPORT_SAMPLE") {
            std::fs::write(path, &page).unwrap();
        }
        let mut from = 0;
        for part in [
            "<h1>Induction heads",
            "4 of 5 claims hold</h2>",
            "<span class=\"word\">Fails</span> <a href=\"#claim-4\">Ablating <code>0.0</code>",
            "A previous-token head",
            "<nav class=\"contents\"",
            "<li class=\"level-3\"><a href=\"#what-ablation-says\">What ablation says</a>",
            "<h2 id=\"which-head-looks-where\">",
            "<summary>Table <code>head_scores</code> · 500 rows · head_scores of wired",
            "… 480 more rows in <a href=\"tables/head_scores.csv\">",
            "id=\"table-induction_by_head\"",
            "<td>random</td><td class=\"n\">0</td>",
            "<td class=\"n\">1.234e-4</td>",
            "aria-label=\"null\">–</span>",
            "All 8 rows in",
            "FROM head_scores\nWHERE score = &#x27;prefix_matching&#x27;",
            "<figure id=\"figure-1\" style=\"--width: 860px\">",
            "<strong>Figure 1.</strong>",
            "<section class=\"claim fails\" id=\"claim-4\"",
            "Claim 4 <strong>fails</strong>",
            "<code>difference</code> = <span class=\"value\">0.6853</span>",
            "<h2 id=\"provenance\">",
            "<dt>Seed</dt><dd>2021</dd>",
            "title: Induction heads from K-composition\nseed: 2021",
        ] {
            let at = page[from..].find(part).unwrap_or_else(|| panic!("{part} is not where it belongs"));
            from += at;
        }
        assert_eq!(page.matches("<tr>").count(), 1 + 20 + 1 + 8 + 4, "rows are limited");
    });
}

#[test]
fn links_within_the_page_lead_somewhere_and_ids_are_unique() {
    sample(|report| {
        let page = render(report).unwrap();
        let values = |before: &str| -> Vec<String> {
            page.split(before).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
        };
        let ids = values(" id=\"");
        for target in values(" href=\"#") {
            assert_eq!(ids.iter().filter(|id| **id == target).count(), 1, "{target}");
        }
        let mut unique = ids.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), ids.len(), "{ids:?}");
    });
}

#[test]
fn the_same_report_gives_the_same_bytes_and_asks_nobody() {
    sample(|report| {
        let page = render(report).unwrap();
        assert_eq!(page, render(report).unwrap());
        for request in ["<link", "<script", "<img", "<iframe", "@import", "url(", " src="] {
            assert!(!page.contains(request), "{request}");
        }
    });
}

#[test]
fn an_empty_report_is_a_page() {
    let page = render(&Report { title: "", about: None, blocks: vec![], provenance: vec![], source: "" }).unwrap();
    assert!(page.ends_with("</html>") || page.ends_with("</html>\n"));
    assert!(!page.contains("<nav") && !page.contains("id=\"claims\"") && !page.contains("id=\"provenance\""));
}
