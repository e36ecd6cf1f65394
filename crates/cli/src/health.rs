//! `runloom health`: checks whether a server is serving.

use std::time::Duration;

use clap::Args;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    backend::{DEFAULT_ADDRESS, cannot_connect},
    exit::{self, Exit},
    failure::{Failure, Result},
    options,
    remote::RemoteArgs,
    style::GOOD,
};

const EXAMPLES: &str = "\
Examples:
  runloom health                          the server on 127.0.0.1:50051
  runloom health --addr 10.0.0.7:50051    a server on another machine
  HEALTHCHECK CMD [\"runloom\", \"health\"]   in a container

Exit code 0: serving. 1: starting, draining, or the store fails. 4: the server cannot be reached.";

/// Check whether a server is serving (grpc.health.v1)
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
pub struct Health {
    /// Address of the server: host:port
    #[arg(long, env = "RUNLOOM_ADDR", value_name = "ADDR", default_value = DEFAULT_ADDRESS)]
    addr: String,
    #[command(flatten)]
    remote: RemoteArgs,
    /// Check one service, such as `runloom.v1.Runs`, instead of the whole server
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
    /// Maximum time to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = options::duration)]
    timeout: Duration,
}

impl Health {
    /// Runs the command.
    pub async fn run(self) -> Result {
        let answer = tokio::time::timeout(self.timeout, self.check()).await;
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
                    .hint("it is starting or draining, or its store fails; look at its log"))
            }
        }
    }

    async fn check(&self) -> Result<ServingStatus> {
        let endpoint = self.remote.options()?.endpoint(&self.addr)?;
        let channel = endpoint.connect().await.map_err(|error| cannot_connect(&self.addr, &error.into()))?;
        let request = HealthCheckRequest { service: self.service.clone() };
        match HealthClient::new(channel).check(request).await {
            Ok(answer) => Ok(answer.into_inner().status()),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(ServingStatus::ServiceUnknown),
            // A server with TLS does not answer in HTTP/2.
            Err(status)
                if status.code() == tonic::Code::Unavailable || status.message().contains("transport error") =>
            {
                Err(cannot_connect(&self.addr, &runloom::Error::from(status)))
            }
            Err(status) => Err(runloom::Error::from(status).into()),
        }
    }
}

fn println(line: &str) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(anstream::stdout().lock(), "{line}")
}
