//! The methods of service Crons.

use super::{Client, encoding, once, or_new_id, present, repeated};
use crate::{
    Error,
    v1::{
        CreateCronRequest, Cron, DeleteCronRequest, GetCronRequest, ListCronsRequest, ListCronsResponse,
        UpdateCronRequest,
    },
};

impl Client {
    /// Creates a cron.
    pub async fn create_cron(&self, mut cron: Cron) -> Result<Cron, Error> {
        or_new_id(&mut cron.cron_id);
        let request = CreateCronRequest { cron: Some(cron), json_encoding: encoding(0) };
        present(repeated!(self, crons.create_cron(request))?.cron, "cron")
    }

    /// Reads a cron, by its id.
    pub async fn get_cron(&self, request: impl Into<GetCronRequest>) -> Result<Cron, Error> {
        let mut request: GetCronRequest = request.into();
        request.json_encoding = encoding(request.json_encoding);
        present(repeated!(self, crons.get_cron(request))?.cron, "cron")
    }

    /// Changes a cron.
    pub async fn update_cron(&self, mut request: UpdateCronRequest) -> Result<Cron, Error> {
        request.json_encoding = encoding(request.json_encoding);
        present(repeated!(self, crons.update_cron(request))?.cron, "cron")
    }

    /// Deletes a cron, by its id. The runs that it created are kept.
    pub async fn delete_cron(&self, request: impl Into<DeleteCronRequest>) -> Result<(), Error> {
        once!(self, crons.delete_cron(request.into())).map(drop)
    }

    /// Lists crons, a page at a time.
    pub async fn list_crons(&self, mut request: ListCronsRequest) -> Result<ListCronsResponse, Error> {
        request.json_encoding = encoding(request.json_encoding);
        repeated!(self, crons.list_crons(request))
    }
}
