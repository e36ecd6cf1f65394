//! The text view of a run: tokens as they arrive, nodes and tools as they start and end, progress, and the end.

use std::{
    io,
    time::{Duration, Instant, SystemTime},
};

use indexmap::IndexMap;
use runloom::v1::{
    Event, EventKind, Metadata, RunState, StreamRunResponse, Task, TaskPhase, Usage, stream_run_response::Payload,
};

use super::messages::Messages;
use crate::{
    screen::Screen,
    style::{BAD, DIM, GOOD, NAME, brief, count, duration},
    wire::to_json,
};

/// The longest shown text of a tool's arguments or result, or of a custom payload, in characters.
const BRIEF: usize = 100;

/// Prints the parts of a run as text.
pub struct HumanView {
    /// Where to print.
    pub screen: Screen,
    messages: Messages,
    /// What is running, by task id or call id: its name, and when it started, here and on the server.
    running: IndexMap<String, (String, Instant, Option<SystemTime>)>,
    /// Whether each part is printed as JSON, because `--mode` was given.
    is_raw: bool,
    /// Whether any data was printed.
    has_data: bool,
}

impl HumanView {
    /// Prints to a screen. `is_raw`: prints each part as JSON.
    pub fn new(screen: Screen, is_raw: bool) -> Self {
        Self { screen, messages: Messages::default(), running: IndexMap::new(), is_raw, has_data: false }
    }

    /// Whether any output of the run was printed.
    pub fn has_output(&self) -> bool {
        self.has_data || self.messages.has_output()
    }

    /// Prints a part.
    pub fn part(&mut self, part: &StreamRunResponse) -> io::Result<()> {
        let Some(payload) = &part.payload else { return Ok(()) };
        match payload {
            Payload::Metadata(metadata) => self.metadata(metadata)?,
            Payload::MessageChunk(chunk) => {
                let among = self.running.len() > 1;
                self.messages.chunk(part, chunk, among, &mut self.screen)?;
            }
            Payload::End(_) => {
                self.messages.end(&mut self.screen)?;
                self.running.clear();
            }
            Payload::Progress(_) => {}
            payload if self.is_raw => self.raw(part, payload)?,
            Payload::Task(task) => self.task(part, task)?,
            Payload::Event(event) => self.event(part, event)?,
            Payload::Custom(custom) => {
                let payload = custom.payload.as_ref().and_then(|p| p.decode().ok()).unwrap_or_default();
                self.custom(None, &payload)?;
            }
            _ => {}
        }
        self.spin();
        Ok(())
    }

    fn metadata(&mut self, metadata: &Metadata) -> io::Result<()> {
        match (metadata.state(), metadata.attempt) {
            (RunState::Pending, _) => {
                self.running.insert(String::new(), ("waiting for its turn".to_owned(), Instant::now(), None));
            }
            (_, 2..) => {
                self.messages.end(&mut self.screen)?;
                let text = format!("attempt {}: the server stopped during the previous attempt", metadata.attempt);
                self.screen.status(&format!("{DIM}{text}{DIM:#}"))?;
                self.running.clear();
            }
            _ => {
                self.running.shift_remove("");
            }
        }
        Ok(())
    }

