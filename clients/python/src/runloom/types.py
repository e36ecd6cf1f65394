"""What the server returns, as dataclasses. Fields are those of the messages in proto/, whose comments are the reference.

JSON is native values. Enums are words in lower case. A field that the server left out is None.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Union

from .codec import stands_for

if TYPE_CHECKING:
    from .errors import RunloomError

StreamMode = Literal["values", "updates", "messages", "custom", "tasks", "checkpoints", "debug", "events"]
RunState = Literal["unspecified", "pending", "running", "succeeded", "awaiting_input", "failed", "cancelled", "timed_out"]
ThreadStatus = Literal["unspecified", "idle", "busy", "interrupted", "error"]
MessageRole = Literal["unspecified", "human", "ai", "system", "tool"]
EventKind = Literal[
    "unspecified", "chain_start", "chain_stream", "chain_end", "chain_error", "chat_model_start", "chat_model_stream",
    "chat_model_end", "tool_start", "tool_end", "tool_error", "retriever_start", "retriever_end", "custom",
]  # fmt: skip
IfExists = Literal["reject", "return"]
CancelMode = Literal["interrupt", "rollback"]
MultitaskStrategy = Literal["enqueue", "reject", "interrupt", "rollback"]
Durability = Literal["sync", "async", "exit"]


# State


@stands_for("CheckpointRef")
@dataclass(slots=True)
class CheckpointRef:
    """A reference to a checkpoint of a thread."""

    checkpoint_id: str = ""
    namespace: list[str] = field(default_factory=list)


@stands_for("Omission")
@dataclass(slots=True)
class Omission:
    """Data that was left out: the reason, and the checkpoint that has the data."""

    reason: str = ""
    message: str = ""
    checkpoint: CheckpointRef | None = None
    size_bytes: int = 0


@stands_for("Interrupt")
@dataclass(slots=True)
class Interrupt:
    """A question that a node asked."""

    id: str = ""
    value: Any = None
    namespace: list[str] = field(default_factory=list)
    task_id: str = ""
    node: str = ""
    response_schema: Any = None


@stands_for("NodeError")
@dataclass(slots=True)
class NodeError:
    """The error of a node."""

    type: str = ""
    message: str = ""


@stands_for("CheckpointTask")
@dataclass(slots=True)
class CheckpointTask:
    """A task of the step that follows a checkpoint."""

    task_id: str = ""
    node: str = ""
    error: NodeError | None = None
    interrupts: list[Interrupt] = field(default_factory=list)
    result: Any = None
    subgraph_checkpoint: CheckpointRef | None = None
    waiting_for: str = ""


@stands_for("Checkpoint")
@dataclass(slots=True)
class Checkpoint:
    """The state of a graph after a step, and the tasks that come next."""

    checkpoint_id: str = ""
    thread_id: str = ""
    namespace: list[str] = field(default_factory=list)
    parent_checkpoint_id: str = ""
    create_time: datetime | None = None
    source: Literal["unspecified", "input", "loop", "update", "fork"] = "unspecified"
    step: int = 0
    run_id: str = ""
    graph_revision: str = ""
    values: Any = None
    next: list[str] = field(default_factory=list)
    tasks: list[CheckpointTask] = field(default_factory=list)
    interrupts: list[Interrupt] = field(default_factory=list)
    metadata: Any = None
    omitted: Omission | None = None


@stands_for("GetStateResponse")
@dataclass(slots=True)
class State:
    """A checkpoint, and those of its subgraphs if requested."""

    checkpoint: Checkpoint | None = None
    subgraph_checkpoints: list[Checkpoint] = field(default_factory=list)


# Messages


@stands_for("Usage")
@dataclass(slots=True)
class Usage:
    """Token usage."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cache_read_tokens: int = 0
    cache_creation_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(slots=True)
class Text:
    """New text of a message."""

    text: str
    index: int = 0
    start: bool = False


@dataclass(slots=True)
class Reasoning:
    """New reasoning of a model, if the provider returns it."""

    text: str
    signature: str = ""
    index: int = 0
    start: bool = False


