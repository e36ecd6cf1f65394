"""Errors by reason. `except NotFound` catches all reasons of a status code; docs/errors.md says for each reason what to do."""
from __future__ import annotations

from ._error import FieldViolation as FieldViolation
from ._error import RunloomError as RunloomError
from ._error import from_rpc as from_rpc
from ._error import from_status as from_status


class InvalidArgument(RunloomError, code="INVALID_ARGUMENT"):
    """The request is invalid."""


class NotFound(RunloomError, code="NOT_FOUND"):
    """The object does not exist."""


class AlreadyExists(RunloomError, code="ALREADY_EXISTS"):
    """The object exists."""


class Aborted(RunloomError, code="ABORTED"):
    """Another caller was faster."""


class FailedPrecondition(RunloomError, code="FAILED_PRECONDITION"):
    """The object is not in a state for this call."""


class Unavailable(RunloomError, code="UNAVAILABLE"):
    """The server cannot be reached, or is shutting down. Try again."""


class ResourceExhausted(RunloomError, code="RESOURCE_EXHAUSTED"):
    """A limit is reached."""


class OutOfRange(RunloomError, code="OUT_OF_RANGE"):
    """The position no longer exists."""


class DeadlineExceeded(RunloomError, code="DEADLINE_EXCEEDED"):
    """The call did not end within its timeout."""


class PermissionDenied(RunloomError, code="PERMISSION_DENIED"):
    """The caller is known and may not do this."""


class RunError(RunloomError):
    """A run failed: the error in its End, not of a call."""


class Internal(RunloomError):
    """A fault of the server, whose log has the details."""

    reason = "INTERNAL"


class Unauthenticated(RunloomError, code="UNAUTHENTICATED"):
    """The call has no valid credentials."""

    reason = "UNAUTHENTICATED"


class ScopeMissing(PermissionDenied):
    """The credentials do not allow this call; `metadata["scope"]` is the missing scope."""

    reason = "SCOPE_MISSING"


class NotSupported(RunloomError):
    """The server cannot do this, or was not built with it."""

    reason = "NOT_SUPPORTED"


class ServerDraining(Unavailable):
    """The server is shutting down; its runs continue later."""

    reason = "SERVER_DRAINING"


class StoreUnavailable(Unavailable):
    """The store does not answer or refuses writes."""

    reason = "STORE_UNAVAILABLE"


class LimitReached(ResourceExhausted):
    """A limit set by the operator is reached."""

    reason = "LIMIT_REACHED"


class FieldInvalid(InvalidArgument):
    """One or more fields are missing or invalid."""

    reason = "FIELD_INVALID"


class InputInvalid(InvalidArgument):
    """The input, or a command's update, does not match the graph's channels."""

    reason = "INPUT_INVALID"


class ContextInvalid(InvalidArgument):
    """The context does not match the graph's context schema."""

    reason = "CONTEXT_INVALID"


class JsonInvalid(InvalidArgument):
    """Not valid JSON, or a Json with no field set."""

    reason = "JSON_INVALID"


class JsonTooDeep(InvalidArgument):
    """More than 127 nested arrays and objects."""

    reason = "JSON_TOO_DEEP"


class InputTooLarge(InvalidArgument):
    """The input, the update or the whole request is larger than the server accepts."""

    reason = "INPUT_TOO_LARGE"


class CursorInvalid(InvalidArgument):
    """The cursor does not belong to this run or thread."""

    reason = "CURSOR_INVALID"


class PageTokenInvalid(InvalidArgument):
    """The page_token does not belong to this request: it, or the filter, was changed."""

    reason = "PAGE_TOKEN_INVALID"


class GraphInvalid(InvalidArgument):
    """The graph document has errors."""

    reason = "GRAPH_INVALID"


class NodeUnknown(InvalidArgument):
    """The graph does not have this node."""

    reason = "NODE_UNKNOWN"


class GraphUnknown(NotFound):
    """No graph of this name."""

    reason = "GRAPH_UNKNOWN"


class ThreadNotFound(NotFound):
    """No such thread, or it was deleted."""

    reason = "THREAD_NOT_FOUND"


class RunNotFound(NotFound):
    """No such run: never created, deleted, or rolled back; or stateless and expired."""

    reason = "RUN_NOT_FOUND"


class AssistantNotFound(NotFound):
    """No such assistant."""

    reason = "ASSISTANT_NOT_FOUND"


