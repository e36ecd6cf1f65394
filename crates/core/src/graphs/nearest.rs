//! The known name nearest to one that is not known, for errors.

/// The nearest of the known names, where one is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 100 {
        return None;
    }
    known
        .into_iter()
        .filter(|k| k.len() <= 100)
        .map(|k| (distance(name, k), k))
        .filter(|(d, k)| *d <= 1 + k.chars().count().min(name.chars().count()) / 3)
        .min()
        .map(|(_, k)| k)
}

/// `; did you mean …?` where a known name is near, else `; there are …` with some of them.
pub(crate) fn or_known<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(name, known.clone()) {
        return format!("; did you mean `{near}`?");
    }
    match some(known) {
        all if all.is_empty() => String::new(),
        all => format!("; there are {all}"),
    }
}

/// Up to twenty names, separated by commas.
pub(crate) fn some<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let mut text = names.by_ref().take(20).collect::<Vec<_>>().join(", ");
    if names.next().is_some() {
        text.push_str(", …");
    }
    text
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_told_what_there_is() {
        let known = ["agent", "research"];
        assert_eq!(or_known("agnet", known), "; did you mean `agent`?");
        assert_eq!(or_known("weather", known), "; there are agent, research");
        assert_eq!(or_known("weather", []), "");
    }
}
