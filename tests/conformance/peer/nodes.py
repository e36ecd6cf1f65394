"""The nodes of a document as functions: their steps in order, what they bind, what they come to."""
from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.callbacks import adispatch_custom_event
from langchain_core.messages import SystemMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import StructuredTool
from langgraph.config import get_stream_writer
from langgraph.graph import END
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, Send, interrupt
from pydantic import Field, create_model

from channels import TYPES
from expressions import given, given_fields, plain

POLICIES = {"retry", "timeout_ms", "cache", "defer", "tags", "metadata", "destinations"}


class Run:
    """One call of a node: what its expressions see, and what it has written so far."""

    def __init__(self, state: Any, config: RunnableConfig):
        self.state, self.config = state, config
        self.sees, self.update, self.commands = sees(state, config), None, []

    def write(self, update: dict) -> None:
        self.update = {**(self.update or {}), **update}

    def output(self) -> Any:
        if not self.commands: return self.update
        if self.update is None and len(self.commands) == 1: return self.commands[0]
        return ([self.update] if self.update is not None else []) + self.commands


def sees(state: Any, config: RunnableConfig) -> dict:
    runtime = config.get("configurable", {}).get("__pregel_runtime")  # there is none while a state is edited by hand
    is_seen = lambda k, v: isinstance(v, (str, int, float, bool)) and not k.startswith("__")
    scalars = {k: v for k, v in config.get("configurable", {}).items() if is_seen(k, v)}
    info = runtime and runtime.execution_info
    return {"state": plain(state), "context": plain(runtime.context if runtime and runtime.context else {}), "config": scalars, "attempt": info.node_attempt if info else 1}


def gotos(value: Any) -> list:
    """A name, a Send `{node, input}`, or a list of these."""
    if value is None: return []
    one = lambda v: Send(v["node"], v.get("input", {})) if isinstance(v, dict) else (END if v in ("END", END) else v)
    return [one(v) for v in value] if isinstance(value, list) else [one(value)]


def emit(written: Any, _: Any):
    parts = [given(w) for w in (written if isinstance(written, list) else [written])]

    async def step(run: Run) -> None:
        for part in parts: get_stream_writer()(part(run.sees))
    return step


def event(written: dict, _: Any):
    data = given(written.get("data"))

    async def step(run: Run) -> None:
        await adispatch_custom_event(written["name"], data(run.sees), config=run.config)
    return step


def update(written: dict, _: Any):
    fields = given_fields(written)

    async def step(run: Run) -> None:
        run.write(fields(run.sees))
    return step


def ask(written: dict, _: Any):
    value, name = given(written["value"]), written.get("as", "answer")

    async def step(run: Run) -> None:
        run.sees[name] = plain(interrupt(value(run.sees)))
    return step


def command(written: dict, _: Any):
    fields, goto = given_fields(written.get("update") or {}), given(written.get("goto"))

    async def step(run: Run) -> None:
        to = gotos(goto(run.sees))
        more = {"graph": Command.PARENT} if written.get("parent") else {}
        run.commands.append(Command(update=fields(run.sees) or None, goto=to[0] if len(to) == 1 else to, **more))
    return step


def chat_model(written: dict, scope: Any):
    prompt, name, channel = given(written.get("messages", "state.messages")), written.get("as", "reply"), written.get("write", "messages")
    told = written.get("system")
    system = given(told["expr"]) if isinstance(told, dict) else (lambda _: told)
    tools = [scope.tools[t] for t in written.get("tools") or []]
    reducer = (scope.channels.get(channel) or {}).get("reducer")
    model = scope.models[written["model"]]

    async def step(run: Run) -> None:
        first = [SystemMessage(system(run.sees))] if system(run.sees) else []
        more = {"tools": [{"name": t.name, "description": t.description} for t in tools]} if tools else {}
        config = {**run.config, "tags": [*(run.config.get("tags") or []), *written["tags"]]} if written.get("tags") else run.config
        reply = await model.ainvoke(first + prompt(run.sees), config, **more)
        if channel: run.write({channel: [reply] if reducer in ("messages", "append") else reply})
        run.sees[name] = plain(reply)
    return step


