"""What a handler can do beside returning: emit, ask, stream messages, tell that it is alive, use the item store."""
from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..codec import decode, fill, from_json, to_json
from ..types import HandledFailure, MessageChunk, Reasoning, Text, ToolCallChunk, Usage
from ..v1 import workers_pb2
from .outcome import Interrupted, TaskCancelled

if TYPE_CHECKING:
    from .._async.services import Store
    from .._sync.services import Store as SyncStore
    from .attachment import Attachment

MODES = {1: "values", 2: "updates", 3: "messages", 4: "custom", 5: "tasks", 6: "checkpoints", 7: "debug", 8: "events"}


class Context:
    """The context of a task. Its methods may be called from any thread."""

    def __init__(self, task: Any, attachment: Attachment, *, is_async: bool) -> None:
        self._task, self._attachment, self._is_async = task, attachment, is_async
        self._cancelled = threading.Event()
        self._asked = 0
        self.cancel_reason: str | None = None
        """Why the task was cancelled: `run_cancelled`, `timed_out`, `fenced`, `worker_lost` or `step_failed`."""
        self.task_id: str = task.task_id
        """The same in all tries and attempts: an idempotency key for calls to other services."""
        self.run_id: str = task.run_id
        self.thread_id: str = task.thread_id
        self.graph_name: str = task.graph_name
        self.node: str = task.node
        self.namespace: list[str] = list(task.namespace)
        self.step: int = task.step
        self.attempt: int = task.attempt
        self.try_: int = getattr(task, "try")
        """The try of the task, from 1, over all attempts of the run."""
        self.remaining_steps: int = task.remaining_steps
        self.config: dict[str, Any] = from_json(task.config) or {}
        """The run's configuration: `configurable`, `tags`, `metadata`, `recursion_limit`."""
        self.context: dict[str, Any] = from_json(task.context) or {} if task.HasField("context") else {}
        """The run's context."""
        self.answers: list[Any] = [from_json(answer) for answer in task.answers]
        """The answers to the questions of earlier tries."""
        self.heartbeat_details: Any = from_json(task.heartbeat_details) if task.HasField("heartbeat_details") else None
        """The details of the last heartbeat of the previous try."""
        limit: timedelta | None = task.time_limit.ToTimedelta() if task.HasField("time_limit") else None
        self.deadline: float | None = None if limit is None else time.monotonic() + limit.total_seconds()
        """When the node times out, in `time.monotonic()`. None: no limit."""
        self.trace_context: dict[str, str] = dict(task.trace_context)
        self.tool_call_id: str | None = task.tool_call.id if task.HasField("tool_call") else None
        """The id of the tool's call."""
        self.modes: frozenset[str] = frozenset(MODES.get(mode, "") for mode in task.emit_modes)
        """The stream modes that are read or recorded: what is emitted in others is dropped."""
        self.error: HandledFailure | None = decode(task.error) if task.HasField("error") else None
        """The error that the node handles, if it is an error handler."""
        self.is_send: bool = task.HasField("send_input")
        """Whether the node was started by a Send, with an input of its own."""
        self.state: dict[str, Any] = {}
        """The state that the node reads, also for a tool and for a node with an input of its own."""

    @property
    def cancelled(self) -> bool:
        """Whether the task was cancelled. An async handler gets asyncio.CancelledError; a sync one looks here."""
        return self._cancelled.is_set()

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        """Waits, in a sync handler, until the task is cancelled or the time is over. Returns whether it is cancelled."""
        return self._cancelled.wait(timeout)

    def interrupt(self, value: Any, *, response_schema: Any = None) -> Any:
        """Asks, and returns the answer. Without one the handler stops here, and is called again with the answer."""
        index, self._asked = self._asked, self._asked + 1
        if index < len(self.answers):
            return self.answers[index]
        raise Interrupted([{"index": index, "value": value, "response_schema": response_schema}])

    def emit(self, data: Any) -> None:
        """Emits custom data (mode custom)."""
        if self._wanted("custom"):
            self._send(workers_pb2.Emit(token=self._task.token, custom=to_json(data)))

    def event(self, name: str, data: Any) -> None:
        """Emits a custom event (mode events)."""
        self.nested_event("custom", name, data={"custom": data})

    def nested_event(
        self,
        kind: str,
        name: str,
        *,
        run_id: str | None = None,
        parent_ids: Sequence[str] = (),
        tags: Sequence[str] = (),
        metadata: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
    ) -> str:
        """Emits an event inside the task, such as `tool_start`. Returns its run_id, for the events that follow it."""
        run_id = run_id or str(uuid.uuid4())
        if self._wanted("events"):
            emit = workers_pb2.Emit(token=self._task.token)
            fields = {"kind": kind, "name": name, "run_id": run_id, "parent_ids": parent_ids, "tags": tags}
            fill(emit.event, {**fields, "metadata": metadata, "data": data})
            self._send(emit)
        return run_id

    def chunk(
        self, chunk: MessageChunk, *, tags: Sequence[str] = (), run_id: str = "", namespace: Sequence[str] = ()
    ) -> None:
        """Emits a piece of a message (mode messages)."""
        if self._wanted("messages") or self._wanted("events"):
            emit = workers_pb2.Emit(token=self._task.token)
            fill(emit.chunk, {"chunk": chunk, "tags": tags, "run_id": run_id, "namespace": namespace})
            self._send(emit)

    def message(self, *, model: str = "", name: str = "", message_id: str | None = None, tags: Sequence[str] = ()) -> MessageWriter:
        """Streams a message of a model: `with ctx.message() as message: message.text("…")`."""
        return MessageWriter(self, model=model, name=name, message_id=message_id, tags=tags)

    def nested_part(self, namespace: Sequence[str], mode: str, payload: Any) -> None:
        """Emits a part of the stream of a graph that runs inside the task."""
        if self._wanted(mode):
            emit = workers_pb2.Emit(token=self._task.token)
            fill(emit.nested, {"namespace": namespace, "mode": mode, "payload": to_json(payload)})
            self._send(emit)

    def heartbeat(self, details: Any = None) -> None:
        """Tells that the task is alive, which restarts the node's idle timeout. The next try receives the details."""
        self._send(fill(workers_pb2.Heartbeat(token=self._task.token), {"details": details}))

    async def flush(self) -> None:
        """Waits until what was emitted is sent. A handler that emits much in a loop waits here."""
        await self._attachment.flush()

    @property
    def store(self) -> Store:
        """The item store, for async handlers."""
        store: Store = self._attachment.store(self._task.item_token)
        return store

    @property
    def sync_store(self) -> SyncStore:
        """The item store, for sync handlers."""
        store: SyncStore = self._attachment.sync_store(self._task.item_token)
        return store

    def _wanted(self, mode: str) -> bool:
        return not self.modes or mode in self.modes or "debug" in self.modes and mode in ("tasks", "checkpoints")

    def _send(self, message: Any) -> None:
        if self.cancelled:
            if self._is_async:
                return
            raise TaskCancelled(self.cancel_reason)
        self._attachment.emit(message)

    def _cancel(self, reason: str) -> None:
        self.cancel_reason = reason
        self._cancelled.set()


