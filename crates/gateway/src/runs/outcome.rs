//! What a run gives to whoever waits for it, as LangGraph's server puts it together.

use futures_util::StreamExt;
use runloom_core::{
    Body, Error, Outcome, ReadOptions, Reason, Recording, Session,
    store::{Run, RunStatus},
};
use runloom_engine::{
    Object, Value,
    stream::{Interrupt, Mode, Modes, Payload, UpdatePart},
};

use crate::langgraph::{error_object, state_interrupts as interrupts};

/// How many records before its end a run's questions are looked for in.
const LOOK_BACK: u64 = 10_000;

/// What a run that is over gives. None where the server goes down before it is: the client asks again.
pub(super) async fn outcome(core: &Session, run: &Run) -> Option<Value> {
    let failed = |error: &Error| Value::Object(object! { "__error__" => error_object(error) });
    let Outcome { run, end } = match core.wait_run(run.id).await {
        Err(error) if error.reason == Reason::ServerDraining => return None,
        Err(error) => return Some(failed(&error)),
        Ok(outcome) => outcome,
    };
    if let (Some(error), RunStatus::Failed | RunStatus::TimedOut | RunStatus::Cancelled) = (&end.error, end.status) {
        return Some(failed(error));
    }
    if !end.interrupts.is_empty() {
        return Some(asked(core, &run, &end.interrupts).await);
    }
    Some(match end.values {
        Some(Value::Object(values)) => values.into(),
        None | Some(Value::Null) => Value::object(),
        Some(other) => other,
    })
}

/// What a run gives that stopped at questions. Where one part of its stream tells of them, it is that part: the state
/// before the step, with what is asked. Where several do, it is the questions alone, in the order in which they came.
async fn asked(core: &Session, run: &Run, open: &[Interrupt]) -> Value {
    let recorded = Recording::modes_of(run);
    let modes = if recorded.has(Mode::Values) { Mode::Values } else { Mode::Updates };
    let all = |asked: &[Interrupt]| Value::Object(object! { "__interrupt__" => interrupts(asked) });
    if !recorded.has(modes) {
        return all(open);
    }
    let options = ReadOptions {
        after: run.last_seq.saturating_sub(LOOK_BACK),
        modes: Some(Modes::from(modes)),
        ..ReadOptions::default()
    };
    // What cannot be read any more is told as far as it is known.
    let Ok(mut reader) = core.read_run(run.id, options).await else { return all(open) };
    let mut told: Vec<(Option<Object>, Vec<Interrupt>)> = Vec::new();
    while let Some(Ok(record)) = reader.next().await {
        let is_outer = record.namespace.is_empty();
        match &record.body {
            Body::Part(Payload::Values(values)) if is_outer => {
                if let Some(asked) = values.interrupts.as_ref().filter(|asked| !asked.is_empty()) {
                    told.push((Some(values.to_object()), asked.to_vec()));
                }
            }
            Body::Part(Payload::Update(UpdatePart::Interrupt(asked))) if is_outer && !asked.is_empty() => {
                told.push((None, asked.to_vec()));
            }
            _ => {}
        }
    }
    match &mut told[..] {
        [] => all(open),
        [(values, asked)] => {
            let mut values = values.take().unwrap_or_default();
            values.insert("__interrupt__", interrupts(asked));
            values.into()
        }
        several => all(&several.iter().flat_map(|(_, asked)| asked.iter().cloned()).collect::<Vec<_>>()),
    }
}
