//! The methods of service Runs.

use super::{
    Client, RunStream, encoding, once, or_new_id, present, repeated,
    stream::{Position, Scope},
};
use crate::{
    Error,
    v1::{
        CancelRunRequest, CreateRunRequest, DeleteRunRequest, GetRunRequest, JoinRunRequest, ListRunsRequest,
        ListRunsResponse, Run, StreamRunRequest, WaitRunRequest, WaitRunResponse, wait_run_request::Target,
    },
};

impl Client {
    /// Creates a run and streams it to its end. Takes a [`RunSpec`](crate::v1::RunSpec), or the whole request.
    pub fn stream_run(&self, request: impl Into<StreamRunRequest>) -> RunStream {
        let mut create: StreamRunRequest = request.into();
        if let Some(run) = &mut create.run {
            or_new_id(&mut run.request_id);
        }
        create.json_encoding = encoding(create.json_encoding);
        create.max_part_bytes = self.max_part_bytes(create.max_part_bytes);

        let client = self.clone();
        RunStream::new(Scope::Run, Position::default(), self.retry.clone(), move |position| {
            let mut runs = client.runs();
            if position.run_id.is_empty() {
                let create = create.clone();
                return Box::pin(async move { runs.stream_run(create).await });
            }
            let join = JoinRunRequest {
                run_id: position.run_id.clone(),
                cursor: position.cursor.clone(),
                json_encoding: create.json_encoding,
                max_part_bytes: create.max_part_bytes,
                ..JoinRunRequest::default()
            };
            Box::pin(async move { runs.join_run(join).await })
        })
    }

    /// Streams an existing run to its end. Takes the run's id, which streams from the start of its log, or the whole request.
    pub fn join_run(&self, request: impl Into<JoinRunRequest>) -> RunStream {
        let mut join: JoinRunRequest = request.into();
        join.json_encoding = encoding(join.json_encoding);
        join.max_part_bytes = self.max_part_bytes(join.max_part_bytes);

        let client = self.clone();
        let start = Position::at(&join.run_id, &join.cursor);
        RunStream::new(Scope::Run, start, self.retry.clone(), move |position| {
            let mut runs = client.runs();
            let join = JoinRunRequest { cursor: position.cursor.clone(), ..join.clone() };
            Box::pin(async move { runs.join_run(join).await })
        })
    }

    /// Creates a run in the background. Takes a [`RunSpec`](crate::v1::RunSpec), or the whole request.
    pub async fn create_run(&self, request: impl Into<CreateRunRequest>) -> Result<Run, Error> {
        let mut request: CreateRunRequest = request.into();
        if let Some(run) = &mut request.run {
            or_new_id(&mut run.request_id);
        }
        request.json_encoding = encoding(request.json_encoding);
        present(repeated!(self, runs.create_run(request))?.run, "run")
    }

    /// Waits for the end of a run, a new one by its [`RunSpec`](crate::v1::RunSpec) or an existing one by its id. A run that failed is not an error: see `end`.
    pub async fn wait_run(&self, request: impl Into<WaitRunRequest>) -> Result<WaitRunResponse, Error> {
        let mut request: WaitRunRequest = request.into();
        if let Some(Target::Run(run)) = &mut request.target {
            or_new_id(&mut run.request_id);
        }
        request.json_encoding = encoding(request.json_encoding);
        repeated!(self, runs.wait_run(request))
    }

    /// Reads a run, by its id.
    pub async fn get_run(&self, request: impl Into<GetRunRequest>) -> Result<Run, Error> {
        let mut request: GetRunRequest = request.into();
        request.json_encoding = encoding(request.json_encoding);
        present(repeated!(self, runs.get_run(request))?.run, "run")
    }

    /// Lists runs, a page at a time.
    pub async fn list_runs(&self, mut request: ListRunsRequest) -> Result<ListRunsResponse, Error> {
        request.json_encoding = encoding(request.json_encoding);
        repeated!(self, runs.list_runs(request))
    }

    /// Cancels a run, by its id.
    pub async fn cancel_run(&self, request: impl Into<CancelRunRequest>) -> Result<Run, Error> {
        let mut request: CancelRunRequest = request.into();
        request.json_encoding = encoding(request.json_encoding);
        present(repeated!(self, runs.cancel_run(request))?.run, "run")
    }

    /// Deletes a run that has ended, by its id.
    pub async fn delete_run(&self, request: impl Into<DeleteRunRequest>) -> Result<(), Error> {
        once!(self, runs.delete_run(request.into())).map(drop)
    }
}