    fn task(&mut self, part: &StreamRunResponse, task: &Task) -> io::Result<()> {
        let node = path(&part.namespace, &task.node);
        if task.phase() == TaskPhase::Started {
            let again = if part.task_attempt > 1 { format!(" (try {})", part.task_attempt) } else { String::new() };
            self.screen.status(&format!("{DIM}▸{DIM:#} {NAME}{node}{NAME:#}{DIM}{again}{DIM:#}"))?;
            self.running.insert(part.task_id.clone(), (node, Instant::now(), emitted(part)));
            return Ok(());
        }
        self.messages.task_ended(&part.task_id, &mut self.screen)?;
        let took = self.took(&part.task_id, part);
        match &task.error {
            Some(error) => {
                let message = brief(&error.message, 2 * BRIEF);
                self.screen.status(&format!("{BAD}✗{BAD:#} {node} {}: {message} {took}", error.r#type))
            }
            None if task.interrupts.is_empty() => self.screen.status(&format!("{GOOD}✓{GOOD:#} {node} {took}")),
            // Its question is printed at the end of the run.
            None => Ok(()),
        }
    }

    fn event(&mut self, part: &StreamRunResponse, event: &Event) -> io::Result<()> {
        let data = event.data.clone().unwrap_or_default();
        let name = &event.name;
        let json = |json: Option<&runloom::v1::Json>| match json.and_then(|j| j.decode().ok()) {
            // The result of a tool is a message; print its content.
            Some(value) => text(value.get("content").unwrap_or(&value)),
            None => String::new(),
        };
        match event.kind() {
            EventKind::ToolStart => {
                let line = format!("{DIM}▸{DIM:#} {NAME}{name}{NAME:#} {DIM}{}{DIM:#}", json(data.input.as_ref()));
                self.screen.status(&line)?;
                self.running.insert(event.run_id.clone(), (name.clone(), Instant::now(), emitted(part)));
                Ok(())
            }
            EventKind::ToolEnd => {
                let took = self.took(&event.run_id, part);
                self.screen
                    .status(&format!("{GOOD}✓{GOOD:#} {name} {DIM}→{DIM:#} {} {took}", json(data.output.as_ref())))
            }
            EventKind::ToolError => {
                let took = self.took(&event.run_id, part);
                let error = data.error.unwrap_or_default();
                self.screen.status(&format!(
                    "{BAD}✗{BAD:#} {name} {}: {} {took}",
                    error.r#type,
                    brief(&error.message, BRIEF)
                ))
            }
            EventKind::Custom => {
                let payload = data.custom.and_then(|c| c.decode().ok()).unwrap_or_default();
                self.custom(Some(name), &payload)
            }
            _ => Ok(()),
        }
    }

    fn custom(&mut self, name: Option<&str>, payload: &serde_json::Value) -> io::Result<()> {
        let name = name.map(|name| format!("{name}: ")).unwrap_or_default();
        self.screen.status(&format!("{DIM}•{DIM:#} {name}{}", report(payload)))
    }

    /// Prints a part as JSON, after its mode and node.
    fn raw(&mut self, part: &StreamRunResponse, payload: &Payload) -> io::Result<()> {
        let json = |json: &Option<runloom::v1::Json>| json.as_ref().and_then(|j| j.decode().ok()).unwrap_or_default();
        let (mode, of, data) = match payload {
            Payload::Value(value) => ("values", String::new(), json(&value.state)),
            Payload::Update(update) if !update.interrupts.is_empty() => {
                ("updates", update.node.clone(), to_json("Update", update)["interrupts"].clone())
            }
            Payload::Update(update) => ("updates", update.node.clone(), json(&update.update)),
            Payload::Custom(custom) => ("custom", custom.node.clone(), json(&custom.payload)),
            Payload::Task(task) => ("tasks", task.node.clone(), to_json("Task", task)),
            Payload::Checkpoint(checkpoint) => ("checkpoints", String::new(), to_json("Checkpoint", checkpoint)),
            Payload::Event(event) => {
                let kind = event.kind().as_str_name().replace("EVENT_KIND_", "on_").to_lowercase();
                let data = event.data.as_ref().map(|data| to_json("EventData", data)).unwrap_or_default();
                ("events", format!("{kind} {}", event.name), data)
            }
            _ => return Ok(()),
        };
        let of = path(&part.namespace, &of);
        let of = if of.is_empty() { String::new() } else { format!(" {NAME}{of}{NAME:#}") };
        self.has_data = true;
        self.screen.write_line(&format!("{DIM}{mode}{DIM:#}{of} {data}"))
    }

    /// Removes an entry of `running`, and returns how long it took.
    fn took(&mut self, id: &str, part: &StreamRunResponse) -> String {
        let Some((_, began, emitted_then)) = self.running.shift_remove(id) else { return String::new() };
        let at_server = emitted_then.zip(emitted(part)).and_then(|(then, now)| now.duration_since(then).ok());
        format!("{DIM}{}{DIM:#}", duration(at_server.unwrap_or_else(|| began.elapsed())))
    }

    /// Shows the spinner with what is running.
    fn spin(&mut self) {
        if let Some((_, (_, since, _))) = self.running.first() {
            let names: Vec<&str> = self.running.values().map(|(name, ..)| name.as_str()).collect();
            let word = brief(&names.join(", "), 60);
            self.screen.spin(&word, *since);
        }
    }

    /// Prints the last line of a run that succeeded.
    pub fn done(&mut self, took: Duration, usage: Option<&Usage>, thread: Option<&str>) -> io::Result<()> {
        let mut words = vec![format!("{GOOD}done{GOOD:#} {DIM}in {}", duration(took))];
        if let Some(usage) = usage.filter(|u| u.input_tokens + u.output_tokens > 0) {
            words.push(format!("{} in, {} out", count(usage.input_tokens, "token"), usage.output_tokens));
        }
        words.extend(thread.map(|thread| format!("thread {thread}")));
        self.screen.end_line()?;
        self.screen.status(&format!("{}{DIM:#}", words.join(" · ")))
    }
}

/// When the server created a part.
fn emitted(part: &StreamRunResponse) -> Option<SystemTime> {
    part.emit_time.and_then(|time| SystemTime::try_from(time).ok())
}

/// A node with the subgraphs around it: `child › plan`.
fn path(namespace: &[String], node: &str) -> String {
    let outer = namespace.iter().filter_map(|segment| segment.split(':').next());
    outer.chain([node]).filter(|name| !name.is_empty()).collect::<Vec<_>>().join(" › ")
}

/// A custom payload, shortened: its status, if it has one, then its other fields.
fn report(payload: &serde_json::Value) -> String {
    let words = payload.as_object().and_then(|fields| {
        let (key, words) = ["status", "message", "text"].iter().find_map(|k| fields.get_key_value(*k))?;
        let beside = fields.iter().filter(|(k, _)| *k != key).map(|(k, v)| format!("{k} {}", text(v)));
        Some((words.as_str()?, beside.collect::<Vec<_>>().join(", ")))
    });
    match words {
        Some((words, beside)) if beside.is_empty() => brief(words, BRIEF),
        Some((words, beside)) => format!("{} {DIM}({}){DIM:#}", brief(words, BRIEF), brief(&beside, BRIEF)),
        None => text(payload),
    }
}

/// A value, shortened; a string without quotes.
fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| brief(&value.to_string(), BRIEF), |text| brief(text, BRIEF))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn part(payload: Payload) -> StreamRunResponse {
        StreamRunResponse { task_id: "t".into(), task_attempt: 1, payload: Some(payload), ..Default::default() }
    }

