//! Service Runs.

use std::sync::Arc;

use futures_util::future::Either;
use runloom::v1::{
    CancelMode, CancelRunRequest, CancelRunResponse, CreateRunRequest, CreateRunResponse, DeleteRunRequest,
    DeleteRunResponse, GetRunRequest, GetRunResponse, JoinRunRequest, JsonEncoding, ListRunsRequest, ListRunsResponse,
    RunState, StreamRunRequest, StreamRunResponse, WaitRunRequest, WaitRunResponse, runs_server::Runs,
    wait_run_request,
};
use runloom_core::{Attending, Error, Outcome, ReadOptions, Reason, Recording, RunOptions, RunRequest, Session, store};
use runloom_engine::{Object, RunId, ThreadId, Value, trace};
use runloom_store::{CancelAction, Page, RunFilter, RunStatus};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{Answer, Api, OrStatus, encoding};
use crate::{
    check::{Check, under},
    connection::Call,
    convert::{interrupts, record, resources, stream_mode},
    cursor::run_seq,
    filters::read_options,
    fit::Limit,
    json,
    pages::Pages,
    requests::run_request,
    status::{refuse, status, within},
    stream::{Parts, RunSource, Scope, Source, Wants, status_of},
};

/// How many pages are looked through for one that a filter leaves something of.
const MAX_PAGES: usize = 20;

impl Api {
    /// Creates a run and streams it.
    pub async fn open_run(self: Arc<Self>, request: Request<StreamRunRequest>) -> Answer<Parts> {
        let session = self.session(&request);
        let call = Call::of(&request);
        let (metadata, _, request) = request.into_parts();
        let mut check = Check::default();
        let wants =
            Wants { encoding: encoding(&mut check, request.json_encoding), max_part_bytes: request.max_part_bytes };
        let asked = asked(check, request.run, &metadata)?;
        let permit = call.open_stream()?;
        // Held until the reader counts.
        let (run, _attending) = create_to_read(&session, asked).await?;
        let id = run.id;
        let options = ReadOptions { opening: true, ..ReadOptions::default() };
        let reader =
            session.read_new_run(run, options).await.map_err(|error| status_of(error, Scope::Run(id), None))?;
        let source = Source::Run(RunSource::new(reader, id, 0));
        Ok(Response::new(Parts::new(source, &wants, self.sharing.clone(), self.patience, &call, permit)))
    }

