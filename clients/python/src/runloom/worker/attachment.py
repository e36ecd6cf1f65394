"""A worker's connection to one server: it attaches, executes tasks, and attaches again when the connection breaks."""
from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc

from .._async.client import Client
from .._sync.client import SyncClient
from ..codec import enum_words, from_json
from ..errors import RunloomError, Unavailable, from_rpc
from ..v1 import workers_pb2, workers_pb2_grpc
from . import outcome
from .cache import StateCache
from .context import Context

if TYPE_CHECKING:
    from .worker import Worker

log = logging.getLogger("runloom.worker")
# So many bytes may wait to be sent: a sync handler then waits in `emit`, an async one fails at the second limit.
HIGH_WATER, MAX_UNSENT = 1 << 20, 64 << 20
REASONS = enum_words(workers_pb2.CancelTaskReason.DESCRIPTOR)
KINDS = enum_words(workers_pb2.HandlerKind.DESCRIPTOR)


class Attachment:
    """A worker's connection to one server."""

    def __init__(self, worker: Worker, address: str) -> None:
        self.worker, self.address = worker, address
        self.client = Client(address, worker.options)
        self._sync_client: SyncClient | None = None
        self._stub = workers_pb2_grpc.WorkersStub(self.client._caller.channel)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._out: deque[tuple[Any, int]] = deque()
        self._unsent, self._drained_out = 0, threading.Condition()
        self._wake_writer, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._tasks: dict[bytes, tuple[asyncio.Task[None], Context]] = {}
        # Tasks that wait for channel values.
        self._waiting: dict[bytes, Any] = {}
        # Outcomes that are not durable yet: sent again on a new connection.
        self._outcomes: dict[bytes, Any] = {}
        self._cache = StateCache(worker.cache_bytes)
        self._is_attached = False
        self._max_done = self._max_emit = 4 << 20
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Stays attached until the worker has drained. Raises an error that attaching again does not help against."""
        failures = 0
        while not (self.worker.draining and not self._tasks and not self._outcomes):
            try:
                failures = 0 if await self._attach() else failures
                if self.worker.draining:
                    return
                error: RunloomError = Unavailable("the server ended the stream", "UNAVAILABLE")
            except grpc.RpcError as rpc:
                error = from_rpc(rpc)
            except RunloomError as known:
                error = known
            was_attached = self._disconnect()
            if not (error.is_transient or error.reason_name == "WORKER_LOST"):
                raise error
            failures = 1 if was_attached else failures + 1
            delay = self.worker.options.retry.backoff(failures, error.retry_after)
            if self.worker.draining:
                if self._loop.time() + delay > self.worker.drain_deadline:
                    log.warning("worker %s: drained without its connection to %s: %s", self.worker.id, self.address, error)
                    return
                await asyncio.sleep(delay)
                continue
            log.warning("worker %s: connection to %s: %s; attaching again in %.1f s", self.worker.id, self.address, error, delay)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.worker.drain_requested.wait(), delay)

    async def close(self) -> None:
        """Closes the connections."""
        self._disconnect()
        await self.client.aclose()
        if self._sync_client is not None:
            self._sync_client.close()

    async def _attach(self) -> bool:
        """One connection, until it ends."""
        self._cache = StateCache(self.worker.cache_bytes)
        call = self._stub.Attach(metadata=self.client._caller.metadata)
        helpers: list[asyncio.Task[Any]] = []
        try:
            await call.write(workers_pb2.AttachRequest(hello=self.worker.hello()))
            welcome = await self._read(call, 30.0)
            silence = self._welcome(welcome.welcome)
            self._out.clear()
            self._unsent = 0
            # Outcomes go first: the server counts one for the next try, as long as no worker has that.
            for message in self._outcomes.values():
                self.send(done=message)
            self._is_attached = True
            self.grant(max(0, self.worker.share() - len(self._tasks)))
            helpers = [asyncio.create_task(self._write(call)), asyncio.create_task(self._heartbeats(welcome.welcome))]
            helpers.append(asyncio.create_task(self._drain(call)))
            log.info("worker %s attached to %s, queue %r", self.worker.id, self.address, self.worker.queue)
            while True:
                message = await self._read(call, silence)
                if message is None:
                    return True
                self._take(message)
        finally:
            for helper in helpers:
                helper.cancel()
            call.cancel()

    async def _read(self, call: Any, timeout: float) -> Any:
        try:
            message = await asyncio.wait_for(call.read(), timeout)
        except asyncio.TimeoutError:
            raise Unavailable(f"the server was silent for {timeout:.0f} s", "UNAVAILABLE") from None
        if message is grpc.aio.EOF:
            code = await call.code()
            if code is not grpc.StatusCode.OK:
                raise grpc.aio.AioRpcError(code, await call.initial_metadata(), await call.trailing_metadata(), await call.details())
            return None
        return message

    def _welcome(self, welcome: Any) -> float:
        self._max_done = welcome.max_done_bytes or self._max_done
        self._max_emit = welcome.max_emit_bytes or self._max_emit
        self.worker.learned(list(welcome.servers))
        return float(welcome.server_timeout.ToTimedelta().total_seconds() or 60.0)

    def _take(self, message: Any) -> None:
        kind = message.WhichOneof("message")
        if kind == "task":
            self._receive(message.task)
        elif kind == "cancel":
            self._cancel(message.cancel.token, REASONS.get(message.cancel.reason, "unspecified"))
        elif kind == "stored":
            self._settled(message.stored.token)
        elif kind == "refused":
            log.info("worker %s: the server refused an outcome: %s", self.worker.id, message.refused.message)
            self._settled(message.refused.token)
        elif kind == "values":
            self._values(message.values)
        elif kind == "welcome":
            self._welcome(message.welcome)

    # Tasks

    def _receive(self, task: Any) -> None:
        state, missing = self._cache.state(task.state)
        self._idle.clear()
        if missing:
            self._waiting[task.token] = (task, state)
            self.send(missing=workers_pb2.Missing(token=task.token, channels=missing))
        else:
            self._start(task, state)

    def _values(self, values: Any) -> None:
        task, state = self._waiting.pop(values.token, (None, {}))
        if task is not None:
            self._start(task, {**state, **self._cache.state(values.values)[0]})

    def _start(self, task: Any, state: dict[str, Any]) -> None:
        spec = self.worker.handlers.get((KINDS[task.kind], task.handler))
        context = Context(task, self, is_async=spec is None or spec.is_async)
        context.state = state
        with trace(context.trace_context):
            running = self._loop.create_task(self._execute(task, context, spec))
        self._tasks[task.token] = (running, context)
        running.add_done_callback(lambda _: self._finished(task.token, running))

    async def _execute(self, task: Any, context: Context, spec: Any) -> None:
        """Calls the handler, and sends the outcome unless the task was cancelled."""
        try:
            if spec is None:
                raise outcome.TaskError(f"no {KINDS[task.kind]} {task.handler!r} in this worker", type="UnknownHandler", retry=False)
            given = given_of(task, context, spec)
            if spec.kind == "reducer":
                value = await fold(spec, given, lambda one: self._call(spec, one, context))
            else:
                value = await self._call(spec, given, context)
            message = outcome.done(spec.kind, task.token, value)
        except outcome.Interrupted as asked:
            message = outcome.interrupts(task.token, asked.questions)
        except (asyncio.CancelledError, outcome.TaskCancelled) as error:
            if context.cancelled:
                return
            message = outcome.failure(task.token, error)
        except Exception as error:
            message = outcome.failure(task.token, error)
        if context.cancelled:
            return
        if message.ByteSize() > self._max_done:
            text = f"the outcome has {message.ByteSize()} bytes: at most {self._max_done}"
            message = outcome.failure(task.token, outcome.TaskError(text, type="OutcomeTooLarge", retry=False))
        self._outcomes[task.token] = message
        self.send(done=message)

    async def _call(self, spec: Any, given: Any, context: Context) -> Any:
        if spec.is_async:
            return await spec.call(given, context)
        copied = contextvars.copy_context()
        running = self._loop.run_in_executor(self.worker.threads, lambda: copied.run(spec.call, given, context))
        # A thread cannot be stopped: its slot stays taken until it returns.
        return await asyncio.shield(running)

    def _finished(self, token: bytes, running: asyncio.Task[None]) -> None:
        if self._tasks.get(token, (None,))[0] is running:
            del self._tasks[token]
        self.grant(1)
        self._check_idle()

    def _cancel(self, token: bytes, reason: str) -> None:
        if self._waiting.pop(token, None) is not None:
            self.grant(1)
        running = self._tasks.get(token)
        if running is not None:
            task, context = running
            context._cancel(reason)
            if context._is_async:
                task.cancel()
        self._check_idle()

    def _settled(self, token: bytes) -> None:
        self._outcomes.pop(token, None)
        self._check_idle()

    def _check_idle(self) -> None:
        if not self._tasks and not self._outcomes and not self._waiting:
            self._idle.set()

    def _disconnect(self) -> bool:
        """The server gives the tasks to others: they are cancelled here. Outcomes are held."""
        was_attached, self._is_attached = self._is_attached, False
        for token in [*self._tasks, *self._waiting]:
            self._cancel(token, "worker_lost")
        self._out.clear()
        self._made_room(0)
        return was_attached

    def _made_room(self, unsent: int) -> None:
        self._unsent = max(0, unsent)
        if self._unsent < HIGH_WATER:
            self._room.set()
            with self._drained_out:
                self._drained_out.notify_all()

    # Sending

    def grant(self, tasks: int) -> None:
        """Gives the server credit for so many more tasks, unless the worker is draining."""
        if tasks > 0 and self._is_attached and not self.worker.draining:
            self.send(ready=workers_pb2.Ready(tasks=tasks))

    def send(self, **message: Any) -> None:
        """Queues a message, in the thread of the loop."""
        made = workers_pb2.AttachRequest(**message)
        size = made.ByteSize()
        self._out.append((made, size))
        self._unsent += size
        if self._unsent >= HIGH_WATER:
            self._room.clear()
        self._wake_writer.set()

    def emit(self, message: Any) -> None:
        """Queues what a handler emits, from any thread."""
        size = message.ByteSize()
        if size > self._max_emit:
            raise ValueError(f"an emit has {size} bytes: at most {self._max_emit}")
        field = "heartbeat" if isinstance(message, workers_pb2.Heartbeat) else "emit"
        if threading.get_ident() == self._thread:
            if self._unsent > MAX_UNSENT:
                raise BufferError(f"{self._unsent} bytes are emitted and not sent: call `await ctx.flush()` between emits")
            self._send_attached(field, message)
            return
        with self._drained_out:
            self._drained_out.wait_for(lambda: self._unsent < HIGH_WATER)
        self._loop.call_soon_threadsafe(self._send_attached, field, message)

    def _send_attached(self, field: str, message: Any) -> None:
        if self._is_attached:
            self.send(**{field: message})

    async def flush(self) -> None:
        """Waits until little is unsent."""
        await self._room.wait()
        await asyncio.sleep(0)

    async def _write(self, call: Any) -> None:
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            while True:
                while self._out:
                    message, size = self._out.popleft()
                    await call.write(message)
                    self._made_room(self._unsent - size)
                self._wake_writer.clear()
                await self._wake_writer.wait()

    async def _heartbeats(self, welcome: Any) -> None:
        timeout = welcome.heartbeat_timeout.ToTimedelta().total_seconds() or self.worker.heartbeat_timeout
        while True:
            await asyncio.sleep(timeout / 3)
            self.send(heartbeat=workers_pb2.Heartbeat())

    async def _drain(self, call: Any) -> None:
        """When the worker drains: says so, waits for its tasks and their outcomes, and ends the stream."""
        await self.worker.drain_requested.wait()
        self.send(draining=workers_pb2.Draining())
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._idle.wait(), max(0.0, self.worker.drain_deadline - self._loop.time()))
        await call.done_writing()

    # The item store

    def store(self, token: str) -> Any:
        """The item store, with a task's credential."""
        from .._async.services import Store

        caller = self.client._caller
        return Store(caller.with_metadata({"runloom-item-token": token}) if token else caller)

    def sync_store(self, token: str) -> Any:
        """The same without asyncio."""
        from .._sync.services import Store

        if self._sync_client is None:
            self._sync_client = SyncClient(self.address, self.worker.options)
        caller = self._sync_client._caller
        return Store(caller.with_metadata({"runloom-item-token": token}) if token else caller)


def given_of(task: Any, context: Context, spec: Any) -> Any:
    """What the handler is called with."""
    kind = task.WhichOneof("input")
    if kind == "tool_call":
        return from_json(task.tool_call.args) or {}
    if kind == "send_input":
        return from_json(task.send_input)
    if kind == "reduction":
        left = from_json(task.reduction.left) if task.reduction.HasField("left") else None
        return (task.reduction.HasField("left"), left, [from_json(write) for write in task.reduction.writes])
    return context.state


async def fold(spec: Any, given: Any, call: Any) -> Any:
    """Combines the writes of a step with a reducer. Without a present value the first write is taken as it is."""
    has_left, left, writes = given
    if not has_left and writes:
        left, writes = writes[0], writes[1:]
    for write in writes:
        left = await call((left, write))
    return left


@contextlib.contextmanager
def trace(carrier: dict[str, str]) -> Iterator[None]:
    """Makes spans of the handler children of the task's span, if OpenTelemetry is installed."""
    try:
        from opentelemetry import context as otel
        from opentelemetry import propagate
    except ImportError:
        yield
        return
    token = otel.attach(propagate.extract(carrier))
    try:
        yield
    finally:
        otel.detach(token)
