//! What a run is given, checked against its graph before the run is made.

use runloom_engine::{
    ChannelSpec, Graph, Object, Reducer, Value,
    channel::{coerce_message, coerce_messages},
    overwrite,
};

use runloom_suggest::{list, nearest, or_known};

use super::{check::Fault, served::Served};
use crate::{Error, Reason, Result, Session, runs::CommandSpec};

impl Session {
    /// Checks a run's input against its graph, and gives it with its numbers as the channels have them.
    pub(crate) fn check_input(&self, served: &Served, input: &Value) -> Result<Value> {
        self.check_size("input", input)?;
        served.check_input(input)
    }

    /// Refuses a command of which a part is larger than the server takes.
    pub(crate) fn check_command_sizes(&self, command: &CommandSpec) -> Result<()> {
        if let Some(answer) = &command.resume {
            self.check_size("command.resume", answer)?;
        }
        for (id, answer) in &command.resume_by_id {
            self.check_size(&format!("command.resume_by_id[{id}]"), answer)?;
        }
        for (at, fields) in command.update.iter().enumerate() {
            self.check_size(&update_path(&command.update, at), &fields.clone().into())?;
        }
        for (at, (_, input)) in command.goto.iter().enumerate() {
            if let Some(input) = input {
                self.check_size(&format!("command.goto[{at}].input"), input)?;
            }
        }
        Ok(())
    }
}

/// Where one of a command's updates stands in the request.
fn update_path(updates: &[Object], at: usize) -> String {
    if updates.len() > 1 { format!("command.update[{at}]") } else { "command.update".to_owned() }
}

impl Served {
    /// Checks a run's input, channel by channel, and gives it with its numbers as the channels have them. What is not
    /// in the graph's input is left to the engine, which passes it over.
    pub fn check_input(&self, input: &Value) -> Result<Value> {
        let Some(fields) = input.as_object() else {
            let what = format!("an input is an object by channel, not {}", input.kind());
            return Err(self.refused(Reason::InputInvalid, "the input", vec![("input".to_owned(), what)]));
        };
        let mut faults = Vec::new();
        let mut fitted = fields.clone();
        for channel in self.graph.input_channels() {
            if let Some(value) = fields.get(&channel.name) {
                let value = self.check_write(channel, &format!("input.{}", channel.name), value, &mut faults);
                fitted.insert(channel.name.clone(), value);
            }
        }
        if faults.is_empty() { Ok(fitted.into()) } else { Err(self.refused(Reason::InputInvalid, "the input", faults)) }
    }

    /// Checks a context, and gives it with its numbers as its schema has them. Null, and an empty one, are none.
    pub fn check_context(&self, context: &Value) -> Result<Value> {
        let none = Value::object();
        let given = if context.is_null() { &none } else { context };
        let mut faults = Vec::new();
        if given.as_object().is_none() {
            faults.push(("context".to_owned(), format!("a context is an object, not {}", given.kind())));
        }
        let fitted = match &self.context {
            Some(check) if faults.is_empty() => {
                let fitted = check.fit(given);
                check.faults("context", &fitted, false, &mut faults);
                fitted
            }
            _ => given.clone(),
        };
        if faults.is_empty() { Ok(fitted) } else { Err(self.refused(Reason::ContextInvalid, "the context", faults)) }
    }

    /// Refuses names that are no nodes of the graph, each by the field it came in.
    pub fn check_nodes(&self, nodes: &[(String, &str)]) -> Result<()> {
        check_nodes(&self.graph, nodes)
    }

    /// Checks what is written to the state past the input: every channel has to be one of the graph's.
    pub fn check_update(&self, update: &Object, path: &str) -> Result<Object> {
        let mut faults = Vec::new();
        let fitted = self.fit_update(update, path, &mut faults);
        if faults.is_empty() { Ok(fitted) } else { Err(self.refused(Reason::InvalidUpdate, "the update", faults)) }
    }

    /// Checks what a run's command writes to the state.
    pub fn check_command(&self, updates: &[Object]) -> Result<Vec<Object>> {
        let mut faults = Vec::new();
        let fitted = updates.iter().enumerate();
        let fitted =
            fitted.map(|(at, update)| self.fit_update(update, &update_path(updates, at), &mut faults)).collect();
        if faults.is_empty() { Ok(fitted) } else { Err(self.refused(Reason::InputInvalid, "the command", faults)) }
    }