    /// Streams an existing run.
    pub async fn open_join(self: Arc<Self>, request: Request<JoinRunRequest>) -> Answer<Parts> {
        let session = self.session(&request);
        let call = Call::of(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let wants =
            Wants { encoding: encoding(&mut check, request.json_encoding), max_part_bytes: request.max_part_bytes };
        let id: RunId = check.id("run_id", &request.run_id);
        let options = read_options(&mut check, &request.stream_modes, request.event_filter);
        check.done()?;
        let after = run_seq(id, &request.cursor).or_status()?;
        let permit = call.open_stream()?;
        let options = ReadOptions { after, opening: true, ..options };
        let reader = match session.read_run(id, options).await {
            Ok(reader) => reader,
            Err(error) => return Err(refused(&session, id, error).await),
        };
        let source = Source::Run(RunSource::new(reader, id, after));
        Ok(Response::new(Parts::new(source, &wants, self.sharing.clone(), self.patience, &call, permit)))
    }
}

/// Why a run cannot be joined so, with what would work.
async fn refused(session: &Session, id: RunId, mut error: Error) -> Status {
    if error.reason == Reason::ModesNotRecorded
        && let Ok(run) = session.get_run(id).await
    {
        let names = Recording::modes_of(&run).iter().map(|mode| stream_mode(mode).as_str_name());
        let names: Vec<_> = names.map(|name| name.trim_start_matches("STREAM_MODE_")).collect();
        error = error.with("stream_modes", names.join(","));
    }
    status_of(error, Scope::Run(id), None)
}

/// Makes a run whose caller waits for it.
async fn create_to_read(session: &Session, asked: RunRequest) -> Result<(store::Run, Attending), Status> {
    let created = session.create_run_to_read(asked).await;
    created.map_err(|error| status(within(error, |field| under("run", field))))
}

/// Runs with some metadata: the store does not look for it, so pages are read until there is a full one.
async fn list(
    session: &Session,
    filter: RunFilter,
    metadata: &Object,
    mut request: store::PageRequest,
) -> Result<Page<store::Run>, Error> {
    let mut found = Page { items: Vec::new(), next: None };
    let size = request.size;
    for _ in 0..MAX_PAGES {
        let page = session.list_runs(filter.clone(), request).await?;
        found.next = page.next;
        let has = |run: &store::Run| {
            let of_run = RunOptions::stored(run, "metadata").and_then(Value::as_object);
            metadata.is_empty() || of_run.is_some_and(|of_run| store::contains(of_run, metadata))
        };
        found.items.extend(page.items.into_iter().filter(has));
        let Some(token) = found.next.clone().filter(|_| found.items.len() < size) else { break };
        request = store::PageRequest::after(size - found.items.len(), token);
    }
    Ok(found)
}

/// A run that is asked for, checked, and all that was checked before it. It is part of the trace `of` its caller.
fn asked(mut check: Check, spec: Option<runloom::v1::RunSpec>, of: &MetadataMap) -> Result<RunRequest, Status> {
    let mut asked = run_request(&mut check, "run", spec);
    check.done()?;
    for name in trace::HEADERS {
        if let Some(value) = of.get(name).and_then(|value| value.to_str().ok()) {
            asked.trace.insert(name, value);
        }
    }
    Ok(asked)
}

fn outcome(outcome: &Outcome, encoding: JsonEncoding, limit: Limit) -> Result<WaitRunResponse, Status> {
    let values = outcome.end.values.as_ref().map(|values| json::encode(values, encoding));
    Ok(limit.fit(WaitRunResponse {
        run: Some(resources::run(&outcome.run, encoding).or_status()?),
        values: values.transpose().or_status()?,
        interrupts: interrupts(&outcome.end.interrupts, &[], None, Some(encoding)).or_status()?,
        end: Some(record::end(&outcome.end, Some(encoding)).or_status()?),
        omitted: None,
    }))
}

fn statuses(states: Vec<RunState>) -> Vec<RunStatus> {
    let one = |state| {
        Some(match state {
            RunState::Unspecified => return None,
            RunState::Pending => RunStatus::Pending,
            RunState::Running => RunStatus::Running,
            RunState::Succeeded => RunStatus::Succeeded,
            RunState::AwaitingInput => RunStatus::AwaitingInput,
            RunState::Failed => RunStatus::Failed,
            RunState::Cancelled => RunStatus::Cancelled,
            RunState::TimedOut => RunStatus::TimedOut,
        })
    };
    states.into_iter().filter_map(one).collect()
}

/// What the streams of the generated server would be: [`routes`](crate::routes) serves them instead.
type Elsewhere = tokio_stream::Empty<Result<StreamRunResponse, Status>>;

#[tonic::async_trait]
impl Runs for Api {
    type StreamRunStream = Elsewhere;
    type JoinRunStream = Elsewhere;

    async fn stream_run(&self, _: Request<StreamRunRequest>) -> Answer<Elsewhere> {
        Err(refuse(Reason::Internal, "served by `routes`"))
    }

    async fn join_run(&self, _: Request<JoinRunRequest>) -> Answer<Elsewhere> {
        Err(refuse(Reason::Internal, "served by `routes`"))
    }

    async fn create_run(&self, request: Request<CreateRunRequest>) -> Answer<CreateRunResponse> {
        let session = self.session(&request);
        let (metadata, _, request) = request.into_parts();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let created = session.create_run(asked(check, request.run, &metadata)?).await;
        let (run, _) = created.map_err(|error| status(within(error, |field| under("run", field))))?;
        let run = resources::run(&run, encoding).or_status()?;
        Ok(Response::new(CreateRunResponse { run: Some(Limit::of(0).fit(run)) }))
    }

