"""Service Threads."""
from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

from ..codec import decode
from ..options import EventFilter, StateSuperstep
from ..types import Checkpoint, CheckpointRef, IfExists, State, StreamMode, Thread, ThreadStatus
from ..v1 import threads_pb2, threads_pb2_grpc
from .caller import Caller
from .stream import Position, RunStream

Names = list[str]
Supersteps = list[StateSuperstep]
Modes = list[StreamMode]


class Threads:
    """Threads and their state."""

    def __init__(self, caller: Caller) -> None:
        self._caller, self._stub = caller, threads_pb2_grpc.ThreadsStub(caller.channel)

    async def create(
        self,
        thread_id: str | None = None,
        *,
        metadata: dict[str, Any] | None = None,
        if_exists: IfExists | None = None,
        timeout: float | None = None,
    ) -> Thread:
        """Creates a thread. Without an id it gets a new one, and the call is safe to repeat."""
        if thread_id is None:
            thread_id, if_exists = str(uuid.uuid4()), "return"
        fields = {"thread_id": thread_id, "metadata": metadata, "if_exists": if_exists}
        request = self._caller.request(threads_pb2.CreateThreadRequest, **fields)
        call = self._caller.repeated if if_exists == "return" else self._caller.once
        thread: Thread = decode((await call(self._stub.CreateThread, request, timeout)).thread)
        return thread

    async def get(self, thread_id: str, *, include_values: bool = False, timeout: float | None = None) -> Thread:
        """Reads a thread, with its state if requested."""
        request = self._caller.request(threads_pb2.GetThreadRequest, thread_id=thread_id, include_values=include_values)
        thread: Thread = decode((await self._caller.repeated(self._stub.GetThread, request, timeout)).thread)
        return thread

    async def update(
        self, thread_id: str, *, metadata: dict[str, Any], update_mask: Names | None = None, timeout: float | None = None
    ) -> Thread:
        """Changes a thread's metadata: all of it, or the keys in `update_mask` (`metadata.KEY`)."""
        fields = {"thread": {"thread_id": thread_id, "metadata": metadata}, "update_mask": update_mask}
        request = self._caller.request(threads_pb2.UpdateThreadRequest, **fields)
        thread: Thread = decode((await self._caller.repeated(self._stub.UpdateThread, request, timeout)).thread)
        return thread

    async def delete(self, thread_id: str, *, timeout: float | None = None) -> None:
        """Deletes a thread with its runs and checkpoints. Runs that have not ended are cancelled."""
        request = self._caller.request(threads_pb2.DeleteThreadRequest, thread_id=thread_id)
        await self._caller.once(self._stub.DeleteThread, request, timeout)

    async def list(
        self,
        *,
        status: ThreadStatus | None = None,
        metadata_filter: dict[str, Any] | None = None,
        include_values: bool = False,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[Thread]:
        """Iterates over threads, newest first. The pages are read as they are needed."""
        fields = {
            "status": status,
            "metadata_filter": metadata_filter,
            "include_values": include_values,
            "page_size": page_size,
        }
        token = ""
        while True:
            request = self._caller.request(threads_pb2.ListThreadsRequest, **fields, page_token=token)
            page = await self._caller.repeated(self._stub.ListThreads, request, timeout)
            for thread in page.threads:
                yield decode(thread)
            token = page.next_page_token
            if not token:
                return

    async def copy(self, thread_id: str, *, new_thread_id: str | None = None, timeout: float | None = None) -> Thread:
        """Copies a thread: metadata and checkpoints, not runs."""
        request = self._caller.request(threads_pb2.CopyThreadRequest, thread_id=thread_id, new_thread_id=new_thread_id)
        thread: Thread = decode((await self._caller.once(self._stub.CopyThread, request, timeout)).thread)
        return thread

    async def state(
        self,
        thread_id: str,
        *,
        checkpoint_id: str | None = None,
        namespace: Names | None = None,
        include_subgraphs: bool = False,
        timeout: float | None = None,
    ) -> State:
        """Reads the state of a thread: the latest or another checkpoint, of the graph or of a subgraph."""
        fields = {
            "thread_id": thread_id,
            "checkpoint_id": checkpoint_id,
            "namespace": namespace,
            "include_subgraphs": include_subgraphs,
        }
        request = self._caller.request(threads_pb2.GetStateRequest, **fields)
        state: State = decode(await self._caller.repeated(self._stub.GetState, request, timeout))
        return state

    async def update_state(
        self,
        thread_id: str,
        values: Any = None,
        *,
        as_node: str | None = None,
        checkpoint_id: str | None = None,
        namespace: Names | None = None,
        expected_checkpoint_id: str | None = None,
        graph_name: str | None = None,
        supersteps: Supersteps | None = None,
        timeout: float | None = None,
    ) -> CheckpointRef:
        """Writes to the state of a thread in the name of a node, and creates a checkpoint; with `supersteps` one for each."""
        fields = {
            "thread_id": thread_id,
            "values": values,
            "as_node": as_node,
            "checkpoint_id": checkpoint_id,
            "namespace": namespace,
            "expected_checkpoint_id": expected_checkpoint_id,
            "graph_name": graph_name,
            "supersteps": supersteps,
        }
        request = self._caller.request(threads_pb2.UpdateStateRequest, **fields)
        checkpoint: CheckpointRef = decode((await self._caller.once(self._stub.UpdateState, request, timeout)).checkpoint)
        return checkpoint

    async def history(
        self,
        thread_id: str,
        *,
        namespace: Names | None = None,
        before_checkpoint_id: str | None = None,
        metadata_filter: dict[str, Any] | None = None,
        include_values: bool = True,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[Checkpoint]:
        """Iterates over the checkpoints of a thread, newest first. The pages are read as they are needed."""
        fields = {
            "thread_id": thread_id,
            "namespace": namespace,
            "before_checkpoint_id": before_checkpoint_id,
            "metadata_filter": metadata_filter,
            "include_values": include_values,
            "page_size": page_size,
        }
        token = ""
        while True:
            request = self._caller.request(threads_pb2.ListCheckpointsRequest, **fields, page_token=token)
            page = await self._caller.repeated(self._stub.ListCheckpoints, request, timeout)
            for checkpoint in page.checkpoints:
                yield decode(checkpoint)
            token = page.next_page_token
            if not token:
                return

    def stream(
        self,
        thread_id: str,
        cursor: str = "",
        *,
        stream_modes: Modes | None = None,
        event_filter: EventFilter | None = None,
        timeout: float | None = None,
    ) -> RunStream:
        """Streams all runs of a thread live, from now on or from a cursor. Ends only with an error."""
        fields = {"thread_id": thread_id, "stream_modes": stream_modes, "event_filter": event_filter}

        def open(position: Position) -> tuple[Any, Any]:
            request = self._caller.request(threads_pb2.StreamThreadRequest, **fields, cursor=position.cursor)
            return self._stub.StreamThread, request

        return RunStream(self._caller, open, position=Position("", cursor), one_run=False, timeout=timeout)
