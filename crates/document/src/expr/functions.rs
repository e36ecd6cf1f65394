//! The functions of expressions: which there are, and with how many arguments.

use regex::{Regex, RegexBuilder};

use crate::suggest::or_known;

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    Matches,
    String,
    Int,
    UInt,
    Double,
    Bool,
    Type,
    Dyn,
    Min,
    Max,
    CharAt,
    IndexOf,
    LastIndexOf,
    LowerAscii,
    UpperAscii,
    Replace,
    Split,
    Substring,
    Trim,
    Join,
    Reverse,
    Flatten,
    Distinct,
    Sort,
    Slice,
}

/// A function with its name, its numbers of arguments where called as `f(x)`, and as `x.f()`.
type Entry = (Function, &'static str, &'static [usize], &'static [usize]);

/// CEL's standard functions, and those of its extensions for texts and lists that documents want.
const TABLE: &[Entry] = &[
    (Function::Size, "size", &[1], &[0]),
    (Function::Contains, "contains", &[], &[1]),
    (Function::StartsWith, "startsWith", &[], &[1]),
    (Function::EndsWith, "endsWith", &[], &[1]),
    (Function::Matches, "matches", &[2], &[1]),
    (Function::String, "string", &[1], &[]),
    (Function::Int, "int", &[1], &[]),
    (Function::UInt, "uint", &[1], &[]),
    (Function::Double, "double", &[1], &[]),
    (Function::Bool, "bool", &[1], &[]),
    (Function::Type, "type", &[1], &[]),
    (Function::Dyn, "dyn", &[1], &[]),
    (Function::Min, "min", &[1, 2, 3, 4, 5, 6, 7, 8], &[]),
    (Function::Max, "max", &[1, 2, 3, 4, 5, 6, 7, 8], &[]),
    (Function::CharAt, "charAt", &[], &[1]),
    (Function::IndexOf, "indexOf", &[], &[1, 2]),
    (Function::LastIndexOf, "lastIndexOf", &[], &[1]),
    (Function::LowerAscii, "lowerAscii", &[], &[0]),
    (Function::UpperAscii, "upperAscii", &[], &[0]),
    (Function::Replace, "replace", &[], &[2, 3]),
    (Function::Split, "split", &[], &[1, 2]),
    (Function::Substring, "substring", &[], &[1, 2]),
    (Function::Trim, "trim", &[], &[0]),
    (Function::Join, "join", &[], &[0, 1]),
    (Function::Reverse, "reverse", &[], &[0]),
    (Function::Flatten, "flatten", &[], &[0]),
    (Function::Distinct, "distinct", &[], &[0]),
    (Function::Sort, "sort", &[], &[0]),
    (Function::Slice, "slice", &[], &[2]),
];

/// What the parser takes for macros, and so for calls with other numbers of arguments.
const MACROS: &[(&str, &str)] = &[
    ("has", "has(state.field)"),
    ("map", "list.map(item, expression)"),
    ("filter", "list.filter(item, condition)"),
    ("all", "list.all(item, condition)"),
    ("exists", "list.exists(item, condition)"),
    ("exists_one", "list.exists_one(item, condition)"),
];

impl Function {
    /// The function of a name, called with so many arguments beside what stands on its left.
    pub fn find(name: &str, args: usize, is_method: bool) -> Result<Self, String> {
        if let Some((_, form)) = MACROS.iter().find(|(m, _)| *m == name) {
            return Err(format!("`{name}` is written `{form}`"));
        }
        let Some((function, _, global, method)) = TABLE.iter().find(|(_, n, ..)| *n == name) else {
            let known = TABLE.iter().map(|(_, n, ..)| *n).chain(MACROS.iter().map(|(m, _)| *m));
            return Err(format!("there is no function `{name}`{}", or_known(name, known)));
        };
        let (here, other) = if is_method { (method, global) } else { (global, method) };
        if here.contains(&args) {
            return Ok(*function);
        }
        let counts = |counts: &[usize]| counts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
        Err(match (here.is_empty(), is_method) {
            (true, true) => format!("`{name}` is a function and not a method: `{name}(x)`"),
            (true, false) => {
                format!("`{name}` is a method and not a function: `x.{name}({})`", if other == &[0] { "" } else { "…" })
            }
            (false, _) => format!("`{name}` takes {} arguments here, not {args}", counts(here)),
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|(f, ..)| *f == self).map_or("", |(_, n, ..)| n)
    }
}

/// The name of a type, as `type(x)` gives it: `type(x) == string`.
pub(super) fn type_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "int" | "uint" => "int",
        "double" => "double",
        "string" => "string",
        "bool" => "bool",
        "list" => "list",
        "map" => "map",
        "null_type" => "null_type",
        _ => return None,
    })
}

/// Compiles a pattern. Matching takes time linear in the text; the pattern's own size is bounded.
pub(super) fn pattern(text: &str) -> Result<Regex, String> {
    if text.len() > 1024 {
        return Err("a pattern may be 1024 bytes long".to_owned());
    }
    RegexBuilder::new(text).size_limit(1 << 20).dfa_size_limit(1 << 20).build().map_err(|e| match e {
        regex::Error::CompiledTooBig(_) => "the pattern is too large once compiled".to_owned(),
        _ => format!("`{text}` is not a pattern: {}", e.to_string().lines().last().unwrap_or_default()),
    })
}