@dataclass(slots=True)
class Media:
    """An image, audio or a file: at a URL, in the message, or at the provider."""

    kind: Literal["image", "audio", "file"]
    url: str | None = None
    data: bytes | None = None
    file_id: str | None = None
    mime_type: str = ""
    filename: str = ""
    index: int = 0
    start: bool = False


@dataclass(slots=True)
class OtherBlock:
    """A block of another type, in LangChain's JSON."""

    value: Any
    index: int = 0
    start: bool = False


ContentBlock = Union[Text, Reasoning, Media, OtherBlock]


@stands_for("ToolCallChunk")
@dataclass(slots=True)
class ToolCallChunk:
    """A new part of a tool call: the texts of `args` of all parts together are JSON."""

    index: int = 0
    id: str = ""
    name: str = ""
    args: str = ""
    block_index: int | None = None
    start: bool = False


@stands_for("MessageChunk")
@dataclass(slots=True)
class MessageChunk:
    """A piece of a message. Pieces with one message_id, in order, are the message."""

    message_id: str = ""
    role: MessageRole = "unspecified"
    node: str = ""
    name: str = ""
    model: str = ""
    tool_call_id: str = ""
    tool_error: bool = False
    content: list[ContentBlock] = field(default_factory=list)
    tool_call_chunks: list[ToolCallChunk] = field(default_factory=list)
    usage: Usage | None = None
    last: bool = False
    tags: list[str] = field(default_factory=list)
    metadata: Any = None
    response_metadata: Any = None
    finished_blocks: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text of the piece."""
        return "".join(block.text for block in self.content if isinstance(block, Text))


# The stream of a run


@stands_for("Metadata")
@dataclass(slots=True)
class Metadata:
    """A run and its state: the first part of every stream, and of each attempt."""

    run_id: str = ""
    thread_id: str = ""
    assistant_id: str = ""
    graph_name: str = ""
    graph_revision: str = ""
    state: RunState = "unspecified"
    attempt: int = 0
    stream_modes: list[StreamMode] = field(default_factory=list)
    stream_subgraphs: bool = False


@stands_for("EventData")
@dataclass(slots=True)
class EventData:
    """The data of an event. Fields that its kind does not have are None."""

    input: Any = None
    output: Any = None
    chunk: Any = None
    message_chunk: MessageChunk | None = None
    error: NodeError | None = None
    custom: Any = None


@stands_for("Event")
@dataclass(slots=True)
class Event:
    """Mode events: something that started, streamed or ended inside the run."""

    kind: EventKind = "unspecified"
    name: str = ""
    node: str = ""
    run_id: str = ""
    parent_ids: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    metadata: Any = None
    data: EventData | None = None


@stands_for("Update")
@dataclass(slots=True)
class Update:
    """Mode updates: the writes of a node, or the questions that interrupted it."""

    node: str = ""
    update: Any = None
    interrupts: list[Interrupt] = field(default_factory=list)
    cached: bool = False


@stands_for("Value")
@dataclass(slots=True)
class Value:
    """Mode values: the state of a graph."""

    state: Any = None
    interrupts: list[Interrupt] = field(default_factory=list)


@stands_for("Custom")
@dataclass(slots=True)
class Custom:
    """Mode custom: data that a node or a tool emitted."""

    payload: Any = None
    node: str = ""


@stands_for("Task")
@dataclass(slots=True)
class Task:
    """Modes tasks and debug: the start or the end of a task."""

    phase: Literal["unspecified", "started", "finished"] = "unspecified"
    node: str = ""
    input: Any = None
    triggers: list[str] = field(default_factory=list)
    result: Any = None
    error: NodeError | None = None
    interrupts: list[Interrupt] = field(default_factory=list)


@stands_for("Progress")
@dataclass(slots=True)
class Progress:
    """No new part; the connection is alive."""


@stands_for("Cancellation")
@dataclass(slots=True)
class Cancellation:
    """Who cancelled a run, and how."""

    cause: Literal["unspecified", "request", "disconnect", "newer_run", "thread_deleted"] = "unspecified"
    mode: CancelMode | Literal["unspecified"] = "unspecified"
    requester: str = ""


@stands_for("End")
@dataclass(slots=True)
class End:
    """The end of a run: exactly one, as the last part. A run that failed has its error here."""

    state: RunState = "unspecified"
    error: RunloomError | None = None
    usage: Usage | None = None
    interrupts: list[Interrupt] = field(default_factory=list)
    cancellation: Cancellation | None = None
    checkpoint_id: str = ""

    def raise_for_error(self) -> End:
        """Raises the error of a run that failed, was cancelled or timed out. Returns the end of any other."""
        if self.error is not None:
            raise self.error
        return self


Payload = Union[Metadata, Event, Update, Value, MessageChunk, Custom, Task, Checkpoint, Progress, End]


@dataclass(slots=True)
class Part:
    """One part of a run's stream: an envelope and a payload."""

    payload: Payload
    seq: int = 0
    cursor: str = ""
    emit_time: datetime | None = None
    run_id: str = ""
    attempt: int = 0
    namespace: list[str] = field(default_factory=list)
    step: int | None = None
    task_id: str = ""
    task_attempt: int = 0
    omitted: Omission | None = None


