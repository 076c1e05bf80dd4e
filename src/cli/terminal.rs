//! What is said to the user, on either stream.
//!
//! Much of it is text from experiments, tables and results that somebody else made. It is shown, and not obeyed: characters that
//! would steer a terminal, or make it show a line in another order than it reads, are spelt out.

use crate::{Error, Result};
use std::io::{self, Write};
use std::ops::RangeInclusive;

/// Writes to standard output. That its reader has seen enough (`list | head`) is no error.
pub(super) fn say(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(plain(text).as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Error::io("standard output")),
    }
}

/// Writes a line to standard error. Where that cannot be done, nobody is there to be told.
pub(super) fn tell(line: &str) {
    write_error(&plain(line));
}

/// Writes what is wrong to standard error.
pub(super) fn tell_error(error: &Error) {
    write_error(&message(error));
}

fn write_error(plain: &str) {
    let _ = writeln!(io::stderr(), "{plain}");
}

/// What is wrong, as it is shown.
pub(super) fn message(error: &Error) -> String {
    let text = match error {
        // The places in a file are shown in colours.
        Error::Experiment(text) => spelt_out(text, colour),
        other => plain(&other.to_string()),
    };
    if text.starts_with("error") || colour(&text) > 0 { text } else { format!("error: {text}") }
}

/// The text with everything spelt out that would not be shown as it is.
pub(super) fn plain(text: &str) -> String {
    spelt_out(text, |_| 0)
}

/// [`plain`], but for bytes at the start of the rest of the text that `kept` counts.
fn spelt_out(text: &str, kept: impl Fn(&str) -> usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let whole = kept(rest);
        let taken = whole.max(c.len_utf8());
        if whole == 0 && steers(c) {
            out.extend(c.escape_default())
        } else {
            out.push_str(&rest[..taken])
        }
        rest = &rest[taken..];
    }
    out
}

/// Marks that change in which direction text is shown.
const ORDER: [RangeInclusive<char>; 4] =
    ['\u{61c}'..='\u{61c}', '\u{200e}'..='\u{200f}', '\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}'];

/// Whether a character does something to a terminal, or to the order in which it shows the others.
fn steers(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t') || ORDER.iter().any(|marks| marks.contains(&c))
}

/// Length of the code for a colour at the start of a text; 0 if there is none.
fn colour(text: &str) -> usize {
    const START: &str = "\u{1b}[";
    let Some(code) = text.strip_prefix(START) else { return 0 };
    let end = code.find(|c: char| !(c.is_ascii_digit() || c == ';'));
    end.filter(|&end| code[end..].starts_with('m')).map_or(0, |end| START.len() + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_spelt_out() {
        for (text, shown) in [
            ("a line\n\tand é, ✓ and 漢", "a line\n\tand é, ✓ and 漢"),
            ("\u{1b}[2J\r\u{7}", "\\u{1b}[2J\\r\\u{7}"),
            ("\u{9b}2J\u{7f}\0", "\\u{9b}2J\\u{7f}\\u{0}"),
            ("a\u{202e}b\u{202c}c\u{2066}d\u{2069}", "a\\u{202e}b\\u{202c}c\\u{2066}d\\u{2069}"),
            ("a\u{200f}b\u{61c}", "a\\u{200f}b\\u{61c}"),
            ("\u{1b}[31mred\u{1b}[0m", "\\u{1b}[31mred\\u{1b}[0m"),
        ] {
            assert_eq!(plain(text), shown);
        }
    }

    #[test]
    fn only_problems_of_a_file_have_colours() {
        let text = "\u{1b}[1m\u{1b}[38;5;9merror\u{1b}[0m: \u{1b}[2J \u{1b}[3 \u{1b}[";
        let shown = "\u{1b}[1m\u{1b}[38;5;9merror\u{1b}[0m: \\u{1b}[2J \\u{1b}[3 \\u{1b}[";
        assert_eq!(message(&Error::Experiment(text.into())), shown);
        assert_eq!(message(&Error::invalid("\u{1b}[31mred")), "error: \\u{1b}[31mred");
        let said = message(&Error::file("a\u{1b}[2J", "is \u{202e}wrong"));
        assert_eq!(said, "error: a\\u{1b}[2J: is \\u{202e}wrong");
        assert_eq!(message(&Error::Experiment("error: one".into())), "error: one");
    }
}