def tool(name: str, written: dict) -> StructuredTool:
    """A tool. What its arguments have to fit is made a model of pydantic's, as LangChain's tools have it."""
    parameters = written.get("parameters") or {}
    needed = parameters.get("required", [])
    fields = {}
    for arg, schema in (parameters.get("properties") or {}).items():
        typ = TYPES.get(schema.get("type"), Any)
        fields[arg] = (typ, ...) if arg in needed else (typ | None if typ is not Any else Any, Field(default=schema.get("default")))
    emits = [given(w) for w in (written.get("emit") or [])] if not isinstance(written.get("emit"), str) else [given(written["emit"])]
    fails, result = given(written.get("fail")), given(written.get("result"))

    async def call(**args: Any) -> Any:
        sees = {"args": {k: v for k, v in args.items() if k in needed or v is not None}}
        for part in emits: get_stream_writer()(part(sees))
        if fails(sees): raise ValueError(fails(sees))
        return result(sees)

    about = written.get("description") or name
    return StructuredTool.from_function(coroutine=call, name=name, description=about, args_schema=create_model(name, **fields))


def tools(written: dict | None, scope: Any):
    written = written or {}
    chosen = [t for name, t in scope.tools.items() if name in written.get("tools", scope.tools)]
    node = ToolNode(chosen, handle_tool_errors=written.get("handle_errors", True), messages_key=written.get("messages", "messages"))

    async def step(run: Run) -> None:
        run.write(await node.ainvoke(run.state, run.config))
    return step


def sleep_ms(written: Any, _: Any):
    ms = given(written)

    async def step(run: Run) -> None:
        await asyncio.sleep(max(ms(run.sees), 0) / 1000)
    return step


def fail(written: Any, _: Any):
    message = given(written)

    async def step(run: Run) -> None:
        if text := message(run.sees): raise ValueError(text)
    return step


def subgraph(written: Any, scope: Any):
    written = {"graph": written} if isinstance(written, str) else written
    graph = scope.subgraph(written)
    takes, gives = mapping(written.get("input")), mapping(written.get("output"))

    async def step(run: Run) -> None:
        state = takes(run.sees) if takes else run.state
        result = await graph.ainvoke(state, run.config)
        if gives: run.write(gives({**run.sees, "result": plain(result)}))
        else: run.write({k: v for k, v in (result or {}).items() if k in scope.channels})

    step.graph = graph
    return step


def mapping(written: Any):
    if written is None: return None
    return given_fields(written) if isinstance(written, dict) else given(written)


STEPS = {
    "update": update, "emit": emit, "event": event, "interrupt": ask, "command": command, "chat_model": chat_model, "tools": tools,
    "subgraph": subgraph, "sleep_ms": sleep_ms, "fail": fail,
}


def node(name: str, written: dict, scope: Any):
    """A node's function; a subgraph that shares channels by name and stands alone is the node itself, as in LangGraph's guides."""
    actions = written.get("steps") or [{k: v} for k, v in written.items() if k not in POLICIES]
    (first, what), = actions[0].items()
    if len(actions) == 1 and first == "subgraph" and (isinstance(what, str) or not what.keys() & {"input", "output"}):
        return scope.subgraph({"graph": what} if isinstance(what, str) else what)
    steps = [STEPS[action](what, scope) for a in actions for action, what in a.items()]
    inner = next((s.graph for s in steps if hasattr(s, "graph")), None)

    async def call(state, config: RunnableConfig) -> Any:
        inner  # named here, so that LangGraph finds the subgraph within the function
        run = Run(state, config)
        for step in steps: await step(run)
        return run.output()

    call.__name__ = name
    # LangGraph injects by annotation, and cannot read those of this module as texts.
    call.__annotations__ = {"config": RunnableConfig}
    return call
