"""A graph built in code, whose nodes are functions of a worker: it becomes a graph document."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .handlers import HandlerSpec, Kind, handler
from .outcome import END, START


class Graph:
    """`Graph("orders", state={"order": {}}).node(lookup).edge(START, "lookup")`. Channels, options and edges are those of documents."""

    def __init__(self, name: str, *, state: dict[str, Any], description: str = "", **fields: Any) -> None:
        """`state`: channels by name, each `{reducer, schema, default}`. `fields`: others of a document, such as `input` or `context`."""
        self.name = name
        self._document = {"runloom": "v1", "name": name, "description": description, "state": state, **fields}
        self._nodes: dict[str, dict[str, Any]] = {}
        self._tools: dict[str, dict[str, Any]] = {}
        self._edges: list[dict[str, Any]] = []
        self._functions: list[tuple[Kind, HandlerSpec]] = []

    def node(self, action: str | Callable[..., Any], *, name: str | None = None, do: dict[str, Any] | None = None, **options: Any) -> Graph:
        """A node: a function of this worker, the name of a handler, or with `do` an action of documents. `options`: `retry` and others."""
        name, worker = self._handler("node", action, name)
        self._nodes[name] = {**(do or {"worker": worker}), **options}
        return self

    def tool(self, function: Callable[..., Any], *, name: str | None = None, **given: Any) -> Graph:
        """A tool: a function of this worker."""
        name, worker = self._handler("tool", function, name, given)
        spec = self._functions[-1][1]
        self._tools[name] = {"description": spec.description, "parameters": spec.input_schema, "worker": worker}
        return self

    def edge(self, source: str | Iterable[str], target: str | Iterable[str]) -> Graph:
        """An edge. From several nodes: when all have run. To several: to each."""
        self._edges.append({"from": ends(source), "to": ends(target)})
        return self

    def route(self, source: str, route: str | Callable[..., Any], to: Iterable[str]) -> Graph:
        """A conditional edge, by an expression of documents or a function of this worker. `to`: all possible targets."""
        decided: Any = route
        if callable(route):
            _, worker = self._handler("route", route, None)
            decided = {"worker": worker}
        self._edges.append({"from": ends(source), "route": decided, "to": ends(list(to))})
        return self

    def _handler(self, kind: Kind, action: Any, name: str | None, given: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        if callable(action):
            spec = handler(action, kind, name, given or {})
            self._functions.append((kind, spec))
            return spec.name, {"queue": None, "handler": spec.name}
        return name or action, {"queue": None, "handler": action}

    def functions(self, queue: str) -> list[tuple[Kind, HandlerSpec]]:
        """The functions of this graph."""
        return self._functions

    def document(self, queue: str) -> dict[str, Any]:
        """The document, for workers of a queue."""
        made: dict[str, Any] = with_queue(self._document, queue)
        made["nodes"] = with_queue(self._nodes, queue)
        made["edges"] = with_queue(self._edges, queue)
        if self._tools:
            made["tools"] = {**made.get("tools", {}), **with_queue(self._tools, queue)}
        return made


def ends(of: str | Iterable[str]) -> Any:
    """Names of nodes as documents have them."""
    names = {START: "START", END: "END"}
    return names.get(of, of) if isinstance(of, str) else [names.get(one, one) for one in of]


def with_queue(value: Any, queue: str) -> Any:
    """The same, with the queue where it is open."""
    if isinstance(value, dict):
        return {k: queue if k == "queue" and v is None else with_queue(v, queue) for k, v in value.items()}
    return [with_queue(v, queue) for v in value] if isinstance(value, list) else value
