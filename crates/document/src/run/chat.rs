//! The step that calls a chat model.

use std::sync::Arc;

use runloom_engine::{
    List, NodeError, Object, Value,
    channel::coerce_prompt,
    model::{ChatModel, ChatRequest, ToolSpec},
};

use super::Run;
use crate::read::given::Given;

/// A call of a chat model.
pub(crate) struct Chat {
    pub model: Arc<dyn ChatModel>,
    /// The prompt; none means `state.messages`.
    pub messages: Option<Given>,
    /// Whether `state.messages` is normalised by its reducer.
    pub is_normal: bool,
    pub system: Option<Given>,
    pub tools: Vec<ToolSpec>,
    /// The channel that takes the answer, and whether it gathers a list.
    pub write: Option<(Arc<str>, bool)>,
    pub bind: Arc<str>,
    pub tags: Vec<Arc<str>>,
}

impl Chat {
    pub async fn run(&self, run: &mut Run) -> Result<(), NodeError> {
        let system = match &self.system {
            Some(given) => Some(text(run.eval(given)?)?),
            None => None,
        };
        let mut metadata = Object::default();
        metadata.insert("task_id", run.cx.task_id().to_string());
        let request = ChatRequest {
            messages: self.prompt(run)?,
            system,
            tools: self.tools.clone(),
            options: Object::default(),
            metadata,
        };
        let reply = run.cx.chat(&*self.model, request, &self.tags).await?;
        if let Some((channel, gathers)) = &self.write {
            let value = if *gathers { Value::from(vec![reply.clone()]) } else { reply.clone() };
            run.write(channel, value);
        }
        run.bind(&self.bind, reply);
        Ok(())
    }

    fn prompt(&self, run: &Run) -> Result<List, NodeError> {
        let given = match &self.messages {
            Some(given) => run.eval(given)?,
            None => run.state.get("messages").cloned().unwrap_or_default(),
        };
        match (given, &self.messages) {
            // The reducer has normalised them, so the list goes to the model as it is.
            (Value::List(list), None) if self.is_normal && matches!(run.state, runloom_engine::StateView::State(_)) => {
                Ok(list)
            }
            (given, _) => coerce_prompt(&given).map_err(|m| NodeError::msg(format!("`messages` of `chat_model`: {m}"))),
        }
    }
}

fn text(value: Value) -> Result<String, NodeError> {
    match value {
        Value::String(text) => Ok(text.to_string()),
        other => Err(NodeError::msg(format!("`system` of `chat_model` has to be a text, not {}", other.kind()))),
    }
}