class AssistantVersionNotFound(NotFound):
    """The assistant has no such version."""

    reason = "ASSISTANT_VERSION_NOT_FOUND"


class CheckpointNotFound(NotFound):
    """The thread has no such checkpoint, or it was pruned."""

    reason = "CHECKPOINT_NOT_FOUND"


class CronNotFound(NotFound):
    """No such cron, or it was deleted."""

    reason = "CRON_NOT_FOUND"


class KeyNotFound(NotFound):
    """No such API key, or it was revoked."""

    reason = "KEY_NOT_FOUND"


class WorkerNotFound(NotFound):
    """No such worker is attached."""

    reason = "WORKER_NOT_FOUND"


class RequestIdReused(AlreadyExists):
    """The request_id was used before for a different request."""

    reason = "REQUEST_ID_REUSED"


class GraphNameTaken(AlreadyExists):
    """The name belongs to a graph from another source: the folder or the program."""

    reason = "GRAPH_NAME_TAKEN"


class ThreadExists(AlreadyExists):
    """A thread of this id exists, and if_exists is REJECT."""

    reason = "THREAD_EXISTS"


class AssistantExists(AlreadyExists):
    """An assistant of this id exists, and if_exists is REJECT."""

    reason = "ASSISTANT_EXISTS"


class ThreadBusy(Aborted):
    """A run is active on the thread, and the request does not wait: multitask REJECT, or UpdateState."""

    reason = "THREAD_BUSY"


class CheckpointChanged(Aborted):
    """The thread's latest checkpoint is not the expected one."""

    reason = "CHECKPOINT_CHANGED"


class GraphIncompatible(FailedPrecondition):
    """The thread's checkpoint is not compatible with the present revision of the graph."""

    reason = "GRAPH_INCOMPATIBLE"


class QuestionAmbiguous(FailedPrecondition):
    """Several questions are open, and the request has one bare answer: answer by question id."""

    reason = "QUESTION_AMBIGUOUS"


class QuestionUnknown(FailedPrecondition):
    """The answered question is not open."""

    reason = "QUESTION_UNKNOWN"


class NothingToResume(FailedPrecondition):
    """The request has neither input nor command, and the thread has nothing pending."""

    reason = "NOTHING_TO_RESUME"


class ModesNotRecorded(FailedPrecondition):
    """A join requests modes that the run does not record."""

    reason = "MODES_NOT_RECORDED"


class GraphInUse(FailedPrecondition):
    """The graph is used by active runs, or by assistants other than its default one."""

    reason = "GRAPH_IN_USE"


class RunActive(FailedPrecondition):
    """The run has not ended: cancel it before deleting it."""

    reason = "RUN_ACTIVE"


class AssistantIsDefault(FailedPrecondition):
    """The default assistant of a graph cannot be deleted."""

    reason = "ASSISTANT_IS_DEFAULT"


class GraphNotRegistered(FailedPrecondition):
    """The graph comes from the folder or the program and cannot be deleted by a call."""

    reason = "GRAPH_NOT_REGISTERED"


class WorkerLost(Aborted):
    """The worker was silent for its heartbeat timeout, or another connection has its id."""

    reason = "WORKER_LOST"


class CursorExpired(OutOfRange):
    """The log no longer has the part after the cursor."""

    reason = "CURSOR_EXPIRED"


class PartTooLarge(RunloomError):
    """The part is larger than the reader accepts; read the checkpoint that `omitted` names."""

    reason = "PART_TOO_LARGE"


class JsonNotExact(FailedPrecondition):
    """JSON_ENCODING_VALUE was requested, and is not exact for this value."""

    reason = "JSON_NOT_EXACT"


class NodeFailed(RunError):
    """A node failed, after its retries."""

    reason = "NODE_FAILED"


class RecursionLimit(RunError):
    """The graph did not end within the recursion limit."""

    reason = "RECURSION_LIMIT"


class InvalidUpdate(RunError):
    """A channel does not accept a write."""

    reason = "INVALID_UPDATE"


class RunTimeout(RunError):
    """The run_timeout has passed."""

    reason = "RUN_TIMEOUT"


class NodeTimeout(RunError):
    """A node exceeded its timeout, after its retries."""

    reason = "NODE_TIMEOUT"


class Cancelled(RunError):
    """A caller, the disconnect rule or a newer run cancelled it; see End.cancellation."""

    reason = "CANCELLED"


class AttemptsExhausted(RunError):
    """The server stopped during each of its attempts."""

    reason = "ATTEMPTS_EXHAUSTED"