class MessageWriter:
    """A message that is streamed piece by piece."""

    def __init__(self, context: Context, *, model: str, name: str, message_id: str | None, tags: Sequence[str]) -> None:
        self._context, self._tags = context, tags
        self._first = {"role": "ai", "model": model, "name": name}
        self.message_id = message_id or f"run-{uuid.uuid4()}"
        self._text = ""
        self._ended = False

    def text(self, text: str) -> None:
        """New text."""
        self._text += text
        self._emit(content=[Text(text)])

    def reasoning(self, text: str, signature: str = "") -> None:
        """New reasoning."""
        self._emit(content=[Reasoning(text, signature)])

    def tool_call(self, index: int, args: str = "", *, id: str = "", name: str = "") -> None:
        """A new part of a tool call; `id` and `name` only in its first part."""
        self._emit(tool_call_chunks=[ToolCallChunk(index, id, name, args)])

    def end(self, *, usage: Usage | None = None, response_metadata: dict[str, Any] | None = None) -> None:
        """Ends the message."""
        if not self._ended:
            self._ended = True
            self._emit(usage=usage, response_metadata=response_metadata, last=True)

    def as_message(self) -> dict[str, Any]:
        """The message as JSON, for a channel with the reducer `messages`."""
        return {"type": "ai", "id": self.message_id, "content": self._text}

    def _emit(self, **fields: Any) -> None:
        first, self._first = self._first, {}
        chunk = MessageChunk(message_id=self.message_id, **first, **fields)  # type: ignore[arg-type]
        self._context.chunk(chunk, tags=self._tags)

    def __enter__(self) -> MessageWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.end()
