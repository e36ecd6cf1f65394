"""Services Graphs, Crons, Store and Workers."""
from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Literal

from typing_extensions import Unpack

from ..codec import decode
from ..options import Command, RunOptions, Seconds
from ..types import Cron, GraphInfo, Item, RegisteredGraph, WorkerInfo, WorkerQueue
from ..v1 import crons_pb2, crons_pb2_grpc, graphs_pb2, graphs_pb2_grpc, store_pb2, store_pb2_grpc, workers_pb2, workers_pb2_grpc
from .caller import Caller
from .runs import run_spec

Names = list[str]


class Graphs:
    """Graphs: what the server can run."""

    def __init__(self, caller: Caller) -> None:
        self._caller, self._stub = caller, graphs_pb2_grpc.GraphsStub(caller.channel)

    async def list(
        self, *, include_hidden: bool = False, page_size: int = 0, timeout: float | None = None
    ) -> AsyncIterator[GraphInfo]:
        """Iterates over graphs, by name."""
        token = ""
        while True:
            fields = {"include_hidden": include_hidden, "page_size": page_size, "page_token": token}
            request = self._caller.request(graphs_pb2.ListGraphsRequest, **fields)
            page = await self._caller.repeated(self._stub.ListGraphs, request, timeout)
            for graph in page.graphs:
                yield decode(graph)
            token = page.next_page_token
            if not token:
                return

    async def register(self, document: str, *, validate_only: bool = False, timeout: float | None = None) -> RegisteredGraph:
        """Registers a graph document in YAML or JSON, or a new revision of a registered one."""
        request = self._caller.request(graphs_pb2.RegisterGraphRequest, document=document, validate_only=validate_only)
        registered: RegisteredGraph = decode(await self._caller.repeated(self._stub.RegisterGraph, request, timeout))
        return registered

    async def delete(self, name: str, *, timeout: float | None = None) -> None:
        """Deletes a registered graph and its default assistant."""
        await self._caller.once(self._stub.DeleteGraph, self._caller.request(graphs_pb2.DeleteGraphRequest, name=name), timeout)