    async fn wait_run(&self, request: Request<WaitRunRequest>) -> Answer<WaitRunResponse> {
        let session = self.session(&request);
        let call = Call::of(&request);
        let (metadata, _, request) = request.into_parts();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let limit = Limit::of(request.max_part_bytes);
        let target = match request.target {
            None => {
                check.fail("target", "missing: a run, or the run_id of an existing one");
                check.done()?;
                return Err(refuse(Reason::FieldInvalid, "target: missing"));
            }
            Some(wait_run_request::Target::Run(spec)) => Either::Left(asked(check, Some(spec), &metadata)?),
            Some(wait_run_request::Target::RunId(id)) => {
                let id: RunId = check.id("run_id", &id);
                check.done()?;
                Either::Right(id)
            }
        };
        let _permit = call.open_stream()?;
        let (id, _attending) = match target {
            Either::Left(asked) => {
                create_to_read(&session, asked).await.map(|(run, attending)| (run.id, Some(attending)))?
            }
            Either::Right(id) => (id, None),
        };
        let came = tokio::select! {
            came = session.wait_run(id) => came.or_status()?,
            () = call.connection.closing() => {
                let error = Error::new(Reason::ServerDraining, "the connection is old enough; wait for the run on another one");
                return Err(status(error.with("run_id", id).retry_after(std::time::Duration::ZERO)));
            }
        };
        Ok(Response::new(outcome(&came, encoding, limit)?))
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Answer<GetRunResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let id = check.id("run_id", &request.run_id);
        check.done()?;
        let run = session.get_run(id).await.or_status()?;
        let run = Limit::of(request.max_part_bytes).fit(resources::run(&run, encoding).or_status()?);
        Ok(Response::new(GetRunResponse { run: Some(run) }))
    }

    async fn list_runs(&self, request: Request<ListRunsRequest>) -> Answer<ListRunsResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let (pages, mut page) = Pages::of(&request, 50).or_status()?;
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let thread: Option<ThreadId> = check.optional_id("thread_id", &request.thread_id);
        let states = check.each_of("states", &request.states);
        let metadata = check.object("metadata_filter", request.metadata_filter).unwrap_or_default();
        check.done()?;
        if let Some(thread) = thread {
            session.get_thread(thread).await.or_status()?;
        }
        let filter = RunFilter { thread, status: statuses(states), ..RunFilter::default() };
        let limit = Limit::of(request.max_part_bytes);
        loop {
            let found = list(&session, filter.clone(), &metadata, page.clone()).await.or_status()?;
            let runs = found.items.iter().map(|run| resources::run(run, encoding)).collect::<Result<Vec<_>, _>>();
            let mut runs = runs.or_status()?;
            match limit.fit_page(&mut runs) {
                Some(fewer) => page.size = fewer,
                None => return Ok(Response::new(ListRunsResponse { runs, next_page_token: pages.next(found.next) })),
            }
        }
    }

    async fn cancel_run(&self, request: Request<CancelRunRequest>) -> Answer<CancelRunResponse> {
        let session = self.session(&request);
        let call = Call::of(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let id = check.id("run_id", &request.run_id);
        let action = match check.one_of("mode", request.mode) {
            CancelMode::Unspecified | CancelMode::Interrupt => CancelAction::Interrupt,
            CancelMode::Rollback => CancelAction::Rollback,
        };
        check.done()?;
        let run = session.cancel_run(id, action, call.caller().into(), request.wait).await.or_status()?;
        let run = resources::run(&run, encoding).or_status()?;
        Ok(Response::new(CancelRunResponse { run: Some(Limit::of(0).fit(run)) }))
    }

    async fn delete_run(&self, request: Request<DeleteRunRequest>) -> Answer<DeleteRunResponse> {
        let session = self.session(&request);
        let mut check = Check::default();
        let id = check.id("run_id", &request.into_inner().run_id);
        check.done()?;
        session.delete_run(id).await.or_status()?;
        Ok(Response::new(DeleteRunResponse {}))
    }
}
