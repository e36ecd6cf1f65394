"""A worker: functions that execute nodes, tools, routes and reducers of graphs."""
from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import logging
import os
import platform
import signal
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, overload

from ..codec import fill
from ..options import Options
from ..v1 import json_pb2, workers_pb2
from .attachment import Attachment
from .document import Graph
from .handlers import HandlerSpec, Kind, handler

log = logging.getLogger("runloom.worker")
F = TypeVar("F", bound=Callable[..., Any])


class Worker:
    """Executes tasks of a queue. Async handlers run in the event loop, others on threads.

    `run()` serves until the process gets SIGTERM or SIGINT, and then finishes the tasks under way.
    """

    def __init__(
        self,
        address: str = "localhost:50051",
        *,
        queue: str,
        max_tasks: int = 16,
        heartbeat_timeout: float = 10.0,
        drain_timeout: float = 30.0,
        cache_bytes: int = 64 << 20,
        description: str | None = None,
        options: Options | None = None,
        **named: Any,
    ) -> None:
        """`max_tasks`: at once. `cache_bytes`: of channel values, so that the server sends what changed. Options: as of a client."""
        if options is not None and named:
            raise TypeError("give either options or its fields by name")
        if max_tasks < 1:
            raise ValueError(f"max_tasks is {max_tasks}: at least 1")
        self.id = str(uuid.uuid4())
        self.address, self.queue, self.max_tasks = address, queue, max_tasks
        self.heartbeat_timeout, self.drain_timeout, self.cache_bytes = heartbeat_timeout, drain_timeout, cache_bytes
        self.description = description or f"{platform.node()}/python {os.getpid()}"
        self.options = options or Options(**named)
        self.handlers: dict[tuple[str, str], HandlerSpec] = {}
        self.documents: list[str] = []
        self.threads = ThreadPoolExecutor(max_tasks, thread_name_prefix="runloom-worker")
        self.draining = False
        # In the time of the event loop.
        self.drain_deadline = 0.0
        self.drain_requested: asyncio.Event = asyncio.Event()
        self._attachments: dict[str, tuple[Attachment, asyncio.Task[None]]] = {}
        self._changed: asyncio.Event = asyncio.Event()

    # Handlers

    @overload
    def node(self, function: F) -> F: ...
    @overload
    def node(self, function: None = None, *, name: str | None = None, **given: Any) -> Callable[[F], F]: ...
    def node(self, function: Any = None, *, name: str | None = None, **given: Any) -> Any:
        """A node: `def node(state, ctx)` returns its writes, a Command, or None. `given`: description, schemas."""
        return self._register("node", function, name, given)

    @overload
    def tool(self, function: F) -> F: ...
    @overload
    def tool(self, function: None = None, *, name: str | None = None, **given: Any) -> Callable[[F], F]: ...
    def tool(self, function: Any = None, *, name: str | None = None, **given: Any) -> Any:
        """A tool: its arguments are those of the model's call, and `ctx` if it has that. It returns its result for the model."""
        return self._register("tool", function, name, given)

    @overload
    def route(self, function: F) -> F: ...
    @overload
    def route(self, function: None = None, *, name: str | None = None, **given: Any) -> Callable[[F], F]: ...
    def route(self, function: Any = None, *, name: str | None = None, **given: Any) -> Any:
        """A route: `def route(state, ctx)` returns the next nodes: a name, a Send, or a list of them."""
        return self._register("route", function, name, given)

    @overload
    def reducer(self, function: F) -> F: ...
    @overload
    def reducer(self, function: None = None, *, name: str | None = None, **given: Any) -> Callable[[F], F]: ...
    def reducer(self, function: Any = None, *, name: str | None = None, **given: Any) -> Any:
        """A reducer: `def reducer(left, right)` returns the new value of a channel, from the present one and a write."""
        return self._register("reducer", function, name, given)

    def _register(self, kind: Kind, function: Any, name: str | None, given: dict[str, Any]) -> Any:
        if function is None:
            return lambda function: self._register(kind, function, name, given)
        unknown = set(given) - {"description", "input_schema", "output_schema"}
        if unknown:
            raise TypeError(f"unknown argument {unknown.pop()!r}: a {kind} has name, description, input_schema, output_schema")
        spec = handler(function, kind, name, given)
        if (kind, spec.name) in self.handlers:
            raise ValueError(f"a second {kind} {spec.name!r}: name it with name=…")
        self.handlers[kind, spec.name] = spec
        return function

    def graph(self, document: str | dict[str, Any] | Graph) -> None:
        """Brings a graph: a document in YAML or JSON, as an object, or built in code. The server registers it."""
        if isinstance(document, Graph):
            for kind, spec in document.functions(self.queue):
                self.handlers.setdefault((kind, spec.name), spec)
            document = document.document(self.queue)
        self.documents.append(document if isinstance(document, str) else json.dumps(document, ensure_ascii=False))

    # Serving

    def run(self) -> None:
        """Serves until the process gets SIGTERM or SIGINT; then drains."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError, RuntimeError):
                loop.add_signal_handler(number, self.drain)
        await self.serve()

    def drain(self) -> None:
        """Takes no more tasks, and ends `serve` when those under way are finished, or `drain_timeout` is over."""
        if self.draining:
            return
        self.draining = True
        self.drain_deadline = asyncio.get_running_loop().time() + self.drain_timeout
        self.drain_requested.set()

    async def serve(self) -> None:
        """Serves until `drain`. Raises if the server refuses the worker. Cancelling it ends the worker without draining."""
        try:
            self._attach(self.address)
            while True:
                running = {task for _, task in self._attachments.values()}
                changed = asyncio.ensure_future(self._changed.wait())
                finished, _ = await asyncio.wait({*running, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                self._changed.clear()
                for task in finished - {changed}:
                    task.result()
                if self.draining and all(task.done() for _, task in self._attachments.values()):
                    return
                self._attachments = {a: (one, task) for a, (one, task) in self._attachments.items() if not task.done()}
                if not self._attachments:
                    return
        finally:
            for attachment, task in self._attachments.values():
                task.cancel()
                await attachment.close()
            self.threads.shutdown(wait=False, cancel_futures=True)

    def _attach(self, address: str) -> None:
        attachment = Attachment(self, address)
        self._attachments[address] = (attachment, asyncio.get_running_loop().create_task(attachment.run()))
        self._changed.set()

    def learned(self, servers: list[str]) -> None:
        """Attaches to servers that are not known yet."""
        if self.draining or not servers:
            return
        for address in servers:
            if address not in self._attachments and address != self.address and len(servers) > 1:
                self._attach(address)

    def share(self) -> int:
        """How many tasks one server may give: the credit is shared among them."""
        return max(1, self.max_tasks // max(1, len(self._attachments)))

    def hello(self) -> Any:
        """What the worker is and what it can do."""
        message = workers_pb2.Hello(
            worker_id=self.id,
            sdk="python",
            sdk_version=importlib.metadata.version("runloom"),
            queue=self.queue,
            documents=self.documents,
            max_tasks=self.max_tasks,
            caches_state=self.cache_bytes > 0,
            json_encoding=json_pb2.JSON_ENCODING_TEXT,
            description=self.description,
        )
        fill(message, {"heartbeat_timeout": self.heartbeat_timeout})
        for spec in self.handlers.values():
            fields = {"name": spec.name, "kind": spec.kind, "description": spec.description}
            fill(message.handlers.add(), {**fields, "input_schema": spec.input_schema, "output_schema": spec.output_schema})
        return message
