//! A document as it was written: YAML or JSON as a tree whose every part knows its line and column.

use std::{cell::Cell, fmt, sync::Arc};

use runloom_engine::{Object, Value};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Location, MessageFormatter, Spanned, UserMessageFormatter};

use crate::error::Problem;

/// The largest document, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// A part of a document.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub data: Data,
    pub at: At,
}

/// A place in a document's text, from 1; 0 where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub line: u64,
    pub column: u64,
}

impl From<Location> for At {
    fn from(location: Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Data {
    Scalar(Value),
    List(Vec<Tree>),
    Map(Vec<(Key, Tree)>),
}

/// A key of a map.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub name: Arc<str>,
    pub at: At,
}

impl Tree {
    /// Reads a document.
    pub fn parse(file: &Arc<str>, text: &str) -> Result<Self, Problem> {
        let problem =
            |line, column, message: String| Problem { file: file.clone(), line, column, place: String::new(), message };
        if text.len() > MAX_BYTES {
            return Err(problem(0, 0, format!("the document has {} bytes; {MAX_BYTES} are the most", text.len())));
        }
        // Reading recurses: on a stack that holds whatever the budget lets through.
        let parsed = on_large_stack(|| {
            let options = serde_saphyr::options! {
                strict_booleans: true,
                with_snippet: false,
                budget: serde_saphyr::budget! { max_nodes: 20_000, max_depth: 64, max_aliases: 1_000, max_documents: 2 },
            };
            let read = serde_saphyr::from_str_with_options::<Tree>(text, options);
            read.map_err(|error| {
                let at = error.location().map_or(At::default(), At::from);
                (at, UserMessageFormatter.format_message(error.without_snippet()).into_owned())
            })
        });
        let (at, message) = match parsed {
            Some(Ok(tree)) => return Ok(tree),
            Some(Err(error)) => error,
            None => (At::default(), "the document cannot be read".to_owned()),
        };
        // JSON is YAML but for some escapes of its texts.
        if text.trim_start().starts_with('{')
            && let Ok(value) = serde_json::from_str::<Value>(text)
        {
            return Ok(Self::from_value(&value));
        }
        Err(problem(at.line, at.column, message))
    }

    /// A tree whose places are not known.
    fn from_value(value: &Value) -> Self {
        let data = match value {
            Value::List(items) => Data::List(items.iter().map(Self::from_value).collect()),
            Value::Object(fields) => Data::Map(
                fields.iter().map(|(k, v)| (Key { name: k.clone(), at: At::default() }, Self::from_value(v))).collect(),
            ),
            scalar => Data::Scalar(scalar.clone()),
        };
        Self { data, at: At::default() }
    }

    /// The JSON that was written.
    pub fn to_value(&self) -> Value {
        match &self.data {
            Data::Scalar(v) => v.clone(),
            Data::List(items) => Value::List(items.iter().map(Self::to_value).collect()),
            Data::Map(fields) => {
                Value::Object(fields.iter().map(|(k, v)| (k.name.clone(), v.to_value())).collect::<Object>())
            }
        }
    }

    /// The text, where it is one.
    pub fn as_text(&self) -> Option<&Arc<str>> {
        match &self.data {
            Data::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(&self.data, Data::Scalar(Value::Null))
    }

    /// A field of a map.
    pub fn get(&self, name: &str) -> Option<&Tree> {
        match &self.data {
            Data::Map(fields) => fields.iter().find(|(k, _)| &*k.name == name).map(|(_, v)| v),
            _ => None,
        }
    }

    /// What was found here, as an error says it.
    pub fn kind(&self) -> String {
        match &self.data {
            Data::Scalar(Value::String(text)) if text.len() < 60 => format!("the text `{text}`"),
            Data::Scalar(v @ (Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_))) => format!("`{v}`"),
            Data::Scalar(Value::Null) => "nothing".to_owned(),
            Data::Scalar(v) => v.kind().to_owned(),
            Data::List(_) => "a list".to_owned(),
            Data::Map(_) => "a map".to_owned(),
        }
    }
}

thread_local! {
    /// Whether this thread's stack is a large one already.
    static IS_LARGE: Cell<bool> = const { Cell::new(false) };
}

/// Runs work on a stack that is large enough for what recurses. `None` where it panicked, or no thread could be had.
pub(crate) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    if IS_LARGE.get() {
        return Some(work());
    }
    let marked = || {
        IS_LARGE.set(true);
        work()
    };
    std::thread::scope(|scope| {
        std::thread::Builder::new().stack_size(32 << 20).spawn_scoped(scope, marked).ok()?.join().ok()
    })
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Data>::deserialize(deserializer)?;
        Ok(Self { data: spanned.value, at: spanned.referenced.into() })
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Build)
    }
}

