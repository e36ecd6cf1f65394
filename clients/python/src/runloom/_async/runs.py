"""Service Runs."""
from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

from typing_extensions import Unpack

from ..codec import decode
from ..options import Command, EventFilter, RunOptions
from ..types import CancelMode, Run, RunResult, RunState, StreamMode
from ..v1 import run_pb2, runs_pb2, runs_pb2_grpc
from .caller import Caller
from .stream import Position, RunStream

Modes = list[StreamMode]
States = list[RunState]
FOREVER = float("inf")


def run_spec(graph: str | None, input: Any, command: Command | None, options: RunOptions) -> dict[str, Any]:
    """The fields of a RunSpec, with a request_id so that creating the run is safe to repeat."""
    fields: dict[str, Any] = dict(options)
    if (graph is None) == (fields.get("assistant_id") is None):
        raise ValueError("name either a graph or an assistant_id")
    fields["request_id"] = fields.get("request_id") or str(uuid.uuid4())
    return {**fields, "graph_name": graph, "input": input, "command": command}


class Runs:
    """Runs of graphs: create, stream, join, wait, cancel."""

    def __init__(self, caller: Caller) -> None:
        self._caller, self._stub = caller, runs_pb2_grpc.RunsStub(caller.channel)

    def stream(
        self,
        graph: str | None = None,
        input: Any = None,
        *,
        command: Command | None = None,
        timeout: float | None = None,
        **options: Unpack[RunOptions],
    ) -> RunStream:
        """Creates a run and streams it to its end. `timeout` is that of the whole stream, in seconds."""
        spec = run_spec(graph, input, command, options)

        def open(position: Position) -> tuple[Any, Any]:
            if not position.run_id:
                return self._stub.StreamRun, self._caller.request(runs_pb2.StreamRunRequest, run=spec)
            join = {"run_id": position.run_id, "cursor": position.cursor}
            return self._stub.JoinRun, self._caller.request(runs_pb2.JoinRunRequest, **join)

        # An invalid argument is an error here, not when the first part is read.
        self._caller.request(run_pb2.RunSpec, **spec)
        return RunStream(self._caller, open, timeout=timeout)

    def join(
        self,
        run_id: str,
        cursor: str = "",
        *,
        stream_modes: Modes | None = None,
        event_filter: EventFilter | None = None,
        timeout: float | None = None,
    ) -> RunStream:
        """Streams an existing run to its end, from a cursor or from the start of its log."""
        fields = {"run_id": run_id, "stream_modes": stream_modes, "event_filter": event_filter}

        def open(position: Position) -> tuple[Any, Any]:
            return self._stub.JoinRun, self._caller.request(runs_pb2.JoinRunRequest, **fields, cursor=position.cursor)

        return RunStream(self._caller, open, position=Position(run_id, cursor), timeout=timeout)

    async def create(
        self,
        graph: str | None = None,
        input: Any = None,
        *,
        command: Command | None = None,
        timeout: float | None = None,
        **options: Unpack[RunOptions],
    ) -> Run:
        """Creates a run in the background. Returns when it is on disk, before it starts."""
        request = self._caller.request(runs_pb2.CreateRunRequest, run=run_spec(graph, input, command, options))
        made: Run = decode((await self._caller.repeated(self._stub.CreateRun, request, timeout)).run)
        return made

    async def wait(
        self,
        graph: str | None = None,
        input: Any = None,
        *,
        command: Command | None = None,
        timeout: float | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult:
        """Creates a run and waits for its end. A run that failed is not an error: see `RunResult.raise_for_error`."""
        request = self._caller.request(runs_pb2.WaitRunRequest, run=run_spec(graph, input, command, options))
        return await self._wait(request, timeout)

    async def wait_for(self, run_id: str, *, timeout: float | None = None) -> RunResult:
        """Waits for the end of an existing run."""
        return await self._wait(self._caller.request(runs_pb2.WaitRunRequest, run_id=run_id), timeout)

    async def _wait(self, request: Any, timeout: float | None) -> RunResult:
        method = self._stub.WaitRun
        result: RunResult = decode(await self._caller.repeated(method, request, FOREVER if timeout is None else timeout))
        return result

    async def get(self, run_id: str, *, timeout: float | None = None) -> Run:
        """Reads a run."""
        request = self._caller.request(runs_pb2.GetRunRequest, run_id=run_id)
        run: Run = decode((await self._caller.repeated(self._stub.GetRun, request, timeout)).run)
        return run

    async def list(
        self,
        *,
        thread_id: str | None = None,
        states: States | None = None,
        metadata_filter: dict[str, Any] | None = None,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[Run]:
        """Iterates over runs, newest first. The pages are read as they are needed."""
        fields = {"thread_id": thread_id, "states": states, "metadata_filter": metadata_filter, "page_size": page_size}
        token = ""
        while True:
            request = self._caller.request(runs_pb2.ListRunsRequest, **fields, page_token=token)
            page = await self._caller.repeated(self._stub.ListRuns, request, timeout)
            for run in page.runs:
                yield decode(run)
            token = page.next_page_token
            if not token:
                return

    async def cancel(
        self, run_id: str, *, mode: CancelMode = "interrupt", wait: bool = False, timeout: float | None = None
    ) -> Run:
        """Cancels a run. With `wait`, returns when it has ended. Does nothing if it has ended already."""
        request = self._caller.request(runs_pb2.CancelRunRequest, run_id=run_id, mode=mode, wait=wait)
        run: Run = decode((await self._caller.repeated(self._stub.CancelRun, request, timeout)).run)
        return run

    async def delete(self, run_id: str, *, timeout: float | None = None) -> None:
        """Deletes a run that has ended, and its log. Its checkpoints are kept."""
        await self._caller.once(self._stub.DeleteRun, self._caller.request(runs_pb2.DeleteRunRequest, run_id=run_id), timeout)
