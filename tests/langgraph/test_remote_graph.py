"""`RemoteGraph` of LangGraph for Python: a graph of the server used as if it were local, alone and as a node of a local graph."""
import asyncio, operator, uuid
from typing import Annotated, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.pregel.remote import RemoteException, RemoteGraph
from langgraph.types import Command
from langgraph_sdk import get_client

SHOWN = "It is sunny in San Francisco, and 18 degrees. A light jacket will do."
WEATHER = {"messages": [{"role": "human", "content": "What's the weather in SF?"}]}
HELP = {"messages": [{"role": "human", "content": "Which form do I need?"}]}
FORM = "Form seven is what you need."
LETTER = "Dear neighbour, your music is too loud."


def remote(name, url, **options):
    return RemoteGraph(name, url=url, **options)


def thread():
    return {"configurable": {"thread_id": str(uuid.uuid4())}}


def contents(state):
    return [message["content"] if isinstance(message, dict) else message.content for message in state["messages"]]


def test_it_is_drawn(url):
    drawn = remote("agent", url).get_graph()
    assert set(drawn.nodes) == {"__start__", "agent", "tools", "__end__"}
    assert {(edge.source, edge.target, edge.conditional) for edge in drawn.edges} >= {("agent", "tools", True), ("tools", "agent", False)}
    assert "agent" in asyncio.run(remote("agent", url).aget_graph()).nodes


def test_it_is_invoked_and_streamed(url):
    graph = remote("agent", url)
    assert contents(graph.invoke(WEATHER))[-1] == SHOWN
    updates = list(graph.stream(WEATHER, stream_mode="updates"))
    assert [list(update) for update in updates] == [["agent"], ["tools"], ["agent"]]
    modes = {}
    for part in graph.stream(WEATHER, stream_mode=["values", "custom", "messages"]):
        modes.setdefault(part.event, []).append(part.data)
    assert [part["progress"] for part in modes["custom"]] == [0.1, 0.9]
    assert contents(modes["values"][-1])[-1] == SHOWN
    assert "".join(piece["content"] for piece, _ in modes["messages"] if piece["type"] == "AIMessageChunk").endswith(SHOWN)

    async def program():
        assert contents(await graph.ainvoke(WEATHER))[-1] == SHOWN
        return [list(update) async for update in graph.astream(WEATHER, stream_mode="updates")]

    assert asyncio.run(program()) == [["agent"], ["tools"], ["agent"]]


def test_states_are_read_and_updated(url):
    graph, config = remote("agent", url), thread()
    graph.invoke(WEATHER, config)
    state = graph.get_state(config)
    assert contents(state.values)[-1] == SHOWN and state.next == () and state.metadata["step"] == 3
    history = list(graph.get_state_history(config))
    assert [len(past.values.get("messages", [])) for past in history] == [4, 3, 2, 1, 0]
    assert list(graph.get_state_history(config, limit=2)) == history[:2]
    assert history[1].next == ("agent",) and graph.get_state(history[1].config) == history[1]
    # From a checkpoint in the middle.
    again = graph.invoke(None, history[1].config)
    assert contents(again)[-1] == SHOWN and len(again["messages"]) == 4
    changed = graph.update_state(config, {"messages": [{"role": "ai", "content": "By hand."}]}, as_node="agent")
    assert contents(graph.get_state(config).values)[-1] == "By hand."
    assert graph.get_state(config).config["configurable"]["checkpoint_id"] == changed["configurable"]["checkpoint_id"]

    async def program():
        assert (await graph.aget_state(config)).values == graph.get_state(config).values
        assert len([past async for past in graph.aget_state_history(config)]) == len(list(graph.get_state_history(config)))
        await graph.aupdate_state(config, {"messages": [{"role": "ai", "content": "Once more."}]}, as_node="agent")
        assert contents((await graph.aget_state(config)).values)[-1] == "Once more."

    asyncio.run(program())


def test_a_question_is_answered_by_a_command(talks_url):
    graph, config = remote("desk", talks_url), thread()
    asked = graph.invoke(HELP, config)
    assert asked["__interrupt__"][0]["value"] == {"question": "Stamp it?"}
    state = graph.get_state(config, subgraphs=True)
    assert state.next == ("clerk",) and [i["value"] if isinstance(i, dict) else i.value for i in state.tasks[0].interrupts] == [{"question": "Stamp it?"}]
    assert state.tasks[0].state.next == ("ask",)
    done = graph.invoke(Command(resume="stamped"), config)
    assert done["stamp"] == "stamped" and done["notes"] == ["taken", "closed"]


def test_a_failure_is_raised(talks_url):
    with pytest.raises(RemoteException, match="the printer is on fire"):
        remote("broken", talks_url).invoke(HELP)