struct Build;

impl<'de> Visitor<'de> for Build {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of YAML or JSON")
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Data, E> {
        Ok(Data::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        Deserialize::deserialize(deserializer)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Data, E> {
        Ok(Data::Scalar(v.into()))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Data, E> {
        Ok(Data::Scalar(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Data, E> {
        Ok(Data::Scalar(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Data, E> {
        Ok(Data::Scalar(v.into()))
    }

    fn visit_str<E>(self, v: &str) -> Result<Data, E> {
        Ok(Data::Scalar(v.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Data, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Tree>()? {
            items.push(item);
        }
        Ok(Data::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Data, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let key = Key { name: key.value.into(), at: key.referenced.into() };
            fields.push((key, map.next_value::<Tree>()?));
        }
        Ok(Data::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use runloom_engine::value;

    use super::*;

    fn parse(text: &str) -> Result<Tree, Problem> {
        Tree::parse(&"a.yaml".into(), text)
    }

    #[test]
    fn every_part_knows_its_place() {
        let tree = parse("a: 1\nb:\n  - x\n  - { c: [true, null] }\n").unwrap();
        let b = tree.get("b").unwrap();
        let Data::List(items) = &b.data else { panic!("{b:?}") };
        assert_eq!(items[1].get("c").unwrap().at, At { line: 4, column: 10 });
        assert_eq!(tree.get("a").unwrap().at, At { line: 1, column: 4 });
        let Data::Map(fields) = &tree.data else { panic!("{tree:?}") };
        assert_eq!(fields[1].0.at, At { line: 2, column: 1 });
        assert_eq!(tree.to_value(), value!({"a": 1, "b": ["x", {"c": [true, null]}]}));
    }

    #[test]
    fn scalars_are_what_they_say() {
        let tree =
            parse("{a: yes, b: true, c: 18446744073709551615, d: -1, e: 1.5, f: '1', g: ~, h: on, i: 1e3, j: 0x10}");
        let expected = value!({
            "a": "yes", "b": true, "c": u64::MAX, "d": -1, "e": 1.5, "f": "1", "g": null, "h": "on", "i": 1000.0, "j": 16
        });
        assert_eq!(tree.unwrap().to_value().to_string(), expected.to_string());
    }

    #[test]
    fn json_is_read_too_with_its_own_escapes() {
        let tree = parse("{\n\t\"a\": \"\\ud83d\\ude00 \\/ \\u00e9\",\n\t\"b\": [1, 2.5, null]\n}").unwrap();
        assert_eq!(tree.to_value(), value!({"a": "😀 / é", "b": [1, 2.5, null]}));
    }

    #[test]
    fn what_cannot_be_read_names_its_place() {
        for (text, line, says) in [
            ("a: [1\nb: 2", 2, ""),
            ("a: 1\na: 2", 2, "duplicate"),
            ("a: *nope", 1, "unknown"),
            ("a: 1\n---\nb: 2", 3, "document"),
            ("a:\n\tb: 1", 2, ""),
            ("a: .nan", 1, ""),
        ] {
            let problem = parse(text).unwrap_err();
            assert_eq!(problem.line, line, "{text:?}: {problem}");
            assert!(problem.message.to_lowercase().contains(says), "{text:?}: {problem}");
        }
    }

    #[test]
    fn what_would_explode_is_refused() {
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert!(parse(&format!("a: {deep}")).is_err());
        let bomb: String = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned(), |text, i| {
            let p = i - 1;
            text + &format!("a{i}: &a{i} [*a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}]\n")
        });
        assert!(parse(&bomb).is_err());
        assert!(parse(&format!("a: {}", "x".repeat(MAX_BYTES))).unwrap_err().message.contains("bytes"));
        assert!(parse(&"- - ".repeat(10_000)).is_err());
        assert!(parse(&"{a: ".repeat(10_000)).is_err());
        let wide = "[".to_owned() + &"1,".repeat(60_000) + "1]";
        assert!(parse(&wide).is_err());
    }
}
