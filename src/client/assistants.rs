//! The methods of service Assistants.

use super::{Client, encoding, once, or_new_id, present, repeated};
use crate::{
    Error,
    v1::{
        Assistant, CreateAssistantRequest, DeleteAssistantRequest, GetAssistantGraphRequest, GetAssistantGraphResponse,
        GetAssistantRequest, GetAssistantSchemasRequest, GetAssistantSchemasResponse, IfExists,
        ListAssistantVersionsRequest, ListAssistantVersionsResponse, ListAssistantsRequest, ListAssistantsResponse,
        SetLatestAssistantVersionRequest, UpdateAssistantRequest,
    },
};

impl Client {
    /// Creates an assistant.
    pub async fn create_assistant(&self, mut request: CreateAssistantRequest) -> Result<Assistant, Error> {
        request.json_encoding = encoding(request.json_encoding);
        if request.assistant_id.is_empty() {
            or_new_id(&mut request.assistant_id);
            request.if_exists = IfExists::Return.into();
        }
        let answer = if request.if_exists() == IfExists::Return {
            repeated!(self, assistants.create_assistant(request))
        } else {
            once!(self, assistants.create_assistant(request))
        };
        present(answer?.assistant, "assistant")
    }

    /// Reads the latest version of an assistant, by its id.
    pub async fn get_assistant(&self, request: impl Into<GetAssistantRequest>) -> Result<Assistant, Error> {
        let mut request: GetAssistantRequest = request.into();
        request.json_encoding = encoding(request.json_encoding);
        present(repeated!(self, assistants.get_assistant(request))?.assistant, "assistant")
    }

    /// Creates a new version of an assistant.
    pub async fn update_assistant(&self, mut request: UpdateAssistantRequest) -> Result<Assistant, Error> {
        request.json_encoding = encoding(request.json_encoding);
        present(once!(self, assistants.update_assistant(request))?.assistant, "assistant")
    }

    /// Deletes an assistant with all its versions, by its id.
    pub async fn delete_assistant(&self, request: impl Into<DeleteAssistantRequest>) -> Result<(), Error> {
        once!(self, assistants.delete_assistant(request.into())).map(drop)
    }

    /// Lists assistants, a page at a time.
    pub async fn list_assistants(&self, mut request: ListAssistantsRequest) -> Result<ListAssistantsResponse, Error> {
        request.json_encoding = encoding(request.json_encoding);
        repeated!(self, assistants.list_assistants(request))
    }

    /// Lists the versions of an assistant, newest first, a page at a time. Takes the assistant's id, or the whole request.
    pub async fn list_assistant_versions(
        &self,
        request: impl Into<ListAssistantVersionsRequest>,
    ) -> Result<ListAssistantVersionsResponse, Error> {
        let mut request: ListAssistantVersionsRequest = request.into();
        request.json_encoding = encoding(request.json_encoding);
        repeated!(self, assistants.list_assistant_versions(request))
    }

    /// Makes a version the latest.
    pub async fn set_latest_assistant_version(
        &self,
        assistant_id: impl Into<String>,
        version: u32,
    ) -> Result<Assistant, Error> {
        let request =
            SetLatestAssistantVersionRequest { assistant_id: assistant_id.into(), version, json_encoding: encoding(0) };
        present(repeated!(self, assistants.set_latest_assistant_version(request))?.assistant, "assistant")
    }

    /// Returns a drawing of an assistant's graph, by the assistant's id.
    pub async fn get_assistant_graph(
        &self,
        request: impl Into<GetAssistantGraphRequest>,
    ) -> Result<GetAssistantGraphResponse, Error> {
        let request: GetAssistantGraphRequest = request.into();
        repeated!(self, assistants.get_assistant_graph(request))
    }

    /// Returns the schemas of an assistant's graph, by the assistant's id.
    pub async fn get_assistant_schemas(
        &self,
        request: impl Into<GetAssistantSchemasRequest>,
    ) -> Result<GetAssistantSchemasResponse, Error> {
        let mut request: GetAssistantSchemasRequest = request.into();
        request.json_encoding = encoding(request.json_encoding);
        repeated!(self, assistants.get_assistant_schemas(request))
    }
}
