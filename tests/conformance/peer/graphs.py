"""Builds LangGraph graphs from graph documents."""
from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.cache.memory import InMemoryCache
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, RetryPolicy

import channels
from expressions import given
from model import ScriptedModel
from nodes import gotos, node, sees, tool


class Scope:
    """What the nodes of one document may name."""

    def __init__(self, document: dict, build):
        self.channels = document.get("state") or {}
        self.models = {n: ScriptedModel(**m["scripted"]) for n, m in (document.get("models") or {}).items()}
        self.tools = {n: tool(n, t) for n, t in (document.get("tools") or {}).items()}
        self.subgraph = lambda written: build(written["graph"], checkpointer=True if written.get("checkpointer") else None)


def names(written: Any) -> list[str]:
    return written if isinstance(written, list) else [written]


def end(name: str) -> str:
    return {"START": START, "END": END}.get(name, name)


def route(written: dict):
    choose = given(written["route"])

    async def call(state, config: RunnableConfig) -> Any:
        to = gotos(choose(sees(state, config)))
        return to[0] if len(to) == 1 else to

    call.__name__ = written.get("name", "route")
    call.__annotations__ = {"config": RunnableConfig}
    return call


def policies(written: dict) -> dict:
    kw: dict[str, Any] = {"defer": written.get("defer", False), "metadata": written.get("metadata")}
    if (retry := written.get("retry")) is not None:
        known = {"initial_interval": retry.get("initial_ms", 500) / 1000, "backoff_factor": retry.get("backoff", 2),
                 "max_interval": retry.get("max_ms", 128_000) / 1000, "max_attempts": retry.get("max_attempts", 3), "jitter": retry.get("jitter", True)}
        kw["retry_policy"] = RetryPolicy(**known, retry_on=Exception)
    if written.get("timeout_ms"): kw["timeout"] = written["timeout_ms"] / 1000
    if "cache" in written: kw["cache_policy"] = CachePolicy(ttl=(written["cache"] or {}).get("ttl_s"))
    if "destinations" in written: kw["destinations"] = tuple(end(d) for d in written["destinations"])
    return kw


def build_all(documents: dict[str, dict]) -> dict[str, Any]:
    """Every graph of these documents, compiled; the hidden ones only where others use them."""
    def build(name: str, checkpointer=None) -> Any:
        document = documents[name]
        scope, state = Scope(document, build), document.get("state") or {}
        takes = {k: channels.state(f"{name}_{k}", state, document.get(k)) for k in ("input", "output")}
        settings = document.get("context", {}).get("schema", {}).get("properties", {})
        context = channels.state(f"{name}_context", {k: {"schema": v} for k, v in settings.items()}) if "context" in document else None
        graph = StateGraph(channels.state(f"{name}_state", state), context_schema=context, **{f"{k}_schema": v for k, v in takes.items()})
        for n, written in document["nodes"].items():
            graph.add_node(n, node(n, written, scope), **policies(written))
        for edge in document["edges"]:
            source, to = edge["from"], [end(t) for t in names(edge["to"])]
            if "route" in edge: graph.add_conditional_edges(end(names(source)[0]), route(edge), to)
            elif isinstance(source, list) and len(source) > 1:
                for t in to: graph.add_edge(source, t)
            else:
                for t in to: graph.add_edge(end(names(source)[0]), t)
        breakpoints = {k: document[k] for k in ("interrupt_before", "interrupt_after") if k in document}
        compiled = graph.compile(checkpointer=checkpointer, cache=InMemoryCache(), name=name, **breakpoints)
        channels.defaults(compiled, state)
        for n, written in document["nodes"].items():
            if written.get("tags"): compiled.nodes[n].tags = written["tags"]
        return compiled

    return {name: build(name) for name, document in documents.items() if not document.get("hidden")}
