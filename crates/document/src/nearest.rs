//! The known name nearest to one that is not known.

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

/// `; did you mean …?` where a known name is near, `; there are …` where not.
pub(crate) fn or_known<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => {
            let all: Vec<&str> = known.into_iter().collect();
            if all.is_empty() { String::new() } else { format!("; there are {}", all.join(", ")) }
        }
    }
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
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["update", "emit", "interrupt"];
        assert_eq!(nearest("updte", known), Some("update"));
        assert_eq!(nearest("intrrupt", known), Some("interrupt"));
        assert_eq!(nearest("sleep", known), None);
        assert_eq!(or_known("sleep", known), "; there are update, emit, interrupt");
    }
}
