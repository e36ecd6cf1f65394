//! Service Threads.

use std::sync::Arc;

use runloom::v1::{
    self, CopyThreadRequest, CopyThreadResponse, CreateThreadRequest, CreateThreadResponse, DeleteThreadRequest,
    DeleteThreadResponse, GetStateRequest, GetStateResponse, GetThreadRequest, GetThreadResponse, IfExists,
    JsonEncoding, ListCheckpointsRequest, ListCheckpointsResponse, ListThreadsRequest, ListThreadsResponse,
    StreamRunResponse, StreamThreadRequest, ThreadStatus, UpdateStateRequest, UpdateStateResponse, UpdateThreadRequest,
    UpdateThreadResponse, threads_server::Threads,
};
use runloom_core::{Error, ReadOptions, Reason, Session, StateQuery, StateUpdateRequest, store};
use runloom_engine::{StateUpdate, ThreadId, Value, checkpoint::CheckpointFilter};
use runloom_store::{Direction, NewThread, PageRequest, RunFilter, ThreadFilter, ThreadSort};
use tonic::{Request, Response, Status};

use super::{Answer, Api, OrStatus, check_mask, encoding, metadata_keys};
use crate::{
    check::{Check, under},
    connection::Call,
    convert::{checkpoint, resources},
    cursor::ThreadPlace,
    filters::read_options,
    fit::Limit,
    pages::Pages,
    status::{refuse, status, within},
    stream::{Parts, Scope, Source, ThreadSource, Wants, status_of},
};

/// The newest come first.
const NEWEST: (ThreadSort, Direction) = (ThreadSort::Created, Direction::Descending);

impl Api {
    /// Streams every run of a thread.
    pub async fn open_thread(self: Arc<Self>, request: Request<StreamThreadRequest>) -> Answer<Parts> {
        let session = self.session(&request);
        let call = Call::of(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let wants =
            Wants { encoding: encoding(&mut check, request.json_encoding), max_part_bytes: request.max_part_bytes };
        let thread: ThreadId = check.id("thread_id", &request.thread_id);
        let options = read_options(&mut check, &request.stream_modes, request.event_filter);
        check.done()?;
        let asked = match &*request.cursor {
            "" => None,
            cursor => Some(ThreadPlace::parse(thread, cursor).or_status()?),
        };
        let permit = call.open_stream()?;
        let (place, after) = match asked {
            Some(place) => (place, Some(inside(place))),
            None => (end_of(&session, thread).await.or_status()?, None),
        };
        let options = ReadOptions { numbered: true, ..options };
        let reader = session.read_thread(thread, after, options, false).await;
        let reader = reader.map_err(|error| status_of(error, Scope::Thread(thread), None))?;
        let source = Source::Thread(ThreadSource::new(reader, thread, place));
        Ok(Response::new(Parts::new(source, &wants, self.sharing.clone(), self.patience, &call, permit)))
    }
}

/// After the latest run of a thread that is over: what comes then is told to whoever joins there.
async fn end_of(session: &Session, thread: ThreadId) -> Result<ThreadPlace, Error> {
    session.get_thread(thread).await?;
    let filter = RunFilter { thread: Some(thread), ..RunFilter::default() };
    let mut request = PageRequest::first(100);
    loop {
        let page = session.list_runs(filter.clone(), request).await?;
        if let Some(run) = page.items.iter().find(|run| run.status.is_end()) {
            return Ok(ThreadPlace { run: Some(run.id), seq: run.last_seq });
        }
        match page.next {
            Some(token) => request = PageRequest::after(100, token),
            None => return Ok(ThreadPlace { run: None, seq: 0 }),
        }
    }
}

/// A thread, with its state where asked for.
async fn told(
    session: &Session,
    thread: &store::Thread,
    include_values: bool,
    encoding: JsonEncoding,
) -> Result<v1::Thread, Status> {
    let mut values = None;
    if include_values {
        match session.get_state(StateQuery::latest(thread.id)).await {
            Ok(view) => values = view.config.is_some().then(|| view.values_object()),
            // Its graph is gone, or it went itself while it was listed: the thread is told without a state.
            Err(error) if matches!(error.reason, Reason::GraphUnknown | Reason::ThreadNotFound) => {}
            Err(error) => return Err(status(error)),
        }
    }
    resources::thread(thread, values.as_ref(), encoding).or_status()
}

/// A place as the core takes it.
fn inside(place: ThreadPlace) -> String {
    let run = place.run.map_or(uuid::Uuid::nil(), |run| run.0);
    format!("{run}:{}", place.seq)
}

/// A fault of a thread's own fields.
fn of_thread(error: Error) -> Status {
    status(within(error, |field| under("thread", field)))
}

/// What the streams of the generated server would be: [`routes`](crate::routes) serves them instead.
type Elsewhere = tokio_stream::Empty<Result<StreamRunResponse, Status>>;

#[tonic::async_trait]
impl Threads for Api {
    type StreamThreadStream = Elsewhere;

