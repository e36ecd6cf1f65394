//! Service Assistants.

use runloom::v1::{
    self, CreateAssistantRequest, CreateAssistantResponse, DeleteAssistantRequest, DeleteAssistantResponse,
    GetAssistantGraphRequest, GetAssistantGraphResponse, GetAssistantRequest, GetAssistantResponse,
    GetAssistantSchemasRequest, GetAssistantSchemasResponse, ListAssistantVersionsRequest,
    ListAssistantVersionsResponse, ListAssistantsRequest, ListAssistantsResponse, SetLatestAssistantVersionRequest,
    SetLatestAssistantVersionResponse, UpdateAssistantRequest, UpdateAssistantResponse, assistants_server::Assistants,
};
use runloom_core::Target;
use runloom_engine::{Object, Value};
use runloom_store::{AssistantFilter, AssistantSort, AssistantUpdate, Direction, NewAssistant};
use tonic::{Request, Response, Status};

use super::{Answer, Api, OrStatus, check_mask, encoding, metadata_keys, threads::if_exists};
use crate::{
    check::{Check, under},
    convert::resources,
    fit::Limit,
    pages::Pages,
    requests::configurable,
    status::{status, within},
};

/// The newest come first.
const NEWEST: (AssistantSort, Direction) = (AssistantSort::Created, Direction::Descending);
/// The longest a name may be, in characters.
const MAX_NAME: usize = 512;
/// What an update mask may name, beside single keys of the metadata.
const FIELDS: [&str; 6] = ["graph_name", "name", "description", "config", "context", "metadata"];

/// A config, in the form in which it is kept.
fn config(check: &mut Check, path: &str, config: Option<v1::RunConfig>) -> Object {
    let mut kept = Object::default();
    let Some(config) = config else { return kept };
    for (key, number) in [("recursion_limit", config.recursion_limit), ("max_concurrency", config.max_concurrency)] {
        if number > 0 {
            kept.insert(key, number);
        }
    }
    if !config.tags.is_empty() {
        kept.insert("tags", config.tags);
    }
    if let Some(configurable) = configurable(check, &under(path, "configurable"), config.configurable) {
        kept.insert("configurable", configurable);
    }
    kept
}

/// The contract's name of a field that the core has another one for.
fn renamed(field: &str) -> &str {
    if field == "graph" { "graph_name" } else { field }
}

fn answer(assistant: &runloom_store::Assistant, encoding: v1::JsonEncoding) -> Result<Option<v1::Assistant>, Status> {
    let assistant = resources::assistant(assistant, encoding).or_status()?;
    Ok(Some(Limit::of(0).fit(assistant)))
}

/// A page of assistants, and how many of them fit, where it is not all of them.
fn fitted(
    assistants: &[runloom_store::Assistant],
    encoding: v1::JsonEncoding,
    limit: Limit,
) -> Result<(Vec<v1::Assistant>, Option<usize>), Status> {
    let page = assistants.iter().map(|assistant| resources::assistant(assistant, encoding)).collect::<Result<_, _>>();
    let mut page: Vec<_> = page.or_status()?;
    let fewer = limit.fit_page(&mut page);
    Ok((page, fewer))
}

