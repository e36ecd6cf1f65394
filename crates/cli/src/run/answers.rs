//! Interrupts of a run: printed, and answered at the prompt or by `--answer`.

use std::{collections::VecDeque, io};

use runloom::v1::Interrupt;
use serde_json::Value;

use super::input;
use crate::{
    exit::Exit,
    failure::{Failure, Result},
    screen::Screen,
    signals::Signals,
    style::{ASK, DIM, STRONG},
};

/// The source of answers.
pub struct Answers {
    /// The answers of the command line that have not been used.
    pub given: VecDeque<Value>,
    /// Whether to ask at the prompt when these are used up.
    pub is_interactive: bool,
}

impl Answers {
    /// Answers open questions, by question id. Returns fewer answers than questions if there is nobody to ask.
    pub async fn to(
        &mut self,
        questions: &[Interrupt],
        screen: &mut Screen,
        signals: &mut Signals,
    ) -> Result<Vec<(String, Value)>> {
        let mut answers = Vec::new();
        for question in questions {
            let answer = match self.given.pop_front() {
                Some(given) => {
                    print_question(question, screen)?;
                    screen.status(&format!("{DIM}answer:{DIM:#} {given}"))?;
                    given
                }
                None if self.is_interactive => {
                    print_question(question, screen)?;
                    input::answer(&line("answer> ", screen, signals).await?)
                }
                None => break,
            };
            answers.push((question.id.clone(), answer));
        }
        Ok(answers)
    }

    /// Asks whether to continue from a breakpoint.
    pub async fn confirm_continue(
        &mut self,
        next: &[String],
        screen: &mut Screen,
        signals: &mut Signals,
    ) -> Result<bool> {
        if !self.is_interactive {
            return Ok(false);
        }
        screen.status(&breakpoint_text(next))?;
        line("Enter: continue, Ctrl-C: leave> ", screen, signals).await?;
        Ok(true)
    }
}

/// The status line of a breakpoint.
pub fn breakpoint_text(next: &[String]) -> String {
    match next {
        [] => format!("{ASK}?{ASK:#} stopped at a breakpoint"),
        next => format!("{ASK}?{ASK:#} stopped at a breakpoint before {STRONG}{}{STRONG:#}", next.join(", ")),
    }
}

/// Prints a question: its text, if it has one, and its other fields.
pub fn print_question(question: &Interrupt, screen: &mut Screen) -> io::Result<()> {
    let value = question.value.as_ref().and_then(|v| v.decode().ok()).unwrap_or_default();
    let (text, rest) = split(&value);
    let node = if question.node.is_empty() { String::new() } else { format!(" {DIM}({}){DIM:#}", question.node) };
    screen.status(&format!("{ASK}?{ASK:#} {STRONG}{text}{STRONG:#}{node}"))?;
    for line in rest.iter().flat_map(|field| field.lines()) {
        screen.status(&format!("  {line}"))?;
    }
    Ok(())
}

/// The text of a question, and its other fields, one line each.
fn split(value: &Value) -> (String, Vec<String>) {
    let Value::Object(fields) = value else { return (plain(value), Vec::new()) };
    let is_text = |key: &&str| fields.get(*key).is_some_and(Value::is_string);
    let key = ["question", "message", "prompt", "text"].into_iter().find(is_text);
    let text = key.map_or_else(|| "the run asks:".to_owned(), |key| plain(&fields[key]));
    let rest = fields.iter().filter(|(name, _)| Some(name.as_str()) != key);
    (text, rest.map(|(name, value)| format!("{DIM}{name}:{DIM:#} {}", plain(value))).collect())
}

/// A string without quotes, any other value as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Reads a line from the terminal.
async fn line(prompt: &str, screen: &mut Screen, signals: &mut Signals) -> Result<String> {
    screen.prompt(prompt)?;
    let reading = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|read| (read > 0).then_some(line))
    });
    let stopped = || Failure::new(Exit::Interrupted, "stopped without an answer; the question stays open");
    tokio::select! {
        line = reading => match line {
            Ok(line) => line?.ok_or_else(stopped),
            Err(error) => Err(Failure::failed(error.to_string())),
        },
        _ = signals.next() => {
            screen.status("")?;
            Err(stopped())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_question_is_split_into_text_and_fields() {
        assert_eq!(split(&json!("sure?")), ("sure?".to_owned(), Vec::new()));
        let (text, rest) = split(&json!({"question": "Pay?", "amount": 3, "to": "Ada"}));
        let rest: Vec<String> = rest.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
        assert_eq!((text.as_str(), rest), ("Pay?", vec!["amount: 3".to_owned(), "to: Ada".to_owned()]));
        assert_eq!(split(&json!(7)).0, "7");
    }
}
