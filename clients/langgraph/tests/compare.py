"""The same conversation on LangGraph itself and on Runloom, as parts that can be compared."""
import json
import re
import uuid

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Interrupt
from runloom import Checkpoint, Custom, MessageChunk, Task, Update, Value

from runloom_langgraph.values import readable

MODES = ["values", "updates", "messages", "custom", "tasks", "checkpoints"]
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")


def plain(value):
    """A value of LangGraph as JSON."""
    if isinstance(value, Interrupt):
        return {"value": plain(value.value), "id": value.id}
    if isinstance(value, BaseMessage):
        return message(json.loads(value.model_dump_json()))
    if isinstance(value, dict):
        return plain_message({str(k): plain(v) for k, v in value.items()})
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return readable(value)


def plain_message(value):
    return message(value) if value.get("type") in ("ai", "human", "tool") and "content" in value else value


def message(value):
    """What is compared of a message: fields that LangGraph leaves empty are left out."""
    if value.get("role") == "user":
        value = {**value, "type": "human"}
    keep = ("type", "content", "id", "name", "tool_calls", "tool_call_id", "status", "artifact")
    return {k: value[k] for k in keep if value.get(k) not in (None, [], "")}


def without_empty(parts):
    """LangChain ends a message with an empty piece that has an id of its own; here it has that of the message."""
    return [p for p in parts if p[0] != "messages" or p[2]["text"] or p[2]["calls"]]


def named(parts):
    """The same with ids by the order of their first appearance."""
    known = {}
    text = UUID.sub(lambda m: known.setdefault(m.group(), f"<{len(known)}>"), json.dumps(parts))
    return json.loads(text)


async def on_langgraph(scenario):
    """The parts by mode, the state and the history, for each input."""
    graph = scenario.graph
    graph.checkpointer, graph.store = InMemorySaver(), InMemoryStore()
    config = {"configurable": {"thread_id": str(uuid.uuid4())}}
    found = []
    for given in scenario.inputs:
        parts = []
        # The output channels, as LangGraph Server streams them.
        keys = graph.output_channels
        stream = graph.astream(given, config, stream_mode=MODES, subgraphs=True, context=scenario.context, output_keys=keys)
        async for namespace, mode, payload in stream:
            parts.append((mode, list(namespace), from_langgraph(mode, payload)))
        found.append(without_empty(parts))
    state = await graph.aget_state(config)
    history = [s async for s in graph.aget_state_history(config)]
    return found, snapshot(state), [snapshot(s) for s in history]


def snapshot(state):
    tasks = [{"name": t.name, "interrupts": [plain(i.value) for i in t.interrupts]} for t in state.tasks]
    return {
        "values": plain(state.values),
        "next": list(state.next),
        "source": state.metadata["source"],
        "step": state.metadata["step"],
        "tasks": tasks,
    }


def from_langgraph(mode, payload):
    if mode == "messages":
        chunk, metadata = payload
        role = {"AIMessageChunk": "ai"}.get(chunk.type, chunk.type)
        calls = [dict(c) for c in getattr(chunk, "tool_call_chunks", ())]
        calls = calls or [{"name": c["name"], "args": json.dumps(c["args"]), "id": c["id"]} for c in getattr(chunk, "tool_calls", ())]
        calls = [{k: c[k] or "" for k in ("id", "name", "args")} for c in calls]
        return {"role": role, "id": chunk.id, "text": chunk.text, "calls": calls, "node": metadata["langgraph_node"]}
    if mode == "values":
        return interrupts_of(plain(payload))
    if mode == "updates":
        return interrupts_of(plain(payload))
    if mode == "tasks":
        payload = plain(payload)
        if "input" in payload:
            made = {k: payload[k] for k in ("id", "name", "input", "triggers")}
            if isinstance(made["input"], dict):
                # Managed values are the worker's: the server does not show them.
                made["input"] = {k: v for k, v in made["input"].items() if k not in ("remaining_steps", "left")}
            return made
        made = {"id": payload["id"], "name": payload["name"], "result": payload["result"] or None}
        return {**made, "error": bool(payload["error"]), "interrupts": [i["value"] for i in payload["interrupts"]]}
    if mode == "checkpoints":
        return {
            "values": plain(payload["values"]),
            "next": list(payload["next"]),
            "source": payload["metadata"]["source"],
            "step": payload["metadata"]["step"],
            "tasks": [t["name"] for t in payload["tasks"]],
        }
    return plain(payload)


def interrupts_of(payload):
    if isinstance(payload, dict) and "__interrupt__" in payload:
        return {**payload, "__interrupt__": [i["value"] for i in payload["__interrupt__"]]}
    return payload


async def on_runloom(client, name, scenario):
    """The same on a server."""
    thread = (await client.threads.create()).thread_id
    found = []
    for given in scenario.inputs:
        how = {"command": {"resume": given.resume}} if isinstance(given, Command) else {"input": readable(given)}
        parts = []
        stream = client.runs.stream(
            name, **how, thread_id=thread, stream_modes=MODES, stream_subgraphs=True, context=scenario.context, timeout=60
        )
        async for part in stream:
            parts.extend(from_runloom(part))
        found.append(without_empty(whole(parts)))
    state = (await client.threads.state(thread)).checkpoint
    history = [c async for c in client.threads.history(thread, page_size=100)]
    return found, of_checkpoint(state), [of_checkpoint(c) for c in history]


def whole(parts):
    """The author and the node of a message are sent with its first piece."""
    first = {}
    for _, _, piece in (p for p in parts if p[0] == "messages"):
        known = first.setdefault(piece["id"], piece)
        piece["role"], piece["node"] = known["role"], known["node"]
    return parts


def of_checkpoint(state):
    tasks = [{"name": t.node, "interrupts": [i.value for i in t.interrupts]} for t in state.tasks]
    return {"values": plain(state.values), "next": state.next, "source": state.source, "step": state.step, "tasks": tasks}


def from_runloom(part):
    namespace = part.namespace
    match part.payload:
        case Value(state=state, interrupts=interrupts):
            asked = {"__interrupt__": [i.value for i in interrupts]} if interrupts else {}
            yield "values", namespace, {**plain(state or {}), **asked}
        case Update(node="", interrupts=interrupts) | Update(interrupts=[_, *_] as interrupts):
            yield "updates", namespace, {"__interrupt__": [i.value for i in interrupts]}
        case Update(node=node, update=update, cached=cached):
            yield "updates", namespace, {node: plain(update), **({"__metadata__": {"cached": True}} if cached else {})}
        case MessageChunk() as chunk:
            calls = [{"id": c.id, "name": c.name, "args": c.args} for c in chunk.tool_call_chunks]
            made = {"role": chunk.role, "id": chunk.message_id, "text": chunk.text, "calls": calls, "node": chunk.node}
            yield "messages", namespace, made
        case Custom(payload=payload):
            yield "custom", namespace, plain(payload)
        case Task(phase="started") as task:
            yield "tasks", namespace, {"id": part.task_id, "name": task.node, "input": plain(task.input), "triggers": task.triggers}
        case Task() as task:
            asked = [i.value for i in task.interrupts]
            made = {"id": part.task_id, "name": task.node, "result": plain(task.result) or None}
            yield "tasks", namespace, {**made, "error": task.error is not None, "interrupts": asked}
        case Checkpoint() as state:
            made = of_checkpoint(state)
            yield "checkpoints", namespace, {**made, "tasks": [t["name"] for t in made["tasks"]]}
