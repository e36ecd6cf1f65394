//! Names and status codes of [`ErrorReason`].

use tonic::Code;

use crate::v1::ErrorReason;

/// The domain of every `google.rpc.ErrorInfo` from Runloom.
pub const DOMAIN: &str = "runloom.dev";

/// Key of the cursor to join again, in `ErrorInfo.metadata` of a status that ended a stream.
pub const CURSOR: &str = "cursor";

/// Key of the oldest cursor of the log, in `ErrorInfo.metadata` of CURSOR_EXPIRED.
pub const OLDEST_CURSOR: &str = "oldest_cursor";

const PREFIX: &str = "ERROR_REASON_";

impl ErrorReason {
    /// `ErrorInfo.reason`: the value's name without its prefix, `THREAD_NOT_FOUND`.
    pub fn name(self) -> &'static str {
        let full = self.as_str_name();
        full.strip_prefix(PREFIX).unwrap_or(full)
    }

    /// Parses `ErrorInfo.reason`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::from_str_name(&format!("{PREFIX}{name}"))
    }

    /// The status code of an RPC or a run (`End.error`) that fails for this reason, as in `error_reason.proto`.
    pub fn code(self) -> Code {
        use ErrorReason as R;
        match self {
            R::Unspecified | R::NodeFailed => Code::Unknown,
            R::Internal | R::AttemptsExhausted => Code::Internal,
            R::NotSupported => Code::Unimplemented,
            R::ServerDraining | R::StoreUnavailable => Code::Unavailable,
            R::LimitReached => Code::ResourceExhausted,
            R::FieldInvalid
            | R::InputInvalid
            | R::ContextInvalid
            | R::JsonInvalid
            | R::JsonTooDeep
            | R::InputTooLarge
            | R::CursorInvalid
            | R::PageTokenInvalid
            | R::GraphInvalid
            | R::NodeUnknown
            | R::InvalidUpdate => Code::InvalidArgument,
            R::GraphUnknown
            | R::ThreadNotFound
            | R::RunNotFound
            | R::AssistantNotFound
            | R::AssistantVersionNotFound
            | R::CheckpointNotFound
            | R::CronNotFound
            | R::KeyNotFound
            | R::WorkerNotFound => Code::NotFound,
            R::RequestIdReused | R::GraphNameTaken | R::ThreadExists | R::AssistantExists => Code::AlreadyExists,
            R::ThreadBusy | R::CheckpointChanged | R::WorkerLost => Code::Aborted,
            R::GraphIncompatible
            | R::QuestionAmbiguous
            | R::QuestionUnknown
            | R::NothingToResume
            | R::ModesNotRecorded
            | R::GraphInUse
            | R::RunActive
            | R::AssistantIsDefault
            | R::GraphNotRegistered
            | R::PartTooLarge
            | R::JsonNotExact
            | R::RecursionLimit => Code::FailedPrecondition,
            R::CursorExpired => Code::OutOfRange,
            R::RunTimeout | R::NodeTimeout => Code::DeadlineExceeded,
            R::Cancelled => Code::Cancelled,
            R::Unauthenticated => Code::Unauthenticated,
            R::ScopeMissing => Code::PermissionDenied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The comments of `error_reason.proto` are what users read: each begins with the code, alone or after "Of a run;".
    #[test]
    fn codes_are_those_of_the_comments() {
        let proto = include_str!("../proto/runloom/v1/error_reason.proto");
        let mut comment = String::new();
        let mut seen = 0;
        for line in proto.lines().map(str::trim) {
            if let Some(text) = line.strip_prefix("//") {
                comment.push_str(text);
                comment.push(' ');
            } else if let Some((name, number)) = line.split_once(" = ").filter(|(name, _)| name.starts_with(PREFIX)) {
                let reason = ErrorReason::from_str_name(name).unwrap_or_else(|| panic!("{name} is not generated"));
                assert_eq!(number, format!("{};", reason as i32));
                assert_eq!(ErrorReason::from_name(reason.name()), Some(reason));
                let code = format!("{:?}", reason.code());
                let said = comment.split('.').next().unwrap_or_default().replace(['_', ' '], "").to_lowercase();
                assert!(
                    reason == ErrorReason::Unspecified
                        || said.contains(&code.to_lowercase())
                        || said.starts_with("ofapart"),
                    "{name}: {comment}"
                );
                seen += 1;
            }
            if !line.starts_with("//") {
                comment.clear();
            }
        }
        assert!(seen > 40, "only {seen} reasons found");
    }

    /// `docs/errors.md` has one section for each reason, in the order of `error_reason.proto`, each with its status and an action.
    #[test]
    fn every_reason_has_a_section_in_the_documentation() {
        let proto = include_str!("../proto/runloom/v1/error_reason.proto");
        let values = proto.lines().filter_map(|line| line.trim().strip_prefix(PREFIX)?.split_once(" = "));
        let reasons: Vec<&str> = values.map(|(name, _)| name).filter(|name| *name != "UNSPECIFIED").collect();
        let page = include_str!("../docs/errors.md");
        let sections: Vec<&str> = page.split("\n## ").skip(1).collect();
        let titles: Vec<&str> = sections.iter().filter_map(|section| section.lines().next()).collect();
        assert_eq!(titles, reasons);
        for (section, name) in sections.iter().zip(reasons) {
            let code = ErrorReason::from_name(name).unwrap().code();
            let stated = section.split('`').nth(1).unwrap_or_default().replace('_', "").to_lowercase();
            assert_eq!(stated, format!("{code:?}").to_lowercase(), "{name}");
            assert!(section.contains("\nWhat to do: "), "{name} says what to do");
        }
    }
}