    fn fit_update(&self, update: &Object, path: &str, faults: &mut Vec<Fault>) -> Object {
        let mut fitted = update.clone();
        for (name, value) in update.iter() {
            let path = format!("{path}.{name}");
            match self.graph.channels().iter().find(|channel| channel.name == *name) {
                Some(channel) => fitted.insert(name.clone(), self.check_write(channel, &path, value, faults)),
                None => {
                    let known = self.graph.channels().iter().map(|channel| &*channel.name);
                    let what = match nearest(name, known.clone()) {
                        Some(near) => format!("there is no channel `{name}`; did you mean `{near}`?"),
                        None => format!("there is no channel `{name}`; there are {}", list(known)),
                    };
                    faults.push((path, what));
                }
            }
        }
        fitted
    }

    /// Checks one write to a channel, and gives it with its numbers as the channel has them.
    fn check_write(&self, channel: &ChannelSpec, path: &str, value: &Value, faults: &mut Vec<Fault>) -> Value {
        let over = value.as_object().filter(|o| o.len() == 1).and_then(|o| o.get("__overwrite__"));
        let given = over.unwrap_or(value);
        let wrong = |needs: &str| Some((path.to_owned(), format!("the channel takes {needs}, not {}", given.kind())));
        let kind = match (&channel.reducer, given) {
            (Reducer::Append, Value::List(_)) | (Reducer::Merge, Value::Object(_)) => None,
            (Reducer::Add, Value::Int(_) | Value::UInt(_) | Value::Float(_)) => None,
            (Reducer::Append, _) => wrong("a list"),
            (Reducer::Merge, _) => wrong("an object"),
            (Reducer::Add, _) => wrong("a number"),
            // These compare with what the channel holds: texts with a text, else numbers.
            (Reducer::Max | Reducer::Min, given) => match (channel.start(), given) {
                (Some(Value::String(_)), Value::String(_)) => None,
                (Some(Value::String(_)), _) => wrong("a text"),
                (_, Value::Int(_) | Value::UInt(_) | Value::Float(_)) => None,
                _ => wrong("a number"),
            },
            _ => None,
        };
        if let Some(fault) = kind {
            faults.push(fault);
            return value.clone();
        }
        if let Reducer::Messages = channel.reducer {
            match given {
                Value::List(list) => faults.extend(
                    list.iter()
                        .enumerate()
                        .filter_map(|(at, message)| Some((format!("{path}[{at}]"), coerce_message(message).err()?))),
                ),
                one => faults.extend(coerce_messages(one).err().map(|what| (path.to_owned(), what))),
            }
        }
        let Some(check) = self.channels.get(&channel.name) else { return value.clone() };
        let is_part = over.is_none() && matches!(channel.reducer, Reducer::Append | Reducer::Merge);
        let fitted = check.fit(given);
        check.faults(path, &fitted, is_part, faults);
        if over.is_some() { overwrite(fitted) } else { fitted }
    }

    fn refused(&self, reason: Reason, what: &str, faults: Vec<Fault>) -> Error {
        let mut message = format!("graph `{}` does not take {what}: ", self.name);
        let first: Vec<_> = faults.iter().take(3).map(|(path, what)| format!("{path}: {what}")).collect();
        message.push_str(&first.join("; "));
        if faults.len() > 3 {
            message.push_str(&format!("; and {} more", faults.len() - 3));
        }
        let mut error = Error::new(reason, message).with("graph", &self.name);
        error.fields = faults;
        error
    }
}

/// Refuses names that are no nodes of a graph, each by the field it came in.
pub(crate) fn check_nodes(graph: &Graph, nodes: &[(String, &str)]) -> Result<()> {
    let known: Vec<&str> = graph.node_names().map(|name| &**name).collect();
    let fault =
        |name: &str| format!("graph `{}` has no node `{name}`{}", graph.name(), or_known(name, known.iter().copied()));
    let unknown: Vec<_> = nodes.iter().filter(|(_, name)| !known.contains(name)).collect();
    let Some((_, first)) = unknown.first() else { return Ok(()) };
    let mut error = Error::new(Reason::NodeUnknown, fault(first)).with("graph", graph.name()).with("node", first);
    error.fields = unknown.iter().map(|(field, name)| (field.clone(), fault(name))).collect();
    Err(error)
}