# Objects of the services


@stands_for("Run")
@dataclass(slots=True)
class Run:
    """A run."""

    run_id: str = ""
    thread_id: str = ""
    assistant_id: str = ""
    graph_name: str = ""
    graph_revision: str = ""
    state: RunState = "unspecified"
    attempt: int = 0
    metadata: Any = None
    owner: str = ""
    create_time: datetime | None = None
    update_time: datetime | None = None
    start_time: datetime | None = None
    begin_time: datetime | None = None
    end_time: datetime | None = None
    stream_modes: list[StreamMode] = field(default_factory=list)
    multitask_strategy: str = ""
    durability: str = ""
    error: RunloomError | None = None
    usage: Usage | None = None
    request_id: str = ""
    omitted: Omission | None = None


@stands_for("WaitRunResponse")
@dataclass(slots=True)
class RunResult:
    """The result of a run. A run that failed has its error in `end`."""

    run: Run | None = None
    values: Any = None
    interrupts: list[Interrupt] = field(default_factory=list)
    end: End | None = None
    omitted: Omission | None = None

    def raise_for_error(self) -> RunResult:
        """Raises the error of a run that failed, was cancelled or timed out. Returns the result of any other."""
        if self.end is not None:
            self.end.raise_for_error()
        return self


@stands_for("Thread")
@dataclass(slots=True)
class Thread:
    """A thread."""

    thread_id: str = ""
    owner: str = ""
    status: ThreadStatus = "unspecified"
    metadata: Any = None
    create_time: datetime | None = None
    update_time: datetime | None = None
    state_update_time: datetime | None = None
    graph_name: str = ""
    values: Any = None
    interrupts: list[Interrupt] = field(default_factory=list)
    error: RunloomError | None = None
    omitted: Omission | None = None


@stands_for("RunConfig")
@dataclass(slots=True)
class RunConfig:
    """The configuration of a run."""

    recursion_limit: int = 0
    tags: list[str] = field(default_factory=list)
    configurable: Any = None
    max_concurrency: int = 0


@stands_for("Assistant")
@dataclass(slots=True)
class Assistant:
    """One version of an assistant."""

    assistant_id: str = ""
    owner: str = ""
    graph_name: str = ""
    version: int = 0
    name: str = ""
    description: str = ""
    config: RunConfig | None = None
    context: Any = None
    metadata: Any = None
    create_time: datetime | None = None
    update_time: datetime | None = None
    omitted: Omission | None = None


@stands_for("GraphNode")
@dataclass(slots=True)
class GraphNode:
    """A node of a drawing."""

    id: str = ""
    name: str = ""
    kind: Literal["unspecified", "start", "end", "node", "subgraph"] = "unspecified"
    tags: list[str] = field(default_factory=list)


@stands_for("GraphEdge")
@dataclass(slots=True)
class GraphEdge:
    """An edge of a drawing."""

    source: str = ""
    target: str = ""
    conditional: bool = False
    label: str = ""


@stands_for("GetAssistantGraphResponse")
@dataclass(slots=True)
class Drawing:
    """A drawing of a graph."""

    nodes: list[GraphNode] = field(default_factory=list)
    edges: list[GraphEdge] = field(default_factory=list)
    mermaid: str = ""