    async fn stream_thread(&self, _: Request<StreamThreadRequest>) -> Answer<Elsewhere> {
        Err(refuse(Reason::Internal, "served by `routes`"))
    }

    async fn create_thread(&self, request: Request<CreateThreadRequest>) -> Answer<CreateThreadResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let new = NewThread {
            id: check.optional_id("thread_id", &request.thread_id),
            metadata: check.object("metadata", request.metadata).unwrap_or_default(),
            if_exists: if_exists(&mut check, request.if_exists),
            ..NewThread::default()
        };
        check.done()?;
        let thread = session.create_thread(new).await.or_status()?;
        let thread = resources::thread(&thread, None, encoding).or_status()?;
        Ok(Response::new(CreateThreadResponse { thread: Some(Limit::of(0).fit(thread)) }))
    }

    async fn get_thread(&self, request: Request<GetThreadRequest>) -> Answer<GetThreadResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let id = check.id("thread_id", &request.thread_id);
        check.done()?;
        let thread = session.get_thread(id).await.or_status()?;
        let thread = told(&session, &thread, request.include_values, encoding).await?;
        let thread = Limit::of(request.max_part_bytes).fit(thread);
        Ok(Response::new(GetThreadResponse { thread: Some(thread) }))
    }

    async fn update_thread(&self, request: Request<UpdateThreadRequest>) -> Answer<UpdateThreadResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let thread = request.thread.unwrap_or_default();
        let id = check.id("thread.thread_id", &thread.thread_id);
        let metadata = check.object("thread.metadata", thread.metadata);
        let paths = request.update_mask.unwrap_or_default().paths;
        check_mask(&mut check, &paths, &["metadata"]);
        check.done()?;
        let is_whole = paths.iter().any(|path| path == "metadata") || (paths.is_empty() && metadata.is_some());
        let thread = if is_whole {
            session.replace_thread_metadata(id, metadata.unwrap_or_default()).await
        } else if paths.is_empty() {
            session.get_thread(id).await
        } else {
            session.update_thread(id, metadata_keys(&paths, metadata.as_ref())).await
        };
        let thread = resources::thread(&thread.map_err(of_thread)?, None, encoding).or_status()?;
        Ok(Response::new(UpdateThreadResponse { thread: Some(Limit::of(0).fit(thread)) }))
    }

    async fn delete_thread(&self, request: Request<DeleteThreadRequest>) -> Answer<DeleteThreadResponse> {
        let session = self.session(&request);
        let mut check = Check::default();
        let id = check.id("thread_id", &request.into_inner().thread_id);
        check.done()?;
        session.delete_thread(id).await.or_status()?;
        Ok(Response::new(DeleteThreadResponse {}))
    }

    async fn list_threads(&self, request: Request<ListThreadsRequest>) -> Answer<ListThreadsResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let (pages, mut page) = Pages::of(&request, 50).or_status()?;
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let status: ThreadStatus = check.one_of("status", request.status);
        let filter = ThreadFilter {
            metadata: check.object("metadata_filter", request.metadata_filter).unwrap_or_default(),
            status: resources::thread_status_inside(status),
            ..ThreadFilter::default()
        };
        check.done()?;
        let limit = Limit::of(request.max_part_bytes);
        loop {
            let found = session.list_threads(filter.clone(), NEWEST, page.clone()).await.or_status()?;
            let (mut threads, mut room) = (Vec::with_capacity(found.items.len()), limit.page());
            for thread in &found.items {
                let mut thread = told(&session, thread, request.include_values, encoding).await?;
                if !room.admit(&mut thread) {
                    break;
                }
                threads.push(thread);
            }
            if threads.len() == found.items.len() {
                return Ok(Response::new(ListThreadsResponse { threads, next_page_token: pages.next(found.next) }));
            }
            // The token of a shorter page is the store's to give.
            page.size = threads.len();
        }
    }

    async fn copy_thread(&self, request: Request<CopyThreadRequest>) -> Answer<CopyThreadResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let from = check.id("thread_id", &request.thread_id);
        let to = check.optional_id("new_thread_id", &request.new_thread_id);
        check.done()?;
        let thread = session.copy_thread(from, to).await.or_status()?;
        let thread = resources::thread(&thread, None, encoding).or_status()?;
        Ok(Response::new(CopyThreadResponse { thread: Some(Limit::of(0).fit(thread)) }))
    }

    async fn get_state(&self, request: Request<GetStateRequest>) -> Answer<GetStateResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let query = StateQuery {
            thread: check.id("thread_id", &request.thread_id),
            checkpoint_id: check.optional_id("checkpoint_id", &request.checkpoint_id),
            namespace: check.namespace("namespace", &request.namespace),
            subgraphs: request.include_subgraphs,
        };
        check.done()?;
        let view = session.get_state(query).await.or_status()?;
        let checkpoint = view.config.is_some().then(|| checkpoint::checkpoint(&view, true, Some(encoding)));
        let mut checkpoints: Vec<_> = checkpoint.transpose().or_status()?.into_iter().collect();
        let has_checkpoint = !checkpoints.is_empty();
        if request.include_subgraphs {
            checkpoints.extend(checkpoint::subgraphs(&view, encoding).or_status()?);
        }
        Limit::of(request.max_part_bytes).fit_all(&mut checkpoints);
        let waiting = self.core.workers().waiting();
        for task in checkpoints.iter_mut().flat_map(|checkpoint| &mut checkpoint.tasks).filter(|_| !waiting.is_empty())
        {
            let queue = task.task_id.parse().ok().and_then(|id| waiting.get(&id));
            task.waiting_for = queue.map(ToString::to_string).unwrap_or_default();
        }
        let mut checkpoints = checkpoints.into_iter();
        Ok(Response::new(GetStateResponse {
            checkpoint: if has_checkpoint { checkpoints.next() } else { None },
            subgraph_checkpoints: checkpoints.collect(),
        }))
    }

    async fn update_state(&self, request: Request<UpdateStateRequest>) -> Answer<UpdateStateResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let supersteps = supersteps(&mut check, request.supersteps);
        if !supersteps.is_empty() && (request.values.is_some() || !request.as_node.is_empty()) {
            check.fail("supersteps", "stands in place of values and as_node; give one of them");
        }
        let values = check.object("values", request.values).map(Value::Object);
        let update = StateUpdateRequest {
            thread: check.id("thread_id", &request.thread_id),
            checkpoint_id: check.optional_id("checkpoint_id", &request.checkpoint_id),
            namespace: check.namespace("namespace", &request.namespace),
            updates: vec![StateUpdate { values, as_node: Some(request.as_node).filter(|node| !node.is_empty()) }],
            expected_checkpoint_id: check.optional_id("expected_checkpoint_id", &request.expected_checkpoint_id),
            graph: Some(request.graph_name).filter(|name| !name.is_empty()),
        };
        check.done()?;
        let rename = |field: &str| if field == "graph" { "graph_name".to_owned() } else { field.to_owned() };
        let made = match supersteps.is_empty() {
            true => session.update_state(update).await,
            false => session.bulk_update_state(update, supersteps).await,
        };
        let made = made.map_err(|error| status(within(error, rename)))?;
        Ok(Response::new(UpdateStateResponse { checkpoint: Some(checkpoint::reference(&made)) }))
    }

    async fn list_checkpoints(&self, request: Request<ListCheckpointsRequest>) -> Answer<ListCheckpointsResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let (pages, page) = Pages::of(&request, 10).or_status()?;
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let thread = check.id("thread_id", &request.thread_id);
        let namespace = check.namespace("namespace", &request.namespace);
        let mut filter = CheckpointFilter {
            before: check.optional_id("before_checkpoint_id", &request.before_checkpoint_id),
            metadata: check.object("metadata_filter", request.metadata_filter).unwrap_or_default(),
            limit: Some(page.size),
        };
        check.done()?;
        if let Some(before) = filter.before {
            session.check_checkpoint(thread, &namespace, before).await.or_status()?;
        }
        let limit = Limit::of(request.max_part_bytes);
        loop {
            let found = session.list_checkpoints(thread, &namespace, filter.clone(), page.token.as_deref()).await;
            let found = found.or_status()?;
            let convert = |view| checkpoint::checkpoint(view, request.include_values, Some(encoding));
            let checkpoints = found.items.iter().map(convert).collect::<Result<Vec<_>, _>>();
            let mut checkpoints = checkpoints.or_status()?;
            match limit.fit_page(&mut checkpoints) {
                Some(fewer) => filter.limit = Some(fewer),
                None => {
                    let next_page_token = pages.next(found.next);
                    return Ok(Response::new(ListCheckpointsResponse { checkpoints, next_page_token }));
                }
            }
        }
    }
}

/// What to do where an id is taken.
pub(super) fn if_exists(check: &mut Check, number: i32) -> store::IfExists {
    match check.one_of("if_exists", number) {
        IfExists::Unspecified | IfExists::Reject => store::IfExists::Refuse,
        IfExists::Return => store::IfExists::Keep,
    }
}

fn supersteps(check: &mut Check, steps: Vec<v1::StateSuperstep>) -> Vec<Vec<StateUpdate>> {
    let mut read = |step: usize, at: usize, update: v1::StateUpdate| StateUpdate {
        values: check.object(&format!("supersteps[{step}].updates[{at}].values"), update.values).map(Value::Object),
        as_node: Some(update.as_node).filter(|node| !node.is_empty()),
    };
    let mut all = Vec::with_capacity(steps.len());
    for (step, superstep) in steps.into_iter().enumerate() {
        all.push(superstep.updates.into_iter().enumerate().map(|(at, update)| read(step, at, update)).collect());
    }
    all
}
