//! The step that runs the tool calls of the last AI message, as LangGraph's `ToolNode` does.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use parking_lot::Mutex;
use runloom_engine::{Command, List, NodeError, NodeFailure, Object, Output, Update, Value};
use runloom_models::dumps;
use runloom_workers::{Turn, Turns, output};

use super::{
    Run, env, fail,
    http::HTTP_ERROR,
    mcp::{MCP_ERROR, TOOL_EXCEPTION},
    retrieve::{self, RETRIEVER_ERROR},
};
use crate::{
    expr::Env,
    read::tools::{Tool, Work},
};

/// Runs tool calls.
pub(crate) struct RunTools {
    pub tools: BTreeMap<Arc<str>, Arc<Tool>>,
    /// The channel of the messages.
    pub messages: Arc<str>,
    /// Whether an error becomes a message to the model.
    pub handle_errors: bool,
}

/// A call that a model asked for.
struct Call {
    name: Arc<str>,
    args: Value,
    id: Value,
}

/// What a tool gave: for the model, and for programs.
struct Gave {
    content: Value,
    artifact: Value,
    is_error: bool,
    /// What it writes beside its message.
    output: Option<Output>,
}

/// What answers a call.
struct Answer {
    /// None where what the tool writes has it.
    message: Option<Value>,
    output: Option<Output>,
}

impl Gave {
    fn content(result: Value) -> Self {
        Self { content: content(result), artifact: Value::Null, is_error: false, output: None }
    }
}

impl RunTools {
    pub async fn run(&self, run: &mut Run) -> Result<(), NodeError> {
        let calls = self.calls(run)?;
        let turns = Mutex::new(Turns::new(calls.len()));
        let answers = calls.iter().enumerate().map(|(at, call)| {
            let (turn, run, turns) = (turns.lock().place(at), &*run, &turns);
            async move {
                let answer = self.answer(run, call, turn).await;
                turns.lock().end(at, answer.is_err());
                answer
            }
        });
        let answers = join_all(answers).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let messages: List = answers.iter().filter_map(|answer| answer.message.clone()).collect();
        run.write(&self.messages, Value::List(messages));
        for output in answers.into_iter().filter_map(|answer| answer.output) {
            match output {
                // Written beside the messages, not in their place.
                Output::Update(update) => run.commands.push(Command::new().update(update)),
                other => run.add(other),
            }
        }
        Ok(())
    }

    /// The calls of the last AI message.
    fn calls(&self, run: &Run) -> Result<Vec<Call>, NodeError> {
        let messages = run.state.get(&self.messages).and_then(Value::as_list);
        let is_ai = |m: &&Value| m.get_str("type") == Some("ai") || m.get_str("role") == Some("assistant");
        let Some(last) = messages.and_then(|m| m.iter().rev().find(is_ai)) else {
            return Err(NodeError::msg(format!("no AI message in `{}`, and so no tool to call", self.messages)));
        };
        let calls = last.get("tool_calls").and_then(Value::as_list).cloned().unwrap_or_default();
        Ok(calls
            .iter()
            .map(|call| Call {
                name: call.get_str("name").unwrap_or_default().into(),
                args: call.get("args").cloned().unwrap_or_else(Value::object),
                id: call.get("id").cloned().unwrap_or_default(),
            })
            .collect())
    }

    /// The tool message that answers a call, and what the tool writes beside it.
    async fn answer(&self, run: &Run, call: &Call, turn: Turn) -> Result<Answer, NodeError> {
        let alone = |message| Answer { message: Some(message), output: None };
        let Some(tool) = self.tools.get(&call.name) else {
            let known: Vec<&str> = self.tools.keys().map(|n| &**n).collect();
            let text = format!("Error: {} is not a valid tool, try one of [{}].", call.name, known.join(", "));
            return Ok(alone(message(call, text.into(), "error")));
        };
        let mut output = None;
        let work = async {
            let gave = self.call(run, tool, call, turn).await?;
            output = gave.output;
            let mut made = message(call, gave.content, if gave.is_error { "error" } else { "success" });
            if let Value::Object(fields) = &mut made {
                fields.insert("artifact", gave.artifact);
            }
            Ok(made)
        };
        match run.cx.tool_called(call.name.clone(), call.id.as_str().map(Arc::from), call.args.clone(), work).await {
            Err(NodeError::Failed(failure)) if self.handle_errors => {
                Ok(alone(message(call, explained(&failure).into(), "error")))
            }
            Err(error) => Err(error),
            Ok(made) => {
                let is_answered = output.as_ref().is_some_and(|output| self.answers(output, call));
                Ok(Answer { message: (!is_answered).then_some(made), output })
            }
        }
    }

    /// Whether what a tool writes has the message that answers its call.
    fn answers(&self, output: &Output, call: &Call) -> bool {
        let is_answer =
            |message: &Value| call.id.as_str().is_some_and(|id| message.get_str("tool_call_id") == Some(id));
        let answers = |update: &Update| {
            update.writes.iter().filter(|(channel, _)| *channel == self.messages).any(|(_, value)| match value {
                Value::List(list) => list.iter().any(is_answer),
                one => is_answer(one),
            })
        };
        match output {
            Output::Update(update) => answers(update),
            Output::Command(command) => command.update.as_ref().is_some_and(answers),
            Output::Many(all) => all.iter().any(|output| self.answers(output, call)),
            Output::Nothing => false,
        }
    }

