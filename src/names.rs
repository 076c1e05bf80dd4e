//! Names in messages: what a misspelt one was meant to be, and no more of them than can be read.

/// The entry of `known` that `found` is likely to be a slip for.
pub fn closest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    // Longer texts are no names, and the distance is quadratic in the length.
    if found.is_empty() || found.len() > 100 {
        return None;
    }
    let normal = |name: &str| name.to_lowercase().replace(['-', ' '], "_");
    let wanted = normal(found);
    let scored = known.iter().map(|&name| (strsim::damerau_levenshtein(&wanted, &normal(name)), name));
    let near = scored.filter(|&(distance, name)| distance <= (name.chars().count().max(found.chars().count()) / 3).max(1));
    // A one-letter name is one edit away from every other: only its other case is a slip.
    near.filter(|&(distance, name)| distance < name.chars().count() && distance < found.chars().count())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// `a, b, c`, shortened where it is long.
pub fn some(names: &[&str]) -> String {
    const MOST: usize = 20;
    let shown: Vec<String> = names.iter().take(MOST).map(|name| shorten(name)).collect();
    match names.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A text from a file, cut where it is too long for a message.
pub fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_string(),
    }
}

/// `1 figure`, `3 figures`, `2 queries`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {}", if count == 1 { noun.to_string() } else { plural(noun) })
}

/// `figures`, `queries`.
pub fn plural(noun: &str) -> String {
    noun.strip_suffix('y').map_or_else(|| format!("{noun}s"), |stem| format!("{stem}ies"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_slips_not_guesses() {
        assert_eq!(closest("head_score", &["loss", "head_scores"]), Some("head_scores"));
        assert_eq!(closest("head-scores", &["loss", "head_scores"]), Some("head_scores"));
        assert_eq!(closest("peroid", &["period", "repeats"]), Some("period"));
        assert_eq!(closest("vocabulary", &["layers", "heads"]), None);
        assert_eq!(closest("x", &["y"]), None);
        assert_eq!(closest("", &["y"]), None);
    }

    #[test]
    fn messages_stay_readable() {
        assert_eq!(some(&["a", "b"]), "a, b");
        assert_eq!(some(&["x"; 25]), format!("{} and 5 more", ["x"; 20].join(", ")));
        assert_eq!(some(&["é".repeat(1000).as_str()]), format!("{}…", "é".repeat(60)));
    }
}
