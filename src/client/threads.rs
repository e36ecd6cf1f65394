//! The methods of service Threads.

use super::{
    Client, RunStream, encoding, once, or_new_id, present, repeated,
    stream::{Position, Scope},
};
use crate::{
    Error,
    v1::{
        CheckpointRef, CopyThreadRequest, CreateThreadRequest, DeleteThreadRequest, GetStateRequest, GetStateResponse,
        GetThreadRequest, IfExists, ListCheckpointsRequest, ListCheckpointsResponse, ListThreadsRequest,
        ListThreadsResponse, StreamThreadRequest, Thread, UpdateStateRequest, UpdateThreadRequest,
    },
};

impl Client {
    /// Creates a thread. `CreateThreadRequest::default()` creates one without metadata.
    pub async fn create_thread(&self, mut request: CreateThreadRequest) -> Result<Thread, Error> {
        request.json_encoding = encoding(request.json_encoding);
        if request.thread_id.is_empty() {
            or_new_id(&mut request.thread_id);
            request.if_exists = IfExists::Return.into();
        }
        let answer = if request.if_exists() == IfExists::Return {
            repeated!(self, threads.create_thread(request))
        } else {
            once!(self, threads.create_thread(request))
        };
        present(answer?.thread, "thread")
    }

    /// Reads a thread, by its id.
    pub async fn get_thread(&self, request: impl Into<GetThreadRequest>) -> Result<Thread, Error> {
        let mut request: GetThreadRequest = request.into();
        request.json_encoding = encoding(request.json_encoding);
        present(repeated!(self, threads.get_thread(request))?.thread, "thread")
    }

    /// Changes a thread's metadata.
    pub async fn update_thread(&self, mut request: UpdateThreadRequest) -> Result<Thread, Error> {
        request.json_encoding = encoding(request.json_encoding);
        present(repeated!(self, threads.update_thread(request))?.thread, "thread")
    }

    /// Deletes a thread with all its runs and checkpoints, by its id.
    pub async fn delete_thread(&self, request: impl Into<DeleteThreadRequest>) -> Result<(), Error> {
        once!(self, threads.delete_thread(request.into())).map(drop)
    }

    /// Lists threads, a page at a time.
    pub async fn list_threads(&self, mut request: ListThreadsRequest) -> Result<ListThreadsResponse, Error> {
        request.json_encoding = encoding(request.json_encoding);
        repeated!(self, threads.list_threads(request))
    }

    /// Copies a thread, by its id.
    pub async fn copy_thread(&self, request: impl Into<CopyThreadRequest>) -> Result<Thread, Error> {
        let mut request: CopyThreadRequest = request.into();
        request.json_encoding = encoding(request.json_encoding);
        present(once!(self, threads.copy_thread(request))?.thread, "thread")
    }

    /// Reads the state of a thread. Takes the thread's id, for the latest checkpoint, or the whole request.
    pub async fn get_state(&self, request: impl Into<GetStateRequest>) -> Result<GetStateResponse, Error> {
        let mut request: GetStateRequest = request.into();
        request.json_encoding = encoding(request.json_encoding);
        repeated!(self, threads.get_state(request))
    }

    /// Writes to the state of a thread.
    pub async fn update_state(&self, request: UpdateStateRequest) -> Result<CheckpointRef, Error> {
        present(once!(self, threads.update_state(request))?.checkpoint, "checkpoint")
    }

    /// Lists the checkpoints of a thread, newest first, a page at a time. Takes the thread's id, or the whole request.
    pub async fn list_checkpoints(
        &self,
        request: impl Into<ListCheckpointsRequest>,
    ) -> Result<ListCheckpointsResponse, Error> {
        let mut request: ListCheckpointsRequest = request.into();
        request.json_encoding = encoding(request.json_encoding);
        repeated!(self, threads.list_checkpoints(request))
    }

    /// Streams all runs of a thread live. Takes the thread's id, which streams from now on, or the whole request. Ends only with an error.
    pub fn stream_thread(&self, request: impl Into<StreamThreadRequest>) -> RunStream {
        let mut stream: StreamThreadRequest = request.into();
        stream.json_encoding = encoding(stream.json_encoding);
        stream.max_part_bytes = self.max_part_bytes(stream.max_part_bytes);

        let client = self.clone();
        let start = Position::at("", &stream.cursor);
        RunStream::new(Scope::Thread, start, self.retry.clone(), move |position| {
            let mut threads = client.threads();
            let stream = StreamThreadRequest { cursor: position.cursor.clone(), ..stream.clone() };
            Box::pin(async move { threads.stream_thread(stream).await })
        })
    }
}
