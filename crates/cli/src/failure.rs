//! What went wrong, as a person reads it: the reason, every wrong field, and what to do next.

use std::{fmt, io, io::Write};

use runloom::{FieldViolation, v1::ErrorReason};

use crate::{
    exit::Exit,
    style::{BAD, DIM, STRONG},
};

/// The result of a command.
pub type Result<T = Exit, E = Failure> = std::result::Result<T, E>;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    reason: Option<&'static str>,
    fields: Vec<FieldViolation>,
    hint: Option<String>,
    /// Nothing to say: who would read it has gone.
    quiet: bool,
}

impl Failure {
    /// A failure that ends the command with a code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), reason: None, fields: Vec::new(), hint: None, quiet: false }
    }

    /// The command itself failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The command was called wrongly.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// With what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With what to do next, unless that is said already.
    #[must_use]
    pub fn or_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Says it, in several lines, and gives the exit code.
    pub fn report(&self) -> Exit {
        if !self.quiet {
            // Where the error output is closed there is nobody to tell.
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
            // A message that speaks of one field only says it all.
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
        use runloom_service::Error as E;
        let failure = Self::failed(error.to_string());
        match error {
            E::PortTaken { address } => failure.hint(elsewhere(&address)),
            E::Core(error) => {
                let fields = error.fields.into_iter();
                let fields = fields.map(|(field, description)| FieldViolation { field, description });
                Self { fields: fields.collect(), ..failure }
            }
            _ => failure,
        }
    }
}

/// A place to listen where nobody else does: the next port, most likely.
fn elsewhere(address: &str) -> String {
    let next =
        address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?.checked_add(1)?)));
    match next {
        Some((host, port)) => format!("runloom serve --grpc {host}:{port} takes another port"),
        None => "runloom serve --grpc HOST:PORT takes another port".to_owned(),
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // `runloom runs list | head -1`: enough was read.
        let quiet = error.kind() == io::ErrorKind::BrokenPipe;
        let exit = if quiet { Exit::Ok } else { Exit::Failed };
        Self { quiet, ..Self::new(exit, error.to_string()) }
    }
}

/// What to do about an error of the server, where the server's own words do not say it.
fn hint(error: &runloom::Error) -> Option<String> {
    use ErrorReason as R;
    let Some(reason) = error.reason() else {
        let text = "the server cannot be reached; runloom health says how it is";
        return (error.code() == tonic::Code::Unavailable).then(|| text.to_owned());
    };
    let of = |key: &str| error.metadata().get(key).map(String::as_str).unwrap_or_default();
    Some(match reason {
        // Where the server has listed them, its list is not said again.
        R::GraphUnknown if error.message().contains("there are ") => {
            "a document of your own is served from a folder, --graphs DIR, under the name in it".to_owned()
        }
        R::GraphUnknown if !of("known").is_empty() => format!("there are {}", listed(of("known"))),
        R::GraphUnknown | R::AssistantNotFound => "runloom graph list".to_owned(),
        R::ThreadNotFound => "runloom threads list".to_owned(),
        R::RunNotFound => "runloom runs list".to_owned(),
        R::CheckpointNotFound if !of("thread_id").is_empty() => format!("runloom threads history {}", of("thread_id")),
        R::CheckpointChanged | R::QuestionUnknown => {
            "somebody was faster: look again with runloom threads show".to_owned()
        }
        R::ThreadBusy if !of("run_id").is_empty() => {
            format!("runloom runs join {0}, or runloom runs cancel {0}", of("run_id"))
        }
        R::NodeUnknown if !of("graph").is_empty() => "runloom graph draw shows its nodes".to_owned(),
        R::StoreUnavailable => "the server's log says why its store fails; a full disk is the usual reason".to_owned(),
        R::RecursionLimit => "runloom serve --recursion-limit N raises it for graphs that need more steps".to_owned(),
        R::Internal => "this is a fault of the server; its log has the details".to_owned(),
        _ => return None,
    })
}

/// A list as people read it.
fn listed(names: &str) -> String {
    names.split(',').map(str::trim).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_reason_fields_and_what_to_do() {
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
            "error: there is no graph `chta` (GRAPH_UNKNOWN)\n  run.graph_name: no graph of this name\n hint: there are chat, agent\n"
        );
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.report(), Exit::Ok);
    }
}
