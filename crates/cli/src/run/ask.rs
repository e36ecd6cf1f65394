//! The questions that stop a run: shown, and answered at the prompt or by `--answer`.

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

/// Where answers come from.
pub struct Answers {
    /// Those that the command line brought along.
    pub given: VecDeque<Value>,
    /// Whether a person can be asked for more.
    pub is_interactive: bool,
}

impl Answers {
    /// Answers to open questions, by their ids: none where nobody answers.
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
                    show(question, screen)?;
                    screen.note(&format!("{DIM}answer:{DIM:#} {given}"))?;
                    given
                }
                None if self.is_interactive => {
                    show(question, screen)?;
                    input::answer(&line("answer> ", screen, signals).await?)
                }
                None => break,
            };
            answers.push((question.id.clone(), answer));
        }
        Ok(answers)
    }

    /// Whether to go on from a breakpoint.
    pub async fn go_on(&mut self, next: &[String], screen: &mut Screen, signals: &mut Signals) -> Result<bool> {
        if !self.is_interactive {
            return Ok(false);
        }
        screen.note(&stopped(next))?;
        line("Enter goes on, Ctrl-C leaves> ", screen, signals).await?;
        Ok(true)
    }
}

/// What a breakpoint says.
pub fn stopped(next: &[String]) -> String {
    match next {
        [] => format!("{ASK}?{ASK:#} stopped at a breakpoint"),
        next => format!("{ASK}?{ASK:#} stopped at a breakpoint before {STRONG}{}{STRONG:#}", next.join(", ")),
    }
}

/// Shows a question: the text of it where it has one, and all else that it holds.
pub fn show(question: &Interrupt, screen: &mut Screen) -> io::Result<()> {
    let value = question.value.as_ref().and_then(|v| v.decode().ok()).unwrap_or_default();
    let (words, rest) = split(&value);
    let node = if question.node.is_empty() { String::new() } else { format!(" {DIM}({}){DIM:#}", question.node) };
    screen.note(&format!("{ASK}?{ASK:#} {STRONG}{words}{STRONG:#}{node}"))?;
    for line in rest.iter().flat_map(|field| field.lines()) {
        screen.note(&format!("  {line}"))?;
    }
    Ok(())
}

/// The words of a question, and what else it holds, a line each.
fn split(value: &Value) -> (String, Vec<String>) {
    let Value::Object(fields) = value else { return (plain(value), Vec::new()) };
    let is_words = |key: &&str| fields.get(*key).is_some_and(Value::is_string);
    let key = ["question", "message", "prompt", "text"].into_iter().find(is_words);
    let words = key.map_or_else(|| "the run asks:".to_owned(), |key| plain(&fields[key]));
    let rest = fields.iter().filter(|(name, _)| Some(name.as_str()) != key);
    (words, rest.map(|(name, value)| format!("{DIM}{name}:{DIM:#} {}", plain(value))).collect())
}

/// A text as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Reads a line from the person at the terminal.
async fn line(prompt: &str, screen: &mut Screen, signals: &mut Signals) -> Result<String> {
    screen.prompt(prompt)?;
    let reading = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|read| (read > 0).then_some(line))
    });
    let stopped = || Failure::new(Exit::Interrupted, "left without an answer; the question stays open");
    tokio::select! {
        line = reading => match line {
            Ok(line) => line?.ok_or_else(stopped),
            Err(error) => Err(Failure::failed(error.to_string())),
        },
        _ = signals.next() => {
            screen.note("")?;
            Err(stopped())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_question_is_read_out() {
        assert_eq!(split(&json!("sure?")), ("sure?".to_owned(), Vec::new()));
        let (words, rest) = split(&json!({"question": "Pay?", "amount": 3, "to": "Ada"}));
        let rest: Vec<String> = rest.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
        assert_eq!((words.as_str(), rest), ("Pay?", vec!["amount: 3".to_owned(), "to: Ada".to_owned()]));
        assert_eq!(split(&json!(7)).0, "7");
    }
}
