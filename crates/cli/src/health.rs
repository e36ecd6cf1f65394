//! `runloom health`: whether a server serves.

use std::time::Duration;

use clap::Args;
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    exit::{self, Exit},
    failure::{Failure, Result},
    options,
    place::{DEFAULT_ADDRESS, cannot_connect},
    style::GOOD,
};

const EXAMPLES: &str = "\
Examples:
  runloom health                          the server on this machine
  runloom health --addr 10.0.0.7:50051    another one
  HEALTHCHECK CMD [\"runloom\", \"health\"]   in a container

Exits with 0 where the server serves; with 1 where it does not: it starts, drains, or its store fails; with 4 where none answers.";

/// Ask a server whether it serves (grpc.health.v1)
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub struct Health {
    /// The server's address: host:port
    #[arg(long, env = "RUNLOOM_ADDR", value_name = "ADDR", default_value = DEFAULT_ADDRESS)]
    addr: String,
    /// Of one service, `runloom.v1.Runs`, instead of the whole server
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = options::duration)]
    timeout: Duration,
}

impl Health {
    /// Runs it.
    pub async fn run(self) -> Result {
        let answer = tokio::time::timeout(self.timeout, self.ask()).await;
        let status = answer.map_err(|_| {
            Failure::new(Exit::CannotConnect, format!("{} did not answer within {:?}", self.addr, self.timeout))
        })??;
        match status {
            ServingStatus::Serving => {
                println(&format!("{GOOD}serving{GOOD:#}"))?;
                Ok(Exit::Ok)
            }
            ServingStatus::ServiceUnknown => {
                Err(Failure::failed(format!("{} has no service `{}`", self.addr, self.service)))
            }
            ServingStatus::NotServing | ServingStatus::Unknown => {
                Err(Failure::failed(format!("{} is not serving", self.addr))
                    .hint("it starts, drains, or its store fails; its log says which"))
            }
        }
    }

    async fn ask(&self) -> Result<ServingStatus> {
        let uri = if self.addr.contains("://") { self.addr.clone() } else { format!("http://{}", self.addr) };
        let endpoint = Endpoint::from_shared(uri)
            .map_err(|error| Failure::usage(format!("not an address of a server, `{}`: {error}", self.addr)))?;
        let channel = endpoint.connect().await.map_err(|error| cannot_connect(&self.addr, &error.into()))?;
        let request = HealthCheckRequest { service: self.service.clone() };
        match HealthClient::new(channel).check(request).await {
            Ok(answer) => Ok(answer.into_inner().status()),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(ServingStatus::ServiceUnknown),
            Err(status) => Err(runloom::Error::from(status).into()),
        }
    }
}

fn println(line: &str) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(anstream::stdout().lock(), "{line}")
}
