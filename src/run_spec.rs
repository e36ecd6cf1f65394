//! Builder methods of [`RunSpec`], and methods of [`End`].

use std::time::Duration;

use tonic::Code;

use crate::{
    Error,
    v1::{Command, End, IfThreadNotExists, Json, RunSpec, RunState, StreamMode, run_spec},
};

impl RunSpec {
    /// A run of a graph. Without a thread it is stateless; without input it continues from the thread's latest checkpoint.
    pub fn graph(name: impl Into<String>) -> Self {
        Self { target: Some(run_spec::Target::GraphName(name.into())), ..Self::default() }
    }

    /// A run of an assistant. Without a thread it is stateless; without input it continues from the thread's latest checkpoint.
    pub fn assistant(id: impl Into<String>) -> Self {
        Self { target: Some(run_spec::Target::AssistantId(id.into())), ..Self::default() }
    }

    /// Sets the thread, which must exist.
    pub fn with_thread(mut self, thread_id: impl Into<String>) -> Self {
        self.thread_id = thread_id.into();
        self
    }

    /// Sets the thread, which is created if it does not exist.
    pub fn with_new_thread(self, thread_id: impl Into<String>) -> Self {
        Self { if_not_exists: IfThreadNotExists::Create.into(), ..self.with_thread(thread_id) }
    }

    /// Sets the input.
    pub fn with_input(mut self, input: impl Into<Json>) -> Self {
        self.start = Some(run_spec::Start::Input(input.into()));
        self
    }

    /// Sets a command instead of an input.
    pub fn with_command(mut self, command: Command) -> Self {
        self.start = Some(run_spec::Start::Command(command));
        self
    }

    /// Answers the only open question of the thread.
    pub fn with_resume(self, answer: impl Into<Json>) -> Self {
        self.with_command(Command { resume: Some(answer.into()), ..Command::default() })
    }

    /// Answers open questions, by `Interrupt.id`.
    pub fn with_answers<I: Into<String>, J: Into<Json>>(self, answers: impl IntoIterator<Item = (I, J)>) -> Self {
        let resume_by_id = answers.into_iter().map(|(id, answer)| (id.into(), answer.into())).collect();
        self.with_command(Command { resume_by_id, ..Command::default() })
    }

    /// Sets the context.
    pub fn with_context(mut self, context: impl Into<Json>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// Sets the metadata.
    pub fn with_metadata(mut self, metadata: impl Into<Json>) -> Self {
        self.metadata = Some(metadata.into());
        self
    }

    /// Sets the modes to record and stream.
    pub fn with_modes(mut self, modes: impl IntoIterator<Item = StreamMode>) -> Self {
        self.stream_modes = modes.into_iter().map(Into::into).collect();
        self
    }

    /// Records and streams the parts of subgraphs as well.
    pub fn with_subgraphs(mut self) -> Self {
        self.stream_subgraphs = true;
        self
    }

    /// Sets the maximum duration, after which the run ends as TIMED_OUT.
    pub fn with_run_timeout(mut self, timeout: Duration) -> Self {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        // `Duration` guarantees less than 10^9.
        let nanos = timeout.subsec_nanos() as i32;
        self.run_timeout = Some(prost_types::Duration { seconds, nanos });
        self
    }

    /// Sets the request id, which makes the creation safe to retry, also from another process. Default: [`Client`](crate::Client) generates one.
    pub fn with_request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = request_id.into();
        self
    }
}

impl RunState {
    /// Whether a run in this state has ended.
    pub fn is_end(self) -> bool {
        !matches!(self, Self::Unspecified | Self::Pending | Self::Running)
    }
}

impl End {
    /// An error if the run failed, was cancelled or timed out. An interrupted run is not an error.
    pub fn into_result(self) -> Result<(), Error> {
        let state = self.state();
        match (state, self.error) {
            (RunState::Succeeded | RunState::AwaitingInput, _) => Ok(()),
            (_, Some(status)) => Err(status.into()),
            (state, None) => Err(Error::new(Code::Unknown, format!("the run ended as {}", state.as_str_name()))),
        }
    }
}
