//! Colours, and the formats of times and counts. [`anstream`] removes colours if the output is not a terminal.

use std::time::{Duration, SystemTime};

use anstyle::{AnsiColor, Style};

/// Names: of graphs, nodes, commands.
pub const NAME: Style = AnsiColor::Cyan.on_default();
/// Important text.
pub const STRONG: Style = Style::new().bold();
/// Secondary text.
pub const DIM: Style = Style::new().dimmed();
/// Success.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Failure.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// A question or a warning.
pub const ASK: Style = AnsiColor::Yellow.on_default().bold();

/// The same colours for `--help`.
pub fn clap() -> clap::builder::Styles {
    clap::builder::Styles::styled().header(STRONG).usage(STRONG).literal(NAME).placeholder(DIM).error(BAD).valid(NAME)
}

/// Formats a duration: `34 ms`, `0.3 s`, `2 min 05 s`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 if time.as_millis() < 100 => format!("{} ms", time.as_millis()),
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Formats the time since an event: `3 min ago`.
pub fn ago(time: SystemTime, now: SystemTime) -> String {
    let Ok(past) = now.duration_since(time) else { return "just now".to_owned() };
    let seconds = past.as_secs();
    let (count, unit) = match seconds {
        0..5 => return "just now".to_owned(),
        5..60 => (seconds, "s"),
        60..3600 => (seconds / 60, "min"),
        3600..86_400 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{count} {unit} ago")
}

/// The beginning of a text on one line, at most `most` characters.
pub fn brief(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= most {
        return line;
    }
    line.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// A number with its noun: `1 token`, `3 tokens`.
pub fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_texts_are_formatted() {
        assert_eq!(duration(Duration::from_millis(34)), "34 ms");
        assert_eq!(duration(Duration::from_millis(340)), "0.3 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 05 s");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(ago(now - Duration::from_secs(200), now), "3 min ago");
        assert_eq!(ago(now + Duration::from_secs(200), now), "just now");
        assert_eq!(brief("a  long\nline", 7), "a long…");
    }
}
