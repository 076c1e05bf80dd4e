//! The page over all reports of a results folder.

use super::markdown::{self, Prose};
use super::svg::base64;
use super::{broken, environment, href, html, pairs};
use crate::Result;
use minijinja::{Value, context};

/// How the page says what wrote it, after the program's version.
const GENERATOR: &str = ", index of results";

/// An experiment on the page, as [`render_index`] takes it.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Name of its folder, beside the page.
    pub folder: String,
    /// Title (plain text).
    pub title: &'a str,
    /// Opening prose (Markdown), of which the first sentence is shown.
    pub about: Option<&'a str>,
    /// Its claims.
    pub claims: Vec<Claim<'a>>,
    /// Title and SVG document of its first figure.
    pub thumbnail: Option<(&'a str, Vec<u8>)>,
}

/// A claim on the page; of an [`Entry`].
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// The sentence (Markdown).
    pub statement: &'a str,
    /// Whether it holds.
    pub holds: bool,
    /// The numbers that were compared: name and value.
    pub numbers: Vec<(String, String)>,
}

/// Renders the page. The same entries give the same bytes.
///
/// Figures are images within the page, in which nothing can act, whatever the file holds.
///
/// ```
/// use attn_circuits::report::{Claim, Entry, is_index, render_index};
/// let numbers = vec![("layers".to_string(), "2".to_string())];
/// let claims = vec![Claim { statement: "It is *here*.", holds: true, numbers }];
/// let entry = Entry { folder: "heads".into(), title: "Heads <b>", about: Some("One. Two."), claims, thumbnail: None };
/// let page = render_index(&[entry])?;
/// assert!(page.contains("Heads &lt;b&gt;") && page.contains("<p>One.</p>") && page.contains("It is <em>here</em>."));
/// assert!(is_index(&page));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Invalid`] if the template fails, which is a defect.
pub fn render_index(entries: &[Entry]) -> Result<String> {
    let mut prose = Prose::default();
    let (mut held, mut total) = (0, 0);
    let mut shown: Vec<Value> = Vec::with_capacity(entries.len());
    for entry in entries {
        let holding = entry.claims.iter().filter(|claim| claim.holds).count();
        held += holding;
        total += entry.claims.len();
        let claims: Vec<Value> = entry
            .claims
            .iter()
            .map(|Claim { statement, holds, numbers }| {
                context! { holds, line => html(markdown::line(statement)), numbers => pairs(numbers) }
            })
            .collect();
        shown.push(context! {
            id => prose.id(&entry.folder),
            folder => &entry.folder,
            report => href(&format!("{}/report.html", entry.folder)),
            title => entry.title,
            about => entry.about.map(markdown::first_sentence).filter(|text| !text.is_empty()).map(html),
            held => holding,
            claims,
            thumbnail => entry.thumbnail.as_ref().map(|(title, svg)| context! { title => *title, data => html(base64(svg)) }),
        });
    }
    let page = context! {
        style => html(concat!(include_str!("style.css"), include_str!("index.css")).to_owned()),
        generator => format!("attn-circuits {}{GENERATOR}", env!("CARGO_PKG_VERSION")),
        entries => shown,
        held, total,
    };
    let environment = environment("index.html", include_str!("index.html"))?;
    environment.get_template("index.html").and_then(|template| template.render(page)).map_err(broken)
}

/// Whether a page is one that [`render_index`] wrote, in whatever version of the program.
pub fn is_index(page: &str) -> bool {
    let mark = "<meta name=\"generator\" content=\"attn-circuits ";
    let head = page.split("</head>").next().unwrap_or_default();
    head.split(mark).nth(1).and_then(|rest| rest.split('"').next()).is_some_and(|content| content.ends_with(GENERATOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_on_the_page_can_act() {
        let attack = "</title><script>alert(1)</script><img src=x onerror=alert(1)>";
        let entry = Entry {
            folder: format!("javascript:{attack}"),
            title: attack,
            about: Some(attack),
            claims: vec![Claim { statement: attack, holds: false, numbers: vec![(attack.to_string(), attack.to_string())] }],
            thumbnail: Some(("\"><script>", attack.as_bytes().to_vec())),
        };
        let page = render_index(&[entry]).unwrap();
        assert!(!page.contains("<script") && !page.contains("<img src=x") && !page.contains("href=\"javascript:"), "{page}");
        assert_eq!(page.matches("<img ").count(), 1);
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn pages_of_others_are_told_apart() {
        let page = render_index(&[]).unwrap();
        assert!(is_index(&page));
        let report = page.replace(GENERATOR, "");
        let quoting = format!("<html><head></head><body>{page}</body></html>");
        for other in ["", "<html><head><title>Mine</title></head></html>", &report, &quoting] {
            assert!(!is_index(other), "{other:.100}");
        }
    }

    #[test]
    fn failed_claims_stand_open() {
        let entry = |holds: bool| Entry {
            folder: "x".into(),
            title: "X",
            about: None,
            claims: [("One.", holds), ("Two.", true)]
                .map(|(statement, holds)| Claim { statement, holds, numbers: vec![] })
                .into(),
            thumbnail: None,
        };
        let [good, bad] = [true, false].map(|holds| render_index(&[entry(holds)]).unwrap());
        assert!(good.contains("<details class=\"claims all\">") && good.contains("2 of 2 claims hold</summary>"), "{good}");
        assert!(bad.contains("<details class=\"claims\" open>") && bad.contains("1 of 2 claims hold</summary>"), "{bad}");
        assert!(bad.contains("<a href=\"x/report.html#claim-2\">Two.</a>"), "{bad}");
    }
}
