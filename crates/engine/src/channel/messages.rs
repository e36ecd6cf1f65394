//! The messages reducer, and messages as LangChain's JSON.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use super::reducer::{Reduced, Undo};
use crate::{
    List, Object, Value,
    checkpoint::{Change, ListEdit},
    value,
};

/// The id that, on a `remove` message, takes away all that came before.
const REMOVE_ALL: &str = "__remove_all__";

/// Where each message stands, by id: kept beside the channel while a run goes, so that an append looks nothing up in
/// the list.
#[derive(Default, Clone)]
pub(crate) struct MessageIndex {
    at: HashMap<Arc<str>, usize, foldhash::fast::RandomState>,
}

impl MessageIndex {
    fn of(list: &List) -> Self {
        Self { at: list.iter().enumerate().filter_map(|(i, m)| Some((id(m)?.clone(), i))).collect() }
    }
}

fn id(message: &Value) -> Option<&Arc<str>> {
    match message.get("id") {
        Some(Value::String(id)) => Some(id),
        _ => None,
    }
}

/// A message in LangChain's JSON from any of the forms in which one is written: a text, `[role, content]`, an object
/// with `role` or `type`. It is given an id if it has none.
pub fn coerce_message(message: &Value) -> Result<Value, String> {
    coerce(message, || Value::from(Uuid::new_v4().to_string()))
}

/// The same for a prompt, which nobody keeps: a message without an id stays without.
pub fn coerce_prompt(value: &Value) -> Result<List, String> {
    coerce_all(value, |message| coerce(message, || Value::Null))
}

fn coerce(message: &Value, new_id: impl FnOnce() -> Value) -> Result<Value, String> {
    let plain = |kind: &str, content: Value| {
        let mut o = Object::default();
        o.insert("type", kind);
        o.insert("content", content);
        o
    };
    let given = match message {
        Value::String(_) => plain("human", message.clone()),
        Value::List(pair) if pair.len() == 2 => match (pair.get(0), pair.get(1)) {
            (Some(Value::String(role)), Some(content)) => plain(role, content.clone()),
            _ => return Err("a message written as a list is [role, content]".to_owned()),
        },
        Value::Object(o) => o.clone(),
        other => return Err(format!("a message is an object, a string or [role, content], not {}", other.kind())),
    };
    let role = given.get("role").or_else(|| given.get("type")).and_then(Value::as_str).ok_or_else(|| {
        "a message needs a `role` or a `type`: one of human, ai, system, tool, remove (or user, assistant, developer)"
            .to_owned()
    })?;
    let kind = match role {
        "user" | "human" => "human",
        "assistant" | "ai" | "AIMessageChunk" => "ai",
        "system" | "developer" => "system",
        "tool" => "tool",
        "remove" => "remove",
        "function" => "function",
        other => return Err(format!("there is no message role `{other}`")),
    };
    if let Some(wrong) = given.get("content").and_then(no_content) {
        let blocks = "the `content` of a message is a text or a list of blocks";
        return Err(format!("{blocks} (texts and objects), not {}", wrong.kind()));
    }
    let is_normal = given.get("type").and_then(Value::as_str) == Some(kind)
        && given.contains_key("id")
        && given.contains_key("response_metadata");
    if is_normal && matches!(given.get("id"), Some(Value::String(_))) && !given.contains_key("role") {
        return Ok(message.clone());
    }
    let take = |key: &str, otherwise: Value| match given.get(key) {
        None | Some(Value::Null) => otherwise,
        Some(v) => v.clone(),
    };
    let mut o = Object::default();
    o.insert("content", take("content", Value::string("")));
    o.insert("additional_kwargs", take("additional_kwargs", Value::object()));
    o.insert("response_metadata", take("response_metadata", Value::object()));
    o.insert("type", kind);
    o.insert("name", given.get("name").cloned().unwrap_or_default());
    o.insert(
        "id",
        match given.get("id") {
            None | Some(Value::Null) => new_id(),
            Some(id) => id.clone(),
        },
    );
    match kind {
        "ai" => {
            o.insert("tool_calls", tool_calls(&given)?);
            o.insert("invalid_tool_calls", take("invalid_tool_calls", value!([])));
            o.insert("usage_metadata", given.get("usage_metadata").cloned().unwrap_or_default());
        }
        "tool" => {
            let call = given.get("tool_call_id").cloned();
            o.insert("tool_call_id", call.ok_or("a message of type tool needs a `tool_call_id`")?);
            o.insert("artifact", given.get("artifact").cloned().unwrap_or_default());
            o.insert("status", take("status", Value::string("success")));
        }
        _ => {}
    }
    let known = ["role", "tool_call_chunks", "chunk_position"];
    for (key, value) in given.iter() {
        if !o.contains_key(key) && !known.contains(&&**key) {
            o.insert(key.clone(), value.clone());
        }
    }
    Ok(Value::Object(o))
}

