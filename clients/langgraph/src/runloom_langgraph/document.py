"""A compiled StateGraph as a graph document whose nodes are in this worker."""
from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from langgraph.channels import BinaryOperatorAggregate, EphemeralValue, LastValue, UntrackedValue
from langgraph.constants import END, START
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.types import RetryPolicy, default_cache_key

NAMES = {START: "START", END: "END"}


class Unsupported(Exception):
    """A graph, or a part of it, that cannot be served. The message names it and the reason."""


class Document:
    """The document of a graph, and those of its subgraphs."""

    def __init__(self, name: str, graph: Any, queue: str, *, hidden: bool = False) -> None:
        if not isinstance(graph, CompiledStateGraph):
            what = "a graph of the functional API (@entrypoint)" if isinstance(graph, Pregel) else f"a {type(graph).__name__}"
            raise Unsupported(f"graph {name!r} is {what}: only a compiled StateGraph can be served")
        if not re.fullmatch(r"[a-z0-9_-]+", name):
            raise Unsupported(f"graph {name!r}: the name of a graph has lower-case letters, digits, `_` and `-`")
        self.name, self.graph, self.queue, self.hidden = name, graph, queue, hidden
        self.subgraphs: dict[str, Document] = {}
        self.routes: dict[str, Any] = {}
        builder = graph.builder
        self.order = list(builder.nodes)
        document: dict[str, Any] = {"runloom": "v1", "name": name}
        document["state"] = {key: self._channel(key, channel) for key, channel in builder.channels.items()}
        self._ends("input", builder.input_schema, document)
        self._ends("output", builder.output_schema, document)
        handlers = {spec.error_handler_node for spec in builder.nodes.values() if spec.error_handler_node}
        document["nodes"] = {key: self._node(key, spec) for key, spec in builder.nodes.items() if key not in handlers}
        document["edges"] = self._edges(handlers)
        for key, nodes in (("interrupt_before", graph.interrupt_before_nodes), ("interrupt_after", graph.interrupt_after_nodes)):
            if nodes:
                document[key] = nodes if isinstance(nodes, str) else list(nodes)
        if hidden:
            document["hidden"] = True
        self.document = document

    def all(self) -> list[Document]:
        """This document and those of its subgraphs, inner ones first."""
        return [one for inner in self.subgraphs.values() for one in inner.all()] + [self]

    def handler(self, node: str) -> str:
        """The name of a node's handler."""
        return f"{self.name}/{node}"

    def _worker(self, handler: str) -> dict[str, Any]:
        return {"worker": {"queue": self.queue, "handler": handler}}

    def _ends(self, key: str, schema: Any, document: dict[str, Any]) -> None:
        builder = self.graph.builder
        named = [k for k in builder.schemas[schema] if k in builder.channels]
        if set(named) != set(builder.channels):
            document[key] = named

    def _channel(self, key: str, channel: Any) -> dict[str, Any]:
        where = f"graph {self.name!r}, channel {key!r}"
        if key == "__root__":
            raise Unsupported(f"graph {self.name!r}: its state is one value; give the state fields (a TypedDict, dataclass or model)")
        if isinstance(channel, BinaryOperatorAggregate):
            return self._reducer(key, channel)
        if type(channel) is LastValue:
            return {}
        if type(channel) is EphemeralValue:
            return {"reducer": "ephemeral"}
        if type(channel) is UntrackedValue:
            return {"reducer": "untracked"}
        raise Unsupported(f"{where}: the channel class {type(channel).__name__} cannot be served")

    def _reducer(self, key: str, channel: Any) -> dict[str, Any]:
        function, initial = channel.operator, getattr(channel, "value", None)
        if function is add_messages:
            return {"reducer": "messages"}
        if function is operator.add and isinstance(initial, list):
            return {"reducer": "append"}
        if function is operator.add and type(initial) in (int, float):
            return {"reducer": "add"}
        if function is operator.or_ and type(initial) is dict:
            return {"reducer": "merge"}
        known = getattr(function, "__name__", repr(function))
        raise Unsupported(
            f"graph {self.name!r}, channel {key!r}: the reducer {known!r} runs where writes are combined, in the server, which has "
            "operator.add on lists and numbers, operator.or_ on dicts, and add_messages"
        )

    def _node(self, key: str, spec: Any) -> dict[str, Any]:
        where = f"graph {self.name!r}, node {key!r}"
        inner = spec.runnable
        if isinstance(inner, Pregel):
            node = self._subgraph(key, inner, where)
        else:
            node = self._worker(self.handler(key))
        node.update(self._options(key, spec, where))
        if spec.error_handler_node:
            handler = self.graph.builder.nodes[spec.error_handler_node]
            options = self._options(spec.error_handler_node, handler, where)
            node["on_error"] = {**self._worker(self.handler(spec.error_handler_node)), **options}
        return node

    def _subgraph(self, key: str, inner: Any, where: str) -> dict[str, Any]:
        checkpointer = inner.checkpointer
        if checkpointer not in (None, True, False):
            raise Unsupported(f"{where}: a subgraph with a checkpointer of its own cannot be served; compile it without one")
        name = f"{self.name}--{re.sub('[^a-z0-9_-]', '-', key.lower())}"
        document = Document(name, inner, self.queue, hidden=True)
        self.subgraphs[key] = document
        if checkpointer is None:
            return {"subgraph": name}
        return {"subgraph": {"graph": name, "checkpointer": checkpointer}}

    def _options(self, key: str, spec: Any, where: str) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if spec.metadata:
            options["metadata"] = spec.metadata
        policies = policies_of(spec.retry_policy or self.graph.retry_policy)
        if policies:
            options["retry"] = retry(policies)
        if spec.cache_policy is not None:
            if spec.cache_policy.key_func is not default_cache_key:
                raise Unsupported(f"{where}: a cache policy with a key_func of its own cannot be served")
            options["cache"] = {"ttl_s": spec.cache_policy.ttl} if spec.cache_policy.ttl else True
        if spec.timeout is not None:
            options.update(timeouts(spec.timeout))
        if spec.defer:
            options["defer"] = True
        return options

    def _edges(self, handlers: set[str]) -> list[dict[str, Any]]:
        builder = self.graph.builder
        place = {name: n for n, name in enumerate([START, *self.order, END])}
        edges: list[dict[str, Any]] = []
        for source, target in sorted(builder.edges, key=lambda edge: (place[edge[0]], place[edge[1]])):
            if source not in handlers:
                edges.append({"from": NAMES.get(source, source), "to": NAMES.get(target, target)})
        for sources, target in sorted(builder.waiting_edges, key=lambda edge: place[edge[1]]):
            edges.append({"from": list(sources), "to": NAMES.get(target, target)})
        for source, branches in builder.branches.items():
            if source == START or source in self.subgraphs:
                edges.extend(self._route(source, name, branch) for name, branch in branches.items())
        return edges

    def _route(self, source: str, name: str, branch: Any) -> dict[str, Any]:
        """A conditional edge that does not follow a node of this worker: a route of the worker."""
        handler = f"{self.name}/{source}/{name}"
        self.routes[handler] = (source, name, branch)
        targets = list(branch.ends.values()) if branch.ends is not None else [*self.order, END]
        to = list(dict.fromkeys(NAMES.get(target, target) for target in targets))
        return {"from": NAMES.get(source, source), "route": self._worker(handler), "to": to, "name": name}


def policies_of(policy: Any) -> list[RetryPolicy]:
    """The retry policies of a node."""
    if policy is None:
        return []
    return list(policy) if isinstance(policy, Sequence) and not isinstance(policy, RetryPolicy) else [policy]


def retry(policies: list[RetryPolicy]) -> dict[str, Any]:
    """A retry policy as documents have it. Which failures are tried again is decided here, for each of them."""
    first = policies[0]
    return {
        "max_attempts": max(policy.max_attempts for policy in policies),
        "initial_ms": round(first.initial_interval * 1000),
        "backoff": first.backoff_factor,
        "max_ms": round(first.max_interval * 1000),
        "jitter": first.jitter,
    }


def timeouts(policy: Any) -> dict[str, Any]:
    """A timeout policy as documents have it."""
    made: dict[str, Any] = {}
    for key, value in (("timeout_ms", policy.run_timeout), ("idle_timeout_ms", policy.idle_timeout)):
        if value is not None:
            seconds = value.total_seconds() if isinstance(value, timedelta) else value
            made[key] = max(1, round(seconds * 1000))
    if policy.idle_timeout is not None and policy.refresh_on == "heartbeat":
        made["refresh_on"] = "heartbeat"
    return made
