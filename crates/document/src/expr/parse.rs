//! From text to the parser's tree: what is too long or too deep is refused before the parser sees it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cel::{
    common::ast::{IdedExpr, SourceInfo},
    parser::Parser,
};

/// The longest expression, in bytes.
pub const MAX_LENGTH: usize = 16 * 1024;
/// How deep brackets may nest.
pub const MAX_NESTING: usize = 48;

/// What is wrong with an expression, and where in its text: line and column from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl Fault {
    /// A fault at a byte of the text.
    pub(super) fn at(source: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = source.get(..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }
}

/// Parses an expression. To be called on a stack of its own: the parser recurses.
pub(super) fn parse(source: &str) -> Result<(IdedExpr, SourceInfo), Fault> {
    if source.len() > MAX_LENGTH {
        let message = format!("the expression is {} bytes long; {MAX_LENGTH} are the most", source.len());
        return Err(Fault::at(source, 0, message));
    }
    if source.trim().is_empty() {
        return Err(Fault::at(source, 0, "the expression is empty; the empty text is `\"\"`, in quotes of its own"));
    }
    if let Some(offset) = too_deep(source) {
        return Err(Fault::at(source, offset, format!("brackets nest deeper than {MAX_NESTING}")));
    }
    match catch_unwind(AssertUnwindSafe(|| Parser::new().parse_with_source_info(source))) {
        Ok(Ok(parsed)) => Ok(parsed),
        // What the parser says of its own unfinished tree comes first, and tells nothing.
        Ok(Err(errors)) => Err(errors.errors.iter().find(|e| !e.msg.starts_with("Incomplete")).map_or_else(
            || Fault::at(source, 0, "syntax error"),
            |e| Fault {
                line: usize::try_from(e.pos.0).unwrap_or(0).max(1),
                column: usize::try_from(e.pos.1).unwrap_or(0).max(1),
                message: plain(&e.msg),
            },
        )),
        Err(_) => Err(Fault::at(source, 0, "syntax error: the parser cannot make sense of it")),
    }
}

/// A message of the parser without what only its authors understand.
fn plain(message: &str) -> String {
    if message.contains("Recursion limit") {
        return "it nests too deep; name parts of it with steps of their own".to_owned();
    }
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let message = message.split(" expecting {").next().unwrap_or(message);
    let message = message.replace("'<EOF>'", "the end of the expression").replace("<EOF>", "the end of the expression");
    let told = [
        ("mismatched input ", "did not expect "),
        ("extraneous input ", "did not expect "),
        ("no viable alternative at input ", "cannot make sense of "),
        ("token recognition error at: ", "did not expect "),
    ];
    let ours = told.iter().find_map(|(theirs, ours)| Some(format!("{ours}{}", message.strip_prefix(theirs)?)));
    format!("syntax error: {}", ours.unwrap_or(message))
}

/// The byte at which the first bracket opens that is too deep. Knows texts and comments.
fn too_deep(source: &str) -> Option<usize> {
    let chars: Vec<char> = source.chars().collect();
    let mut depth = 0usize;
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '(' | '[' | '{' => {
                depth += 1;
                if depth > MAX_NESTING {
                    return Some(chars[..at].iter().map(|c| c.len_utf8()).sum());
                }
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '/' if chars.get(at + 1) == Some(&'/') => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
            }
            '"' | '\'' => at = text_end(&chars, at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The last character of the text that begins at `start`, or the end.
fn text_end(chars: &[char], start: usize) -> usize {
    let quote = chars[start];
    let is_raw = start > 0 && matches!(chars[start - 1], 'r' | 'R');
    let is_triple = chars[start..].starts_with(&[quote; 3]);
    let mut at = start + if is_triple { 3 } else { 1 };
    while at < chars.len() {
        match chars[at] {
            '\\' if !is_raw => at += 1,
            c if c == quote && !is_triple => return at,
            c if c == quote && chars[at..].starts_with(&[quote; 3]) => return at + 2,
            _ => {}
        }
        at += 1;
    }
    chars.len()
}