    async fn call(&self, run: &Run, tool: &Tool, call: &Call, turn: Turn) -> Result<Gave, NodeError> {
        if let Some(schema) = &tool.schema
            && let Err(message) = schema.check(&call.args)
        {
            let (name, args) = (&call.name, shown(dumps(&call.args, false)));
            return Err(NodeError::new(
                INVOCATION,
                format!(
                    "Error invoking tool '{name}' with kwargs {args} with error:\n {message}\n Please fix the error \
                     and try again."
                ),
            ));
        }
        let env = Env { args: Some(&call.args), ..env(&run.state, &run.cx, &run.bound) };
        for data in &tool.emit {
            run.cx.emit(data.eval(&env)?);
        }
        if let Some(given) = &tool.fail {
            fail(&given.eval(&env)?)?;
        }
        match &tool.work {
            Work::Result(given) => Ok(Gave::content(given.eval(&env)?)),
            Work::Http(http) => Ok(Gave::content(http.answer(&env).await?)),
            Work::Retrieve { name, retriever, k } => {
                let Some(query) = call.args.get_str("query") else {
                    let message = format!("the tool `{}` needs `query`, a text: what to look for", call.name);
                    return Err(NodeError::new(RETRIEVER_ERROR, message));
                };
                let found = retrieve::ask(&run.cx, name, retriever, query, *k, Object::default()).await?;
                Ok(Gave { content: retrieve::texts(&found), artifact: found, is_error: false, output: None })
            }
            Work::Mcp(mcp) => {
                let result = mcp.call(&run.cx, &call.name, &call.id, &call.args).await?;
                Ok(Gave { content: result.content, artifact: result.artifact, is_error: false, output: None })
            }
            Work::Worker(tool) => {
                let id = call.id.as_str().unwrap_or_default();
                let result = tool.run(&run.cx, &run.state, (id, call.args.clone()), turn).await?;
                let output = result.command.map(|(updates, goto, to_parent)| output(updates, goto, to_parent));
                let (artifact, is_error) = (result.artifact, result.is_error);
                Ok(Gave { content: content(result.content), artifact, is_error, output })
            }
        }
    }
}

/// The type of the error of arguments that do not fit.
const INVOCATION: &str = "ToolInvocationError";

/// Arguments as the model is shown them again: it knows them, and long ones would crowd out what is wrong.
fn shown(args: String) -> String {
    match args.char_indices().nth(1000) {
        Some((end, _)) => format!("{}…", &args[..end]),
        None => args,
    }
}

/// What the model is told of a failure.
fn explained(failure: &NodeFailure) -> String {
    match &*failure.kind {
        INVOCATION => return failure.message.to_string(),
        // Not a mistake of the model's, or not one that a Python name tells it more about.
        HTTP_ERROR | MCP_ERROR | TOOL_EXCEPTION | RETRIEVER_ERROR => return format!("Error: {}", failure.message),
        _ => {}
    }
    format!("Error: {}({})\n Please fix your mistakes.", failure.kind, python_text(&failure.message))
}

/// A text as Python's `repr` shows it.
fn python_text(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// What a tool gave as a message's content: a text and content blocks as they are, all else as JSON.
fn content(result: Value) -> Value {
    const BLOCKS: [&str; 6] = ["text", "image_url", "image", "json", "document", "file"];
    let is_block = |v: &Value| v.get_str("type").is_some_and(|t| BLOCKS.contains(&t));
    match &result {
        Value::String(_) => result,
        Value::List(items) if !items.is_empty() && items.iter().all(is_block) => result,
        other => dumps(other, false).into(),
    }
}

/// A tool message in LangChain's JSON.
fn message(call: &Call, content: Value, status: &str) -> Value {
    let mut o = Object::default();
    o.insert("content", content);
    o.insert("additional_kwargs", Value::object());
    o.insert("response_metadata", Value::object());
    o.insert("type", "tool");
    o.insert("name", &call.name);
    o.insert("id", uuid::Uuid::new_v4().to_string());
    o.insert("tool_call_id", call.id.clone());
    o.insert("artifact", Value::Null);
    o.insert("status", status);
    Value::Object(o)
}

#[cfg(test)]
mod tests {
    use runloom_engine::value;

    use super::*;

    #[test]
    fn an_error_is_shown_as_python_would() {
        let explain = |text: &str| explained(&NodeFailure::new("ValueError", text));
        assert_eq!(explain("no such city"), "Error: ValueError('no such city')\n Please fix your mistakes.");
        assert_eq!(explain("it's\n"), "Error: ValueError(\"it's\\n\")\n Please fix your mistakes.");
        assert_eq!(explain("'\""), "Error: ValueError('\\'\"')\n Please fix your mistakes.");
    }

    #[test]
    fn what_is_no_text_is_written_as_json() {
        assert_eq!(content(value!("plain")), value!("plain"));
        assert_eq!(content(value!({"a": [1, "é"]})), value!("{\"a\": [1, \"é\"]}"));
        assert_eq!(content(Value::Null), value!("null"));
        assert_eq!(content(value!([1])), value!("[1]"));
        let blocks = value!([{"type": "text", "text": "x"}]);
        assert_eq!(content(blocks.clone()), blocks);
    }
}
