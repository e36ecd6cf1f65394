//! The methods of service Graphs.

use super::{Client, once, repeated};
use crate::{
    Error,
    v1::{DeleteGraphRequest, ListGraphsRequest, ListGraphsResponse, RegisterGraphRequest, RegisterGraphResponse},
};

impl Client {
    /// Lists graphs, a page at a time.
    pub async fn list_graphs(&self, request: ListGraphsRequest) -> Result<ListGraphsResponse, Error> {
        repeated!(self, graphs.list_graphs(request))
    }

    /// Registers a graph document, by its text.
    pub async fn register_graph(
        &self,
        request: impl Into<RegisterGraphRequest>,
    ) -> Result<RegisterGraphResponse, Error> {
        let request: RegisterGraphRequest = request.into();
        repeated!(self, graphs.register_graph(request))
    }

    /// Deletes a registered graph, by its name.
    pub async fn delete_graph(&self, request: impl Into<DeleteGraphRequest>) -> Result<(), Error> {
        once!(self, graphs.delete_graph(request.into())).map(drop)
    }
}