class Crons:
    """Crons: runs on a schedule."""

    def __init__(self, caller: Caller) -> None:
        self._caller, self._stub = caller, crons_pb2_grpc.CronsStub(caller.channel)

    async def create(
        self,
        schedule: str,
        graph: str | None = None,
        input: Any = None,
        *,
        command: Command | None = None,
        cron_id: str | None = None,
        time_zone: str | None = None,
        end_time: datetime | None = None,
        disabled: bool = False,
        on_run_completed: Literal["delete", "keep"] | None = None,
        cron_metadata: dict[str, Any] | None = None,
        timeout: float | None = None,
        **options: Unpack[RunOptions],
    ) -> Cron:
        """Creates a cron, which creates a run of the graph or assistant each time it is due."""
        run = run_spec(graph, input, command, options)
        run["request_id"] = options.get("request_id")
        cron = {
            "cron_id": cron_id or str(uuid.uuid4()),
            "schedule": schedule,
            "time_zone": time_zone,
            "end_time": end_time,
            "disabled": disabled,
            "on_run_completed": on_run_completed,
            "metadata": cron_metadata,
            "run": run,
        }
        request = self._caller.request(crons_pb2.CreateCronRequest, cron=cron)
        made: Cron = decode((await self._caller.repeated(self._stub.CreateCron, request, timeout)).cron)
        return made

    async def get(self, cron_id: str, *, timeout: float | None = None) -> Cron:
        """Reads a cron."""
        request = self._caller.request(crons_pb2.GetCronRequest, cron_id=cron_id)
        cron: Cron = decode((await self._caller.repeated(self._stub.GetCron, request, timeout)).cron)
        return cron

    async def update(
        self, cron_id: str, *, update_mask: Names | None = None, timeout: float | None = None, **fields: Any
    ) -> Cron:
        """Changes fields of a cron: `schedule`, `time_zone`, `end_time`, `disabled`, `on_run_completed`, `metadata`, `run`."""
        mask = update_mask or list(fields)
        cron = {"cron_id": cron_id, **fields}
        request = self._caller.request(crons_pb2.UpdateCronRequest, cron=cron, update_mask=mask)
        made: Cron = decode((await self._caller.repeated(self._stub.UpdateCron, request, timeout)).cron)
        return made

    async def delete(self, cron_id: str, *, timeout: float | None = None) -> None:
        """Deletes a cron. The runs that it created are kept."""
        request = self._caller.request(crons_pb2.DeleteCronRequest, cron_id=cron_id)
        await self._caller.once(self._stub.DeleteCron, request, timeout)

    async def list(
        self,
        *,
        assistant_id: str | None = None,
        thread_id: str | None = None,
        disabled: bool | None = None,
        metadata_filter: dict[str, Any] | None = None,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[Cron]:
        """Iterates over crons, newest first."""
        fields = {"assistant_id": assistant_id, "thread_id": thread_id, "disabled": disabled}
        fields |= {"metadata_filter": metadata_filter, "page_size": page_size}  # type: ignore[dict-item]
        token = ""
        while True:
            request = self._caller.request(crons_pb2.ListCronsRequest, **fields, page_token=token)
            page = await self._caller.repeated(self._stub.ListCrons, request, timeout)
            for cron in page.crons:
                yield decode(cron)
            token = page.next_page_token
            if not token:
                return


class Store:
    """The item store: what graphs and callers keep beside the threads."""

    def __init__(self, caller: Caller) -> None:
        self._caller, self._stub = caller, store_pb2_grpc.StoreStub(caller.channel)

    async def put(
        self,
        namespace: Sequence[str],
        key: str,
        value: dict[str, Any],
        *,
        ttl: Seconds | None = None,
        timeout: float | None = None,
    ) -> None:
        """Writes an item, and replaces an item with the same namespace and key. On disk when the call returns."""
        fields = {"namespace": namespace, "key": key, "value": value, "ttl": ttl}
        await self._caller.repeated(self._stub.PutItem, self._caller.request(store_pb2.PutItemRequest, **fields), timeout)

    async def get(
        self, namespace: Sequence[str], key: str, *, keep_expire_time: bool = False, timeout: float | None = None
    ) -> Item | None:
        """Reads an item. None if it does not exist or has expired."""
        fields = {"namespace": namespace, "key": key, "keep_expire_time": keep_expire_time}
        request = self._caller.request(store_pb2.GetItemRequest, **fields)
        response = await self._caller.repeated(self._stub.GetItem, request, timeout)
        return decode(response.item) if response.HasField("item") else None

    async def delete(self, namespace: Sequence[str], key: str, *, timeout: float | None = None) -> None:
        """Deletes an item. Does nothing if it does not exist."""
        request = self._caller.request(store_pb2.DeleteItemRequest, namespace=namespace, key=key)
        await self._caller.repeated(self._stub.DeleteItem, request, timeout)

    async def search(
        self,
        namespace_prefix: Sequence[str] = (),
        *,
        filter: dict[str, Any] | None = None,
        keep_expire_time: bool = False,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[Item]:
        """Iterates over items, grouped by namespace. The pages are read as they are needed."""
        fields = {"namespace_prefix": namespace_prefix, "filter": filter, "keep_expire_time": keep_expire_time}
        token = ""
        while True:
            request = self._caller.request(store_pb2.SearchItemsRequest, **fields, page_size=page_size, page_token=token)
            page = await self._caller.repeated(self._stub.SearchItems, request, timeout)
            for item in page.items:
                yield decode(item)
            token = page.next_page_token
            if not token:
                return

    async def namespaces(
        self,
        prefix: Sequence[str] = (),
        *,
        suffix: Sequence[str] = (),
        max_depth: int = 0,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[tuple[str, ...]]:
        """Iterates over the namespaces with items, sorted. `*` in the prefix and the suffix matches any name."""
        fields = {"prefix": prefix, "suffix": suffix, "max_depth": max_depth, "page_size": page_size}
        token = ""
        while True:
            request = self._caller.request(store_pb2.ListNamespacesRequest, **fields, page_token=token)
            page = await self._caller.repeated(self._stub.ListNamespaces, request, timeout)
            for namespace in page.namespaces:
                yield tuple(namespace.names)
            token = page.next_page_token
            if not token:
                return


class Workers:
    """The workers that are attached, and the queues of their tasks."""

    def __init__(self, caller: Caller) -> None:
        self._caller, self._stub = caller, workers_pb2_grpc.WorkersStub(caller.channel)

    async def list(
        self, *, queue: str | None = None, page_size: int = 0, timeout: float | None = None
    ) -> AsyncIterator[WorkerInfo]:
        """Iterates over the attached workers, by queue and id."""
        token = ""
        while True:
            request = self._caller.request(workers_pb2.ListWorkersRequest, queue=queue, page_size=page_size, page_token=token)
            page = await self._caller.repeated(self._stub.ListWorkers, request, timeout)
            for worker in page.workers:
                yield decode(worker)
            token = page.next_page_token
            if not token:
                return

    async def queues(self, *, queue: str | None = None, timeout: float | None = None) -> Sequence[WorkerQueue]:
        """Returns the queues, by name."""
        request = self._caller.request(workers_pb2.ListWorkersRequest, queue=queue, page_size=1)
        page = await self._caller.repeated(self._stub.ListWorkers, request, timeout)
        return [decode(queue) for queue in page.queues]

    async def get(self, worker_id: str, *, timeout: float | None = None) -> WorkerInfo:
        """Returns a worker with its tasks."""
        request = self._caller.request(workers_pb2.GetWorkerRequest, worker_id=worker_id)
        worker: WorkerInfo = decode((await self._caller.repeated(self._stub.GetWorker, request, timeout)).worker)
        return worker
