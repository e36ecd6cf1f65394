//! The error of a command: a message, the error reason, every invalid field, and a hint what to do.

use std::{fmt, io, io::Write};

use runloom::{FieldViolation, v1::ErrorReason};

use crate::{
    exit::Exit,
    style::{BAD, DIM, STRONG},
};

/// The result of a command.
pub type Result<T = Exit, E = Failure> = std::result::Result<T, E>;

/// The error of a command.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    reason: Option<&'static str>,
    fields: Vec<FieldViolation>,
    hint: Option<String>,
    /// Print nothing, because the reader of the output has closed it.
    quiet: bool,
}

impl Failure {
    /// A failure with an exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), reason: None, fields: Vec::new(), hint: None, quiet: false }
    }

    /// A failure of the command: exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Invalid arguments: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The message, without reason, fields and hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Adds a hint what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a hint what to do, unless there is one.
    #[must_use]
    pub fn or_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Prints the failure to standard error, and returns the exit code.
    pub fn report(&self) -> Exit {
        if !self.quiet {
            // If standard error is closed, there is no other place to report to.
            let _ = write!(anstream::stderr().lock(), "{self}");
        }
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BAD}error:{BAD:#} {}", self.message)?;
        match self.reason {
            Some(reason) => writeln!(f, " {DIM}({reason}){DIM:#}")?,
            None => writeln!(f)?,
        }
        for FieldViolation { field, description } in &self.fields {
            // A message about a single field repeats its description.
            if !self.message.contains(description.as_str()) {
                writeln!(f, "  {STRONG}{field}{STRONG:#}: {description}")?;
            }
        }
        for (at, line) in self.hint.iter().flat_map(|hint| hint.lines()).enumerate() {
            let head = if at == 0 { "hint:" } else { "     " };
            writeln!(f, " {STRONG}{head}{STRONG:#} {line}")?;
        }
        Ok(())
    }
}

impl From<runloom::Error> for Failure {
    fn from(error: runloom::Error) -> Self {
        Self {
            exit: Exit::Failed,
            message: error.message().to_owned(),
            reason: error.reason().map(ErrorReason::name),
            fields: error.violations().to_vec(),
            hint: hint(&error),
            quiet: false,
        }
    }
}

impl From<runloom_service::Error> for Failure {
    fn from(error: runloom_service::Error) -> Self {
        use runloom_net::ListenError;
        use runloom_service::Error as E;
        let failure = Self::failed(error.to_string());
        match error {
            E::Listen(ListenError::PortTaken { address }) => failure.hint(other_port("--grpc", &address)),
            E::Core(error) => {
                let fields = error.fields.into_iter();
                let fields = fields.map(|(field, description)| FieldViolation { field, description });
                Self { fields: fields.collect(), ..failure }
            }
            _ => failure,
        }
    }
}

impl From<runloom_net::ListenError> for Failure {
    fn from(error: runloom_net::ListenError) -> Self {
        runloom_service::Error::from(error).into()
    }
}

/// A hint to listen on the next port. `option` is the option that named `address`.
pub fn other_port(option: &str, address: &str) -> String {
    let next =
        address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?.checked_add(1)?)));
    match next {
        Some((host, port)) => format!("use another port: runloom serve {option} {host}:{port}"),
        None => format!("use another port: runloom serve {option} HOST:PORT"),
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // `runloom runs list | head -1` closes the pipe after the first line.
        let quiet = error.kind() == io::ErrorKind::BrokenPipe;
        let exit = if quiet { Exit::Ok } else { Exit::Failed };
        Self { quiet, ..Self::new(exit, error.to_string()) }
    }
}

/// A hint for an error of the server, if the message does not say what to do.
fn hint(error: &runloom::Error) -> Option<String> {
    use ErrorReason as R;
    let Some(reason) = error.reason() else {
        let text = "the server cannot be reached; check it with: runloom health";
        return (error.code() == tonic::Code::Unavailable).then(|| text.to_owned());
    };
    let of = |key: &str| error.metadata().get(key).map(String::as_str).unwrap_or_default();
    Some(match reason {
        // The message already lists the graphs.
        R::GraphUnknown if error.message().contains("there are ") => {
            "--graphs DIR serves your own documents, each under the `name` inside it".to_owned()
        }
        R::GraphUnknown if !of("known").is_empty() => format!("known graphs: {}", listed(of("known"))),
        R::GraphUnknown | R::AssistantNotFound => "list them with: runloom graph list".to_owned(),
        R::ThreadNotFound => "list them with: runloom threads list".to_owned(),
        R::RunNotFound => "list them with: runloom runs list".to_owned(),
        R::CheckpointNotFound if !of("thread_id").is_empty() => {
            format!("list them with: runloom threads history {}", of("thread_id"))
        }
        R::CheckpointChanged | R::QuestionUnknown => {
            "the thread has changed; look at it with: runloom threads show THREAD".to_owned()
        }
        R::ThreadBusy if !of("run_id").is_empty() => {
            format!(
                "wait for its run with `runloom runs join {0}`, or stop it with `runloom runs cancel {0}`",
                of("run_id")
            )
        }
        R::NodeUnknown if !of("graph").is_empty() => "show its nodes with: runloom graph draw".to_owned(),
        R::StoreUnavailable => "look at the log of the server; a full disk is the usual reason".to_owned(),
        R::RecursionLimit => {
            "look for a loop in the graph, or raise the limit: runloom serve --recursion-limit N".to_owned()
        }
        R::LimitReached if of("limit") == "step_tasks" => {
            "look at where the graph sends its tasks, or raise the limit: runloom serve --max-step-tasks N".to_owned()
        }
        R::LimitReached if of("limit") == "state_bytes" => {
            "keep large data outside the state, or raise the limit: runloom serve --max-state SIZE".to_owned()
        }
        R::Internal => "this is a fault of the server; its log has the details".to_owned(),
        _ => return None,
    })
}

/// Names separated by commas, with a space after each comma.
fn listed(names: &str) -> String {
    names.split(',').map(str::trim).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_reason_fields_and_hint() {
        let mut details = tonic_types::ErrorDetails::with_error_info(
            "GRAPH_UNKNOWN",
            runloom::reason::DOMAIN,
            [("known".to_owned(), "chat,agent".to_owned())],
        );
        details.add_bad_request_violation("run.graph_name", "no graph of this name");
        let status = <tonic::Status as tonic_types::StatusExt>::with_error_details(
            tonic::Code::NotFound,
            "there is no graph `chta`",
            details,
        );
        let failure = Failure::from(runloom::Error::from(status));
        let text = anstream::adapter::strip_str(&failure.to_string()).to_string();
        assert_eq!(
            text,
            "error: there is no graph `chta` (GRAPH_UNKNOWN)\n  run.graph_name: no graph of this name\n hint: known graphs: chat, agent\n"
        );
    }

    #[test]
    fn a_closed_pipe_is_not_a_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.report(), Exit::Ok);
    }
}
