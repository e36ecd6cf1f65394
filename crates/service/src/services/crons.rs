//! Service Crons.

use runloom::v1::{
    self, CreateCronRequest, CreateCronResponse, DeleteCronRequest, DeleteCronResponse, GetCronRequest,
    GetCronResponse, ListCronsRequest, ListCronsResponse, OnRunCompleted, UpdateCronRequest, UpdateCronResponse,
    crons_server::Crons, run_spec,
};
use runloom_core::{CronPatch, CronRequest, CronRun, Error};
use runloom_engine::Object;
use runloom_store::{Cron, CronFilter, CronSort, Direction};
use tonic::{Request, Response, Status};

use super::{Answer, Api, OrStatus, check_mask, encoding, metadata_keys};
use crate::{
    check::{Check, under},
    convert::crons,
    fit::Limit,
    pages::Pages,
    requests::run_request,
    status::{status, within},
};

/// The newest come first.
const NEWEST: (CronSort, Direction) = (CronSort::Created, Direction::Descending);
/// What an update mask may name, beside single keys of the metadata.
const FIELDS: [&str; 7] = ["schedule", "time_zone", "end_time", "disabled", "on_run_completed", "metadata", "run"];

/// The contract's name of a field of the core's.
fn renamed(field: &str) -> String {
    let own = ["schedule", "metadata"].contains(&field) || field.starts_with("run.");
    match field {
        "timezone" => "cron.time_zone".to_owned(),
        field if own => under("cron", field),
        field => under("cron.run", field),
    }
}

fn failed(error: Error) -> Status {
    status(within(error, renamed))
}

fn answer(cron: &Cron, encoding: v1::JsonEncoding) -> Result<Option<v1::Cron>, Status> {
    let cron = crons::cron(cron, encoding).or_status()?;
    Ok(Some(Limit::of(0).fit(cron)))
}

fn keeps(check: &mut Check, number: i32) -> bool {
    check.one_of::<OnRunCompleted>("cron.on_run_completed", number) == OnRunCompleted::Keep
}

fn zone(name: String) -> Option<String> {
    Some(name).filter(|name| !name.is_empty())
}

#[tonic::async_trait]
impl Crons for Api {
    async fn create_cron(&self, request: Request<CreateCronRequest>) -> Answer<CreateCronResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let cron = request.cron.unwrap_or_default();
        let request = CronRequest {
            id: check.optional_id("cron.cron_id", &cron.cron_id),
            schedule: check.name("cron.schedule", cron.schedule),
            timezone: zone(cron.time_zone),
            end_time: check.time("cron.end_time", cron.end_time),
            disabled: cron.disabled,
            keep: keeps(&mut check, cron.on_run_completed),
            metadata: check.object("cron.metadata", cron.metadata).unwrap_or_default(),
            run: run_request(&mut check, "cron.run", cron.run),
        };
        check.done()?;
        let made = session.create_cron(request).await.map_err(failed)?;
        Ok(Response::new(CreateCronResponse { cron: answer(&made, encoding)? }))
    }

    async fn get_cron(&self, request: Request<GetCronRequest>) -> Answer<GetCronResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let id = check.id("cron_id", &request.cron_id);
        check.done()?;
        let found = session.get_cron(id).await.or_status()?;
        Ok(Response::new(GetCronResponse { cron: answer(&found, encoding)? }))
    }

    async fn update_cron(&self, request: Request<UpdateCronRequest>) -> Answer<UpdateCronResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let new = request.cron.unwrap_or_default();
        let id = check.id("cron.cron_id", &new.cron_id);
        let paths = request.update_mask.unwrap_or_default().paths;
        check_mask(&mut check, &paths, &FIELDS);
        // Whether a field is to be changed: it is named, or it is set and nothing is named.
        let changes =
            |field: &str, is_set: bool| if paths.is_empty() { is_set } else { paths.iter().any(|p| p == field) };
        let keep = keeps(&mut check, new.on_run_completed);
        let end_time = check.time("cron.end_time", new.end_time);
        let metadata = check.object("cron.metadata", new.metadata);
        let changes_run = changes("run", new.run.is_some());
        let run = changes_run.then(|| {
            let mut spec = new.run.unwrap_or_default();
            // They stay as they are.
            spec.thread_id.clear();
            spec.target = Some(run_spec::Target::GraphName("-".to_owned()));
            let asked = run_request(&mut check, "cron.run", Some(spec));
            for (field, is_set) in [
                ("start_time", asked.start_time.is_some()),
                ("request_id", asked.request_id.is_some()),
                ("command.expected_checkpoint_id", asked.expected_checkpoint_id.is_some()),
            ] {
                if is_set {
                    check.fail(under("cron.run", field), "a cron makes many runs, and this is for one; leave it out");
                }
            }
            CronRun::new(asked.spec, asked.multitask)
        });
        let replace_metadata = paths.iter().any(|path| path == "metadata");
        let keys = metadata_keys(&paths, metadata.as_ref());
        let patch = CronPatch {
            schedule: changes("schedule", !new.schedule.is_empty()).then_some(new.schedule),
            timezone: changes("time_zone", !new.time_zone.is_empty()).then(|| zone(new.time_zone)),
            end_time: changes("end_time", end_time.is_some()).then_some(end_time),
            enabled: changes("disabled", new.disabled).then_some(!new.disabled),
            keep: changes("on_run_completed", new.on_run_completed != 0).then_some(keep),
            metadata: match metadata {
                metadata if replace_metadata => Some(metadata.unwrap_or_default()),
                metadata if paths.is_empty() => metadata,
                _ => Some(keys).filter(|keys: &Object| !keys.is_empty()),
            },
            replace_metadata,
            run,
        };
        check.done()?;
        let changed = session.update_cron(id, patch).await.map_err(failed)?;
        Ok(Response::new(UpdateCronResponse { cron: answer(&changed, encoding)? }))
    }

    async fn delete_cron(&self, request: Request<DeleteCronRequest>) -> Answer<DeleteCronResponse> {
        let session = self.session(&request);
        let mut check = Check::default();
        let id = check.id("cron_id", &request.into_inner().cron_id);
        check.done()?;
        session.delete_cron(id).await.or_status()?;
        Ok(Response::new(DeleteCronResponse {}))
    }

    async fn list_crons(&self, request: Request<ListCronsRequest>) -> Answer<ListCronsResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let (pages, mut page) = Pages::of(&request, 50).or_status()?;
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let filter = CronFilter {
            assistant: check.optional_id("assistant_id", &request.assistant_id),
            thread: check.optional_id("thread_id", &request.thread_id),
            enabled: request.disabled.map(|disabled| !disabled),
            metadata: check.object("metadata_filter", request.metadata_filter).unwrap_or_default(),
        };
        check.done()?;
        let limit = Limit::of(request.max_part_bytes);
        loop {
            let found = session.list_crons(filter.clone(), NEWEST, page.clone()).await.or_status()?;
            let crons = found.items.iter().map(|cron| crons::cron(cron, encoding)).collect::<Result<Vec<_>, _>>();
            let mut crons = crons.or_status()?;
            match limit.fit_page(&mut crons) {
                Some(fewer) => page.size = fewer,
                None => return Ok(Response::new(ListCronsResponse { crons, next_page_token: pages.next(found.next) })),
            }
        }
    }
}
