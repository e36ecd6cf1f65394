//! Service Graphs.

use runloom::v1::{
    DeleteGraphRequest, DeleteGraphResponse, ListGraphsRequest, ListGraphsResponse, RegisterGraphRequest,
    RegisterGraphResponse, graphs_server::Graphs,
};
use tonic::{Request, Response};

use super::{Answer, Api, OrStatus};
use crate::{check::Check, convert::resources, pages::Pages};

#[tonic::async_trait]
impl Graphs for Api {
    async fn list_graphs(&self, request: Request<ListGraphsRequest>) -> Answer<ListGraphsResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let (pages, page) = Pages::of(&request, 50).or_status()?;
        let page = session.list_graphs(request.include_hidden, page).await.or_status()?;
        Ok(Response::new(ListGraphsResponse {
            graphs: page.items.iter().map(resources::graph).collect(),
            next_page_token: pages.next(page.next),
        }))
    }

    async fn register_graph(&self, request: Request<RegisterGraphRequest>) -> Answer<RegisterGraphResponse> {
        let session = self.session(&request);
        let request = request.into_inner();
        let mut check = Check::default();
        let document = check.name("document", request.document);
        check.done()?;
        let made = session.register_graph(&document, request.validate_only).await.or_status()?;
        Ok(Response::new(RegisterGraphResponse {
            graph: Some(resources::graph(&made.graph)),
            warnings: resources::warnings(&made.graph),
            changed: made.changed,
        }))
    }

    async fn delete_graph(&self, request: Request<DeleteGraphRequest>) -> Answer<DeleteGraphResponse> {
        let session = self.session(&request);
        let mut check = Check::default();
        let name = check.name("name", request.into_inner().name);
        check.done()?;
        session.delete_graph(&name).await.or_status()?;
        Ok(Response::new(DeleteGraphResponse {}))
    }
}
