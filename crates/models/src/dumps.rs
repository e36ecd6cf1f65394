//! JSON text as Python's `json.dumps` spaces it, which is what LangChain's users see in tool call chunks.

use std::fmt::Write;

use runloom_engine::Value;

/// The JSON text of a value, with a space after every `:` and `,`. With `ascii`, other characters are written as
/// `\uXXXX`, as `json.dumps` does by default.
pub fn dumps(value: &Value, ascii: bool) -> String {
    let mut out = String::new();
    put(&mut out, value, ascii);
    out
}

fn put(out: &mut String, value: &Value, ascii: bool) {
    match value {
        Value::String(text) => put_text(out, text, ascii),
        Value::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                put(out, item, ascii);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (i, (key, item)) in fields.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                put_text(out, key, ascii);
                out.push_str(": ");
                put(out, item, ascii);
            }
            out.push('}');
        }
        scalar => {
            let _ = write!(out, "{scalar}");
        }
    }
}

fn put_text(out: &mut String, text: &str, ascii: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || (ascii && !c.is_ascii()) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use runloom_engine::value;

    use super::*;

    #[test]
    fn it_is_spaced_as_python_spaces_it() {
        let v = value!({"city": "SF", "days": [1, 2.5, null, true], "none": {}, "empty": []});
        assert_eq!(dumps(&v, true), r#"{"city": "SF", "days": [1, 2.5, null, true], "none": {}, "empty": []}"#);
    }

    #[test]
    fn text_is_escaped_so_that_it_reads_back() {
        let v = value!({"a\"b": "tab\t new\nline \\ \u{1} é 😀"});
        assert_eq!(dumps(&v, true), "{\"a\\\"b\": \"tab\\t new\\nline \\\\ \\u0001 \\u00e9 \\ud83d\\ude00\"}");
        assert_eq!(dumps(&v, false), "{\"a\\\"b\": \"tab\\t new\\nline \\\\ \\u0001 é 😀\"}");
        for ascii in [true, false] {
            assert_eq!(Value::parse(&dumps(&v, ascii)).unwrap(), v);
        }
    }
}
