//! What a misspelt name was meant to be.

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
}
