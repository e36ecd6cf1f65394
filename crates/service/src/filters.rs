//! What of a log a reader wants: modes, and which events; as a run keeps it, and as a reader asks.

use runloom::v1;
use runloom_core::{FilterSpec, ReadOptions, Selector};
use runloom_engine::stream::{EventFilter, Mode, Modes};

use crate::{
    check::{Check, under},
    convert::event::kind_inside,
};

/// The longest a pattern may be, in characters, and how many of them a field may have.
pub(crate) const MAX_PATTERN: usize = 512;
const MAX_LIST: usize = 1000;

/// Modes; none where the list is empty.
pub(crate) fn modes(check: &mut Check, path: &str, modes: &[i32]) -> Option<Modes> {
    let modes = check.each_of::<v1::StreamMode>(path, modes).into_iter().filter_map(mode);
    Some(modes.collect::<Modes>()).filter(|modes| !modes.is_empty())
}

fn mode(mode: v1::StreamMode) -> Option<Mode> {
    Mode::of_grpc(mode.as_str_name())
}

/// A filter, as it is kept.
pub(crate) fn filter(check: &mut Check, path: &str, filter: Option<v1::EventFilter>) -> FilterSpec {
    let filter = filter.unwrap_or_default();
    FilterSpec {
        include: selector(check, &under(path, "include"), filter.include),
        exclude: selector(check, &under(path, "exclude"), filter.exclude),
        skip_empty_chunks: filter.skip_empty_chunks,
    }
}

fn selector(check: &mut Check, path: &str, selector: Option<v1::EventSelector>) -> Selector {
    let selector = selector.unwrap_or_default();
    let kinds = check.each_of::<v1::EventKind>(&under(path, "kinds"), &selector.kinds);
    Selector {
        kinds: kinds.into_iter().filter_map(kind_inside).map(|kind| kind.name().to_owned()).collect(),
        names: patterns(check, &under(path, "names"), selector.names),
        nodes: patterns(check, &under(path, "nodes"), selector.nodes),
        tags: patterns(check, &under(path, "tags"), selector.tags),
        namespaces: patterns(check, &under(path, "namespaces"), selector.namespaces),
    }
}

/// Globs of the contract know `*` and `?` only; those inside know more, which is taken as it stands.
fn patterns(check: &mut Check, path: &str, patterns: Vec<String>) -> Vec<String> {
    let mut globs = texts(check, path, patterns, MAX_PATTERN);
    for glob in &mut globs {
        if glob.contains(['[', ']', '{', '}', '\\']) {
            *glob = glob.chars().fold(String::new(), |mut escaped, c| {
                match c {
                    '[' | ']' | '{' | '}' | '\\' => escaped.extend(['[', c, ']']),
                    c => escaped.push(c),
                }
                escaped
            });
        }
    }
    globs
}

/// Texts of at most so many characters, and not too many of them.
pub(crate) fn texts(check: &mut Check, path: &str, texts: Vec<String>, max: usize) -> Vec<String> {
    if texts.len() > MAX_LIST {
        check.fail(path, format!("{} entries; at most {MAX_LIST}", texts.len()));
        return Vec::new();
    }
    texts.into_iter().enumerate().map(|(i, text)| check.text(&format!("{path}[{i}]"), text, max)).collect()
}

/// What a reader wants of a log.
pub(crate) fn read_options(
    check: &mut Check,
    stream_modes: &[i32],
    event_filter: Option<v1::EventFilter>,
) -> ReadOptions {
    let modes = modes(check, "stream_modes", stream_modes);
    let filter = match filter(check, "event_filter", event_filter).compile() {
        Ok(filter) => filter,
        Err(error) => {
            check.take("", error);
            EventFilter::default()
        }
    };
    ReadOptions { modes, filter, ..ReadOptions::default() }
}

#[cfg(test)]
mod tests {
    use runloom::v1::{EventKind, EventSelector};

    use super::*;

    #[test]
    fn globs_know_two_signs() {
        let mut check = Check::default();
        let filter = v1::EventFilter {
            include: Some(EventSelector {
                names: vec![r"a[1]{\}*".into()],
                kinds: vec![EventKind::Custom.into()],
                ..Default::default()
            }),
            ..Default::default()
        };
        let spec = filter_of(&mut check, filter);
        let tags: [std::sync::Arc<str>; 0] = [];
        let admits = |name| spec.admits(runloom_engine::stream::EventKind::Custom, name, None, "", tags.iter());
        assert!(admits(r"a[1]{\}b") && !admits("a1b"));
        assert!(check.done().is_ok());
    }

    fn filter_of(check: &mut Check, filter: v1::EventFilter) -> EventFilter {
        self::filter(check, "f", Some(filter)).compile().unwrap()
    }
}