@stands_for("GraphSchemas")
@dataclass(slots=True)
class GraphSchemas:
    """The JSON Schemas of a graph. A schema that the graph does not define is None."""

    graph_name: str = ""
    input_schema: Any = None
    output_schema: Any = None
    state_schema: Any = None
    context_schema: Any = None


@stands_for("GetAssistantSchemasResponse")
@dataclass(slots=True)
class AssistantSchemas:
    """The schemas of an assistant's graph, and of its subgraphs if requested."""

    schemas: GraphSchemas | None = None
    subgraph_schemas: dict[str, GraphSchemas] = field(default_factory=dict)


@stands_for("Graph")
@dataclass(slots=True)
class GraphInfo:
    """A graph of the server."""

    name: str = ""
    description: str = ""
    revision: str = ""
    source: Literal["unspecified", "folder", "program", "registered"] = "unspecified"
    hidden: bool = False
    default_assistant_id: str = ""
    create_time: datetime | None = None
    update_time: datetime | None = None


@stands_for("GraphWarning")
@dataclass(slots=True)
class GraphWarning:
    """A warning about a graph document."""

    message: str = ""
    line: int = 0
    column: int = 0


@stands_for("RegisterGraphResponse")
@dataclass(slots=True)
class RegisteredGraph:
    """A graph that was registered, and warnings about its document."""

    graph: GraphInfo | None = None
    warnings: list[GraphWarning] = field(default_factory=list)
    changed: bool = False


@dataclass(slots=True)
class Cron:
    """A cron: `run` has the fields of its run's specification."""

    cron_id: str = ""
    schedule: str = ""
    time_zone: str = ""
    end_time: datetime | None = None
    disabled: bool = False
    on_run_completed: Literal["unspecified", "delete", "keep"] = "unspecified"
    metadata: Any = None
    run: dict[str, Any] | None = None
    owner: str = ""
    next_run_time: datetime | None = None
    last_run_time: datetime | None = None
    last_run_id: str = ""
    last_error: str = ""
    create_time: datetime | None = None
    update_time: datetime | None = None
    omitted: Omission | None = None


stands_for("Cron")(Cron)


@stands_for("Item")
@dataclass(slots=True)
class Item:
    """An item of the store."""

    namespace: list[str] = field(default_factory=list)
    key: str = ""
    value: Any = None
    create_time: datetime | None = None
    update_time: datetime | None = None
    expire_time: datetime | None = None
    omitted: Omission | None = None


@stands_for("Handler")
@dataclass(slots=True)
class Handler:
    """A function of a worker."""

    name: str = ""
    kind: Literal["unspecified", "node", "tool", "route", "reducer"] = "unspecified"
    description: str = ""
    input_schema: Any = None
    output_schema: Any = None


@stands_for("HandledFailure")
@dataclass(slots=True)
class HandledFailure:
    """The failure of a node, for its error handler."""

    node: str = ""
    type: str = ""
    message: str = ""


@stands_for("RunningTask")
@dataclass(slots=True)
class RunningTask:
    """A task that a worker executes."""

    task_id: str = ""
    run_id: str = ""
    thread_id: str = ""
    graph_name: str = ""
    node: str = ""
    handler: str = ""
    try_: int = 0
    start_time: datetime | None = None
    heartbeat_time: datetime | None = None


@stands_for("Worker")
@dataclass(slots=True)
class WorkerInfo:
    """A worker that is attached."""

    worker_id: str = ""
    queue: str = ""
    sdk: str = ""
    sdk_version: str = ""
    description: str = ""
    peer: str = ""
    server_id: str = ""
    handlers: list[Handler] = field(default_factory=list)
    credit: int = 0
    max_tasks: int = 0
    draining: bool = False
    attach_time: datetime | None = None
    tasks: list[RunningTask] = field(default_factory=list)


@stands_for("WorkerQueue")
@dataclass(slots=True)
class WorkerQueue:
    """A queue of tasks."""

    name: str = ""
    waiting: int = 0
    running: int = 0
    oldest_wait: Any = None
    workers: int = 0
    missing_handlers: list[str] = field(default_factory=list)
