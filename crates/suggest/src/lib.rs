//! "Did you mean" for error messages: the known name that an unknown one was probably meant to be.

/// Longer names are not compared.
const MAX_LENGTH: usize = 100;
/// The most names that a message lists.
const MAX_LISTED: usize = 20;

/// The known name nearest to `name`, if it is near enough.
///
/// One edit (a letter more, less or other, or two swapped) is near; from six letters on, one edit for every three letters.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_LENGTH {
        return None;
    }
    let length = name.chars().count();
    known
        .into_iter()
        .filter(|known| known.len() <= MAX_LENGTH)
        .map(|known| (strsim::osa_distance(name, known), known))
        .filter(|(distance, known)| {
            let known = known.chars().count();
            *distance <= (known.min(length) / 3).max(1) && *distance < known.max(length)
        })
        .min()
        .map(|(_, known)| known)
}

/// `; did you mean …?` if a known name is near, else nothing.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// `; did you mean …?` if a known name is near, else `; there are …` with the known names, if any.
pub fn or_known<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match (nearest(name, known.clone()), list(known)) {
        (Some(near), _) => format!("; did you mean `{near}`?"),
        (None, all) if all.is_empty() => String::new(),
        (None, all) => format!("; there are {all}"),
    }
}

/// Names separated by commas, at most twenty.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let mut text = names.by_ref().take(MAX_LISTED).collect::<Vec<_>>().join(", ");
    if names.next().is_some() {
        text.push_str(", …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["update", "emit", "interrupt", "joke", "two", "n"];
        for (name, near) in [
            ("updte", Some("update")),
            ("intrrupt", Some("interrupt")),
            ("interupd", Some("interrupt")),
            ("tow", Some("two")),
            ("jokes", Some("joke")),
            ("nn", Some("n")),
            ("nope", None),
            ("m", None),
            ("sleep", None),
        ] {
            assert_eq!(nearest(name, known), near, "{name}");
        }
        assert_eq!(nearest(&"n".repeat(101), known), None);
    }

    #[test]
    fn an_unknown_word_is_answered_with_what_there_is() {
        assert_eq!(or_known("agnet", ["agent", "research"]), "; did you mean `agent`?");
        assert_eq!(or_known("weather", ["agent", "research"]), "; there are agent, research");
        assert_eq!(or_known("weather", []), "");
        let many: Vec<String> = (0..30).map(|n| format!("node-{n:02}")).collect();
        let text = list(many.iter().map(String::as_str));
        assert!(text.ends_with("node-19, …"), "{text}");
    }
}
