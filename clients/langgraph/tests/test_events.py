"""`astream_events` v2 of LangGraph against the events of Runloom: what starts, streams and ends, in its order and nesting."""
import uuid

import pytest
from compare import plain
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore
from runloom import Event
from scenarios import SCENARIOS
from test_parts import Serving

# Where the kinds of events are the same; the other scenarios have subgraphs or failures, whose events docs/differences.md names.
COMPARED = ["chatbot", "react_agent", "streaming_tool", "memory", "map_reduce", "deferred", "loop_with_route", "tool_message_and_state"]

# Tasks beside each other have no order.
PARALLEL = {"map_reduce", "deferred"}


async def on_langgraph(scenario):
    graph = scenario.graph
    graph.checkpointer, graph.store = InMemorySaver(), InMemoryStore()
    config = {"configurable": {"thread_id": str(uuid.uuid4())}}
    found = []
    async for event in graph.astream_events(scenario.inputs[0], config, version="v2", context=scenario.context):
        data = event["data"]
        chunk = data.get("chunk")
        text = chunk.text if event["event"] == "on_chat_model_stream" else ""
        found.append((event["event"], event["name"], text, event["run_id"], event["parent_ids"], data))
    return found


async def on_runloom(client, name, scenario):
    found = []
    stream = client.runs.stream(name, plain(scenario.inputs[0]), stream_modes=["events"], context=scenario.context, timeout=60)
    async for part in stream:
        if isinstance(part.payload, Event):
            event = part.payload
            chunk = event.data.message_chunk if event.data else None
            kind = "on_custom_event" if event.kind == "custom" else f"on_{event.kind}"
            found.append((kind, event.name, chunk.text if chunk else "", event.run_id, event.parent_ids, event.data))
    return found


def shape(events, graph):
    """Kind, name, text and parent of each event; the graph has another name here."""
    names = {run_id: name for _, name, _, run_id, _, _ in events}
    parents = {}
    for _, _, _, run_id, above, _ in events:
        parents.setdefault(run_id, names.get(above[-1], "?") if above else "")
    rename = {graph: "graph", "LangGraph": "graph"}
    return [
        (kind, rename.get(name, name), text, rename.get(parents[run_id], parents[run_id]))
        for kind, name, text, run_id, _, _ in events
        if not (kind == "on_chat_model_stream" and not text)
        # What the graph itself streams are the parts of the other modes.
        and not (kind == "on_chain_stream" and parents[run_id] == "")
    ]


@pytest.mark.parametrize("name", COMPARED)
async def test_events(server, client, name):
    scenario = SCENARIOS[name]()
    wanted = await on_langgraph(scenario)
    async with Serving(server.address, scenario.graph) as graph:
        got = await on_runloom(client, graph, scenario)
    order = sorted if name in PARALLEL else list
    assert order(shape(got, graph)) == order(shape(wanted, graph))