    fn task(phase: TaskPhase) -> Task {
        Task { phase: phase.into(), node: "plan".into(), ..Default::default() }
    }

    #[test]
    fn nodes_tools_and_progress_are_status_lines() {
        let (screen, out, notes) = Screen::in_memory(false);
        let mut view = HumanView::new(screen, false);
        view.part(&part(Payload::Task(task(TaskPhase::Started)))).unwrap();
        let event = |kind: EventKind, data| Event {
            kind: kind.into(),
            name: "weather".into(),
            run_id: "call".into(),
            data: Some(data),
            ..Default::default()
        };
        let input = runloom::v1::EventData { input: Some(json!({"city": "Oslo"}).into()), ..Default::default() };
        view.part(&part(Payload::Event(event(EventKind::ToolStart, input)))).unwrap();
        let message = json!({"type": "tool", "content": "snow"});
        let output = runloom::v1::EventData { output: Some(message.into()), ..Default::default() };
        view.part(&part(Payload::Event(event(EventKind::ToolEnd, output)))).unwrap();
        let custom = runloom::v1::Custom { payload: Some(json!({"done": 0.5}).into()), ..Default::default() };
        view.part(&part(Payload::Custom(custom))).unwrap();
        view.part(&part(Payload::Task(task(TaskPhase::Finished)))).unwrap();
        view.done(Duration::from_secs(2), None, None).unwrap();
        assert_eq!(out.text(), "");
        let expected = [
            "▸ plan",
            r#"▸ weather {"city":"Oslo"}"#,
            "✓ weather → snow 0 ms",
            r#"• {"done":0.5}"#,
            "✓ plan 0 ms",
            "done in 2.0 s",
        ];
        assert_eq!(notes.text().lines().collect::<Vec<_>>(), expected);
        assert!(!view.has_output());
    }

    #[test]
    fn a_report_is_its_status_and_other_fields() {
        let plain = |payload| anstream::adapter::strip_str(&report(&payload)).to_string();
        assert_eq!(plain(json!({"status": "Looking…", "step": 1, "of": 3})), "Looking… (step 1, of 3)");
        assert_eq!(plain(json!({"percent": 10})), r#"{"percent":10}"#);
        assert_eq!(plain(json!("text")), "text");
    }

    #[test]
    fn named_modes_are_printed_as_json() {
        let (screen, out, _) = Screen::in_memory(false);
        let mut view = HumanView::new(screen, true);
        let update =
            runloom::v1::Update { node: "plan".into(), update: Some(json!({"log": [1]}).into()), ..Default::default() };
        let mut inner = part(Payload::Update(update));
        inner.namespace = vec!["child:0198".into()];
        view.part(&inner).unwrap();
        assert_eq!(out.text(), "updates child › plan {\"log\":[1]}\n");
        assert!(view.has_output());
    }
}