#[tonic::async_trait]
impl Assistants for Api {
    async fn create_assistant(&self, request: Request<CreateAssistantRequest>) -> Answer<CreateAssistantResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let new = NewAssistant {
            id: check.optional_id("assistant_id", &request.assistant_id),
            if_exists: if_exists(&mut check, request.if_exists),
            graph: check.name("graph_name", request.graph_name),
            name: check.text("name", request.name, MAX_NAME),
            description: Some(request.description).filter(|text| !text.is_empty()),
            config: config(&mut check, "config", request.config),
            context: check.object("context", request.context).map_or(Value::Null, Value::Object),
            metadata: check.object("metadata", request.metadata).unwrap_or_default(),
        };
        check.done()?;
        let made = session.create_assistant(new).await;
        let made = made.map_err(|error| status(within(error, |field| renamed(field).to_owned())))?;
        Ok(Response::new(CreateAssistantResponse { assistant: answer(&made, encoding)? }))
    }

    async fn get_assistant(&self, request: Request<GetAssistantRequest>) -> Answer<GetAssistantResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let id = check.id("assistant_id", &request.assistant_id);
        check.done()?;
        let assistant = session.get_assistant(id).await.or_status()?;
        Ok(Response::new(GetAssistantResponse { assistant: answer(&assistant, encoding)? }))
    }

    async fn update_assistant(&self, request: Request<UpdateAssistantRequest>) -> Answer<UpdateAssistantResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let new = request.assistant.unwrap_or_default();
        let id = check.id("assistant.assistant_id", &new.assistant_id);
        let paths = request.update_mask.unwrap_or_default().paths;
        check_mask(&mut check, &paths, &FIELDS);
        // Whether a field is to be changed: it is named, or it is set and nothing is named.
        let changes =
            |field: &str, is_set: bool| if paths.is_empty() { is_set } else { paths.iter().any(|p| p == field) };
        let (has_config, has_context) = (new.config.is_some(), new.context.is_some());
        let metadata = check.object("assistant.metadata", new.metadata);
        let context = check.object("assistant.context", new.context).map_or_else(Value::object, Value::Object);
        let config = config(&mut check, "assistant.config", new.config);
        let name = check.text("assistant.name", new.name, MAX_NAME);
        let mut update = AssistantUpdate {
            graph: changes("graph_name", !new.graph_name.is_empty()).then_some(new.graph_name),
            name: changes("name", !name.is_empty()).then_some(name),
            description: changes("description", !new.description.is_empty()).then_some(new.description),
            config: changes("config", has_config).then_some(config),
            context: changes("context", has_context).then_some(context),
            metadata: None,
        };
        if update.graph.as_ref().is_some_and(String::is_empty) {
            check.fail("assistant.graph_name", "an assistant has a graph; this cannot be cleared");
        }
        check.done()?;
        let updated = if changes("metadata", metadata.is_some()) {
            update.metadata = Some(metadata.unwrap_or_default());
            session.replace_assistant(id, update).await
        } else {
            let keys = metadata_keys(&paths, metadata.as_ref());
            update.metadata = (!keys.is_empty()).then_some(keys);
            session.update_assistant(id, update).await
        };
        let updated = updated.map_err(|error| status(within(error, |field| under("assistant", renamed(field)))))?;
        Ok(Response::new(UpdateAssistantResponse { assistant: answer(&updated, encoding)? }))
    }

    async fn delete_assistant(&self, request: Request<DeleteAssistantRequest>) -> Answer<DeleteAssistantResponse> {
        let session = self.session(&request);
        let mut check = Check::default();
        let id = check.id("assistant_id", &request.into_inner().assistant_id);
        check.done()?;
        session.delete_assistant(id).await.or_status()?;
        Ok(Response::new(DeleteAssistantResponse {}))
    }

    async fn list_assistants(&self, request: Request<ListAssistantsRequest>) -> Answer<ListAssistantsResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let (pages, mut page) = Pages::of(&request, 50).or_status()?;
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let filter = AssistantFilter {
            graph: Some(request.graph_name).filter(|name| !name.is_empty()),
            metadata: check.object("metadata_filter", request.metadata_filter).unwrap_or_default(),
            ..AssistantFilter::default()
        };
        check.done()?;
        let limit = Limit::of(request.max_part_bytes);
        loop {
            let found = session.list_assistants(filter.clone(), NEWEST, page.clone()).await.or_status()?;
            let (assistants, fewer) = fitted(&found.items, encoding, limit)?;
            match fewer {
                Some(fewer) => page.size = fewer,
                None => {
                    let next_page_token = pages.next(found.next);
                    return Ok(Response::new(ListAssistantsResponse { assistants, next_page_token }));
                }
            }
        }
    }

    async fn list_assistant_versions(
        &self,
        request: Request<ListAssistantVersionsRequest>,
    ) -> Answer<ListAssistantVersionsResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let (pages, mut page) = Pages::of(&request, 50).or_status()?;
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let id = check.id("assistant_id", &request.assistant_id);
        check.done()?;
        let limit = Limit::of(request.max_part_bytes);
        loop {
            let found = session.list_assistant_versions(id, Object::default(), page.clone()).await.or_status()?;
            let (versions, fewer) = fitted(&found.items, encoding, limit)?;
            match fewer {
                Some(fewer) => page.size = fewer,
                None => {
                    let next_page_token = pages.next(found.next);
                    return Ok(Response::new(ListAssistantVersionsResponse { versions, next_page_token }));
                }
            }
        }
    }

    async fn set_latest_assistant_version(
        &self,
        request: Request<SetLatestAssistantVersionRequest>,
    ) -> Answer<SetLatestAssistantVersionResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let id = check.id("assistant_id", &request.assistant_id);
        if request.version == 0 {
            check.fail("version", "versions are counted from 1");
        }
        check.done()?;
        let assistant = session.set_latest_assistant(id, request.version).await.or_status()?;
        Ok(Response::new(SetLatestAssistantVersionResponse { assistant: answer(&assistant, encoding)? }))
    }

    async fn get_assistant_graph(
        &self,
        request: Request<GetAssistantGraphRequest>,
    ) -> Answer<GetAssistantGraphResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let target = Target::Assistant(check.id("assistant_id", &request.assistant_id));
        check.done()?;
        let drawing = session.draw(&target, request.subgraph_depth as usize).await.or_status()?;
        Ok(Response::new(resources::drawing(&drawing)))
    }

    async fn get_assistant_schemas(
        &self,
        request: Request<GetAssistantSchemasRequest>,
    ) -> Answer<GetAssistantSchemasResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let encoding = encoding(&mut check, request.json_encoding);
        let target = Target::Assistant(check.id("assistant_id", &request.assistant_id));
        check.done()?;
        let schemas = session.schemas(&target).await.or_status()?;
        let mut answer = GetAssistantSchemasResponse {
            schemas: Some(resources::schemas(&schemas, encoding).or_status()?),
            ..Default::default()
        };
        if request.include_subgraphs {
            for (node, schemas) in session.subgraph_schemas(&target, true).await.or_status()? {
                answer.subgraph_schemas.insert(node, resources::schemas(&schemas, encoding).or_status()?);
            }
        }
        Ok(Response::new(answer))
    }
}