/// What of a message's content is none: neither a text nor a block.
fn no_content(content: &Value) -> Option<&Value> {
    match content {
        Value::String(_) | Value::Null => None,
        Value::List(blocks) => blocks.iter().find(|block| !matches!(block, Value::String(_) | Value::Object(_))),
        other => Some(other),
    }
}

/// Tool calls in LangChain's form, also from OpenAI's `{id, function: {name, arguments}}`.
fn tool_calls(message: &Object) -> Result<Value, String> {
    let Some(Value::List(calls)) = message.get("tool_calls") else { return Ok(value!([])) };
    let mut list = List::default();
    for call in calls.iter() {
        let (name, args) = match call.get("function") {
            Some(f) => {
                let text = f.get_str("arguments").unwrap_or("{}");
                let args = Value::parse(text).map_err(|e| format!("a tool call's arguments are no JSON: {e}"))?;
                (f.get("name").cloned().unwrap_or_default(), args)
            }
            None => {
                (call.get("name").cloned().unwrap_or_default(), call.get("args").cloned().unwrap_or_else(Value::object))
            }
        };
        let mut o = Object::default();
        o.insert("name", name);
        o.insert("args", args);
        o.insert("id", call.get("id").cloned().unwrap_or_default());
        o.insert("type", "tool_call");
        list.push(Value::Object(o));
    }
    Ok(Value::List(list))
}

/// Messages from a list, or from one message.
pub fn coerce_messages(value: &Value) -> Result<List, String> {
    coerce_all(value, coerce_message)
}

fn coerce_all(value: &Value, coerce: impl Fn(&Value) -> Result<Value, String>) -> Result<List, String> {
    match value {
        Value::List(list) => list.iter().map(coerce).collect::<Result<Vec<_>, _>>().map(List::from),
        Value::Null => Ok(List::default()),
        one => Ok([coerce(one)?].into_iter().collect()),
    }
}

/// Applies writes to a list of messages; changes nothing where one of them cannot be applied.
pub(super) fn reduce(
    held: &mut Option<Value>,
    writes: &[&Value],
    index: &mut Option<MessageIndex>,
) -> Result<Reduced, String> {
    if let Some(other) = held.as_ref().filter(|h| h.as_list().is_none()) {
        return Err(format!("it holds {}, and `messages` needs a list", other.kind()));
    }
    let before = held.as_ref().and_then(Value::as_list);
    let at = index.get_or_insert_with(|| before.map(MessageIndex::of).unwrap_or_default());
    let new = writes.iter().map(|w| coerce_messages(w)).collect::<Result<Vec<_>, _>>()?;
    if let Some(added) = all_new(&new, at)? {
        // What most steps do: the list grows in place.
        let mut list = match held.take() {
            Some(Value::List(list)) => list,
            _ => List::default(),
        };
        let undo = Undo::Truncate(list.len());
        for message in added.iter() {
            if let Some(id) = id(message) {
                at.at.insert(id.clone(), list.len());
            }
            list.push(message.clone());
        }
        *held = Some(Value::List(list));
        return Ok(Reduced { change: Change::Append(Value::List(added)), undo });
    }
    let mut list = before.cloned().unwrap_or_default();
    let mut at = at.clone();
    let (edits, whole) = edit(&mut list, &new, &mut at)?;
    *index = Some(at);
    let value = Value::List(list);
    let change = if whole { Change::Set(value.clone()) } else { Change::Edit(edits) };
    Ok(Reduced { change, undo: Undo::Restore(held.replace(value)) })
}

/// The list that writes to an empty channel come to: what an overwrite holds is reduced like any other update.
pub(super) fn from_empty(value: &Value) -> Result<List, String> {
    let mut list = List::default();
    edit(&mut list, &[coerce_messages(value)?], &mut MessageIndex::default())?;
    Ok(list)
}

/// All messages in order, where each has an id that is not known yet, and none is a `remove`.
fn all_new(writes: &[List], at: &MessageIndex) -> Result<Option<List>, String> {
    let mut added = List::default();
    let mut seen: HashSet<&Arc<str>, foldhash::fast::RandomState> = HashSet::default();
    let is_one = writes.iter().map(List::len).sum::<usize>() <= 1;
    for message in writes.iter().flat_map(List::iter) {
        let id = id(message).ok_or("a message's id must be a string")?;
        let is_repeated = !is_one && !seen.insert(id);
        if is_repeated || at.at.contains_key(id) || message.get_str("type") == Some("remove") {
            return Ok(None);
        }
        added.push(message.clone());
    }
    Ok(Some(added))
}