class Book(TypedDict):
    messages: Annotated[list, lambda old, new: (old or []) + [m for m in new if m not in (old or [])]]
    log: Annotated[list, operator.add]


def book(node, **options):
    """A local graph around a node."""
    builder = StateGraph(Book)
    builder.add_node("before", lambda _: {"log": ["before"]})
    builder.add_node("remote", node)
    builder.add_node("after", lambda state: {"log": [contents(state)[-1]]})
    builder.add_edge(START, "before").add_edge("before", "remote").add_edge("remote", "after").add_edge("after", END)
    return builder.compile(**options)


def test_it_is_a_node_of_a_local_graph(url):
    graph = book(remote("agent", url))
    assert graph.invoke({**WEATHER, "log": []})["log"] == ["before", SHOWN]
    parts = list(graph.stream({**WEATHER, "log": []}, stream_mode=["updates", "custom"], subgraphs=True))
    inner = [(mode, list(part)[0]) for namespace, mode, part in parts if namespace]
    assert [name for mode, name in inner if mode == "updates"] == ["agent", "tools", "agent"]
    assert len([name for mode, name in inner if mode == "custom"]) == 2
    assert [list(part)[0] for namespace, mode, part in parts if not namespace and mode == "updates"] == ["before", "remote", "after"]
    assert asyncio.run(graph.ainvoke({**WEATHER, "log": []}))["log"] == ["before", SHOWN]


def test_its_messages_are_those_of_the_local_graph(url):
    graph = book(remote("agent", url))
    parts = list(graph.stream({**WEATHER, "log": []}, stream_mode="messages", subgraphs=True))
    assert {namespace[0].split(":")[0] for namespace, _ in parts} == {"remote"}
    assert SHOWN in "".join(piece["content"] for _, (piece, _) in parts if piece["type"] == "AIMessageChunk")


def test_its_question_stops_the_local_graph(talks_url):
    """With a thread on each side: the local one has the question, the remote one waits for its answer."""
    graph, config = book(remote("letter", talks_url), checkpointer=InMemorySaver()), thread()
    asked = graph.invoke({**HELP, "log": []}, config)
    assert asked["__interrupt__"][0].value == {"question": "Send it?"}
    assert graph.get_state(config).next == ("remote",)


def test_events_of_version_3_without_async(url):
    with remote("agent", url).stream_events(WEATHER, version="v3") as run:
        items = list(run.interleave("values", "messages", "tool_calls", "updates"))
        assert contents(run.output)[-1] == SHOWN
    kinds = [kind for kind, _ in items]
    assert (kinds.count("messages"), kinds.count("tool_calls"), kinds.count("updates")) == (2, 1, 3)
    with remote("agent", url).stream_events(WEATHER, version="v3") as run:
        assert [list(update)[0] for update in run.extensions["updates"]] == ["agent", "tools", "agent"]
    with remote("agent", url).stream_events(WEATHER, version="v3") as run:
        assert [data["progress"] for data in run.extensions["custom"]] == [0.1, 0.9]
    for channel in ("tasks", "checkpoints"):
        with remote("agent", url).stream_events(WEATHER, version="v3") as run:
            assert len(list(run.extensions[channel])) >= 4, channel


def test_events_of_version_3(talks_url):
    async def program():
        graph = remote("letter", talks_url)
        async with await graph.astream_events(HELP, version="v3") as run:
            # It ends where the run stops.
            assert contents([state async for state in run.values][-1])[0] == "Which form do I need?"
            while not await run.interrupted():
                await asyncio.sleep(0.01)
            question, = await run.interrupts()
            assert question["value"] == {"question": "Send it?"}
            config = {"configurable": {"thread_id": run._sdk.thread_id}}
            # Its state is stored, and an input is an answer, once the run that asks has ended.
            while (await get_client(url=talks_url).threads.get(run._sdk.thread_id))["status"] != "interrupted":
                await asyncio.sleep(0.01)
            assert contents((await graph.aget_state(config)).values)[-1] == LETTER
        async with await graph.astream_events(Command(resume="yes"), config, version="v3") as run:
            async def done():
                while (state := await graph.aget_state(config)).next:
                    await asyncio.sleep(0.01)
                return state.values
            assert (await done())["verdict"] == "yes"

    asyncio.run(asyncio.wait_for(program(), 60))


def test_a_run_of_version_3_is_aborted(talks_url):
    async def program():
        graph = remote("story", talks_url)
        client = get_client(url=talks_url)
        async with await graph.astream_events(HELP, version="v3") as run:
            async for event in run:
                if event["method"] == "messages":
                    break
            await run.abort()
        made, = await client.runs.list(run._sdk.thread_id)
        await client.runs.join(run._sdk.thread_id, made["run_id"])
        assert (await client.runs.get(run._sdk.thread_id, made["run_id"]))["status"] == "interrupted"

    asyncio.run(asyncio.wait_for(program(), 60))
