"""LangGraph's item store on that of the server."""
from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import Any

from langgraph.store.base import BaseStore, GetOp, Item, ListNamespacesOp, Op, PutOp, Result, SearchItem, SearchOp


class RunloomStore(BaseStore):
    """`get_store()` and `runtime.store` of a served graph. Items are found by namespace and fields, not by meaning."""

    supports_ttl = True

    def __init__(self, store: Any, sync_store: Any) -> None:
        """`store` and `sync_store`: `Client.store` and `SyncClient.store`."""
        self._store, self._sync_store = store, sync_store

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        return [self._one(op) for op in ops]

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        return list(await asyncio.gather(*(self._aone(op) for op in ops)))

    def _one(self, op: Op) -> Result:
        if isinstance(op, GetOp):
            return item(self._sync_store.get(op.namespace, op.key, keep_expire_time=not op.refresh_ttl))
        if isinstance(op, PutOp):
            if op.value is None:
                self._sync_store.delete(op.namespace, op.key)
            else:
                self._sync_store.put(op.namespace, op.key, op.value, ttl=ttl(op))
            return None
        if isinstance(op, SearchOp):
            found = self._sync_store.search(op.namespace_prefix, **search(op))
            return [found_item(one) for one in islice(found, op.offset, op.offset + op.limit)]
        prefix, suffix = matches(op)
        found = self._sync_store.namespaces(prefix, suffix=suffix, max_depth=op.max_depth or 0)
        return list(islice(found, op.offset, op.offset + op.limit))

    async def _aone(self, op: Op) -> Result:
        if isinstance(op, GetOp):
            return item(await self._store.get(op.namespace, op.key, keep_expire_time=not op.refresh_ttl))
        if isinstance(op, PutOp):
            if op.value is None:
                await self._store.delete(op.namespace, op.key)
            else:
                await self._store.put(op.namespace, op.key, op.value, ttl=ttl(op))
            return None
        if isinstance(op, SearchOp):
            found = self._store.search(op.namespace_prefix, **search(op))
            return [found_item(one) for one in await taken(found, op.offset, op.limit)]
        prefix, suffix = matches(op)
        found = self._store.namespaces(prefix, suffix=suffix, max_depth=op.max_depth or 0)
        return await taken(found, op.offset, op.limit)


async def taken(found: Any, offset: int, limit: int) -> list[Any]:
    """The items at these places of an iterator."""
    made: list[Any] = []
    async for one in found:
        made.append(one)
        if len(made) == offset + limit:
            break
    return made[offset:]


def ttl(op: PutOp) -> float | None:
    """In seconds: LangGraph has minutes."""
    return op.ttl * 60 if isinstance(op.ttl, (int, float)) else None


def search(op: SearchOp) -> dict[str, Any]:
    return {"filter": op.filter, "page_size": min(op.offset + op.limit, 1000), "keep_expire_time": not op.refresh_ttl}


def matches(op: ListNamespacesOp) -> tuple[tuple[str, ...], tuple[str, ...]]:
    conditions = {c.match_type: tuple(c.path) for c in op.match_conditions or ()}
    return conditions.get("prefix", ()), conditions.get("suffix", ())


def fields(found: Any) -> dict[str, Any]:
    made = {"namespace": tuple(found.namespace), "key": found.key, "value": found.value}
    return {**made, "created_at": found.create_time, "updated_at": found.update_time}


def item(found: Any) -> Item | None:
    return None if found is None else Item(**fields(found))


def found_item(found: Any) -> SearchItem:
    return SearchItem(**fields(found))