/// Replaces, appends and removes. Says what it did, and whether the list is another one altogether.
fn edit(list: &mut List, writes: &[List], at: &mut MessageIndex) -> Result<(Vec<ListEdit>, bool), String> {
    let mut edits = Vec::new();
    let mut whole = false;
    for new in writes {
        let is_clear = |m: &Value| m.get_str("type") == Some("remove") && m.get_str("id") == Some(REMOVE_ALL);
        let mut start = 0;
        if let Some(clear) = new.iter().rposition(is_clear) {
            // What follows is reduced onto an empty list.
            (*list, *at) = (List::default(), MessageIndex::default());
            edits.clear();
            whole = true;
            start = clear + 1;
        }
        let mut gone: Vec<usize> = Vec::new();
        for message in new.iter_from(start) {
            let id = id(message).ok_or("a message's id must be a string")?;
            let is_remove = message.get_str("type") == Some("remove");
            match at.at.get(id) {
                Some(&i) if is_remove => gone.push(i),
                Some(&i) => {
                    gone.retain(|g| *g != i);
                    list.set(i, message.clone());
                    edits.push(ListEdit::Replace(i, message.clone()));
                }
                None if is_remove => {
                    return Err(format!("Attempting to delete a message with an ID that doesn't exist ('{id}')"));
                }
                None => {
                    at.at.insert(id.clone(), list.len());
                    list.push(message.clone());
                    edits.push(ListEdit::Push(message.clone()));
                }
            }
        }
        if !gone.is_empty() {
            gone.sort_unstable();
            gone.dedup();
            let remove = ListEdit::Remove(gone);
            *list = remove.apply(std::mem::take(list)).map_err(|e| e.to_string())?;
            edits.push(remove);
            *at = MessageIndex::of(list);
        }
    }
    Ok((edits, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_of_a_message_is_a_text_or_a_list_of_blocks() {
        for good in [
            value!({"role": "user", "content": "hi"}),
            value!({"role": "user", "content": null}),
            value!({"role": "user"}),
            value!({"role": "user", "content": ["hi", {"type": "text", "text": "there"}]}),
            value!(["user", [{"type": "text", "text": "there"}]]),
        ] {
            assert!(coerce_message(&good).is_ok(), "{good}");
        }
        for (bad, kind) in [
            (value!({"role": "user", "content": 5}), "an integer"),
            (value!({"type": "human", "id": "1", "response_metadata": {}, "content": {"a": 1}}), "an object"),
            (value!(["user", true]), "a boolean"),
            (value!({"role": "ai", "content": ["hi", 5]}), "an integer"),
        ] {
            let error = coerce_message(&bad).unwrap_err();
            assert!(
                error.starts_with("the `content` of a message is a text or a list of blocks") && error.contains(kind),
                "{error}"
            );
        }
    }

    #[test]
    fn what_follows_a_removal_of_all_is_reduced_onto_an_empty_list() {
        let clear = value!({"type": "remove", "id": "__remove_all__"});
        let ai = |id: &str, text: &str| value!({"type": "ai", "id": id, "content": text});
        let gone = |id: &str| value!({"type": "remove", "id": id});
        for (update, expected) in [
            (vec![ai("1", "first"), ai("1", "again"), ai("2", "h")], vec![("1", "again"), ("2", "h")]),
            (vec![ai("1", "first"), ai("2", "second"), gone("1")], vec![("2", "second")]),
        ] {
            let cleared: Value = [clear.clone()].into_iter().chain(update.clone()).collect::<Vec<_>>().into();
            let overwritten = crate::overwrite(update.into());
            for write in [cleared, overwritten] {
                let mut held =
                    Some(Value::List(coerce_messages(&value!([{"role": "user", "content": "before"}])).unwrap()));
                let mut index = None;
                let reducer = crate::Reducer::Messages;
                let reduced = reducer.apply(&mut held, &[&write], &mut index).unwrap();
                let texts = |v: &Value| -> Vec<(String, String)> {
                    let text = |m: &Value, key: &str| m.get_str(key).unwrap().to_owned();
                    v.as_list().unwrap().iter().map(|m| (text(m, "id"), text(m, "content"))).collect()
                };
                let expected: Vec<_> = expected.iter().map(|(i, t)| ((*i).to_owned(), (*t).to_owned())).collect();
                assert_eq!(texts(held.as_ref().unwrap()), expected, "{write}");
                assert_eq!(texts(&reduced.change.apply(None).unwrap().unwrap()), expected, "{write}");
                // The channel goes on from there.
                reducer
                    .apply(&mut held, &[&value!([{"role": "ai", "id": "2", "content": "later"}])], &mut index)
                    .unwrap();
                assert_eq!(texts(held.as_ref().unwrap()).last().unwrap(), &("2".to_owned(), "later".to_owned()));
            }
        }
        let mut held = None;
        let write = Value::from(vec![clear, gone("1")]);
        let error = crate::Reducer::Messages.apply(&mut held, &[&write], &mut None).err().unwrap();
        assert!(error.contains("'1'"), "{error}");
    }
}
