//! Conversions of an id or a run into requests.

use crate::v1::{
    CancelRunRequest, CopyThreadRequest, CreateRunRequest, DeleteAssistantRequest, DeleteCronRequest,
    DeleteGraphRequest, DeleteRunRequest, DeleteThreadRequest, GetAssistantGraphRequest, GetAssistantRequest,
    GetAssistantSchemasRequest, GetCronRequest, GetRunRequest, GetStateRequest, GetThreadRequest, JoinRunRequest,
    ListAssistantVersionsRequest, ListCheckpointsRequest, RegisterGraphRequest, RunSpec, StreamRunRequest,
    StreamThreadRequest, WaitRunRequest, wait_run_request::Target,
};

/// `From<&str>` and `From<String>`, which set one field.
macro_rules! from_string {
    ($($request:ident.$field:ident),* $(,)?) => {$(
        impl From<String> for $request {
            #[allow(clippy::needless_update, reason = "some requests have one field")]
            fn from($field: String) -> Self {
                Self { $field, ..Self::default() }
            }
        }

        impl From<&str> for $request {
            fn from($field: &str) -> Self {
                Self::from($field.to_owned())
            }
        }
    )*};
}

from_string! {
    CancelRunRequest.run_id,
    CopyThreadRequest.thread_id,
    DeleteAssistantRequest.assistant_id,
    DeleteCronRequest.cron_id,
    DeleteGraphRequest.name,
    DeleteRunRequest.run_id,
    DeleteThreadRequest.thread_id,
    GetAssistantGraphRequest.assistant_id,
    GetAssistantRequest.assistant_id,
    GetAssistantSchemasRequest.assistant_id,
    GetCronRequest.cron_id,
    GetRunRequest.run_id,
    GetStateRequest.thread_id,
    GetThreadRequest.thread_id,
    JoinRunRequest.run_id,
    ListAssistantVersionsRequest.assistant_id,
    ListCheckpointsRequest.thread_id,
    RegisterGraphRequest.document,
    StreamThreadRequest.thread_id,
}

impl From<RunSpec> for StreamRunRequest {
    fn from(run: RunSpec) -> Self {
        Self { run: Some(run), ..Self::default() }
    }
}

impl From<RunSpec> for CreateRunRequest {
    fn from(run: RunSpec) -> Self {
        Self { run: Some(run), ..Self::default() }
    }
}

impl From<RunSpec> for WaitRunRequest {
    fn from(run: RunSpec) -> Self {
        Self { target: Some(Target::Run(run)), ..Self::default() }
    }
}

impl From<&str> for WaitRunRequest {
    fn from(run_id: &str) -> Self {
        Self { target: Some(Target::RunId(run_id.to_owned())), ..Self::default() }
    }
}
