"""Streams: typed payloads, and rejoining after a cut, a restart and a crash."""
import asyncio

import pytest
from cutter import Cutter

import runloom
from runloom import (
    Client,
    Custom,
    End,
    Event,
    MessageChunk,
    Metadata,
    Progress,
    Retry,
    SyncClient,
    Task,
    Text,
    Update,
    Value,
    errors,
)
from runloom.v1 import stream_pb2

ASKED = {"messages": [{"role": "user", "content": "What's the weather?"}]}
MODES = ["values", "updates", "messages", "custom", "tasks", "events"]
TALK = """
runloom: v1
name: talk
state: { messages: { reducer: messages }, log: { reducer: append } }
models: { bot: { scripted: { responses: [ { content: "one two three" } ] } } }
nodes:
  say: { chat_model: { model: bot } }
  note: { steps: [ { emit: '{"at": "note"}' }, { update: { log: '["noted"]' } } ] }
edges: [ { from: START, to: say }, { from: say, to: note } ]
"""
QUICK = Retry(initial_delay=0.001, max_delay=0.01, max_retries=2000)


def has_ended(message):
    return stream_pb2.StreamRunResponse.FromString(message).WhichOneof("payload") == "end"


def logged(parts):
    return [(p.seq, type(p.payload)) for p in parts if p.seq]


async def test_parts_are_dataclasses_with_native_json(client):
    text, updates = "", []
    async for part in client.runs.stream("agent", ASKED, stream_modes=["messages", "updates"]):
        match part.payload:
            case Metadata(graph_name="agent", state="running"):
                assert part.cursor and part.emit_time.tzinfo
            case MessageChunk(role=role, content=[Text(text=token)]) if role != "tool":
                text += token
            case Update(node=node, update=update):
                updates.append((node, update["messages"][0]["type"]))
            case End(state=state, error=error):
                assert (state, error) == ("succeeded", None)
    assert updates == [("agent", "ai"), ("tools", "tool"), ("agent", "ai")]
    assert "sunny" in text


async def test_values_and_tasks_and_events(client):
    stream = client.runs.stream("agent", ASKED, stream_modes=MODES)
    payloads = [p.payload async for p in stream]
    values = [p.state for p in payloads if isinstance(p, Value)]
    assert values[0]["messages"][0]["content"] == ASKED["messages"][0]["content"]
    assert [p.phase for p in payloads if isinstance(p, Task)][:2] == ["started", "finished"]
    tools = [p for p in payloads if isinstance(p, Event) and p.kind == "tool_end"]
    assert tools and tools[0].data.output is not None and tools[0].parent_ids
    assert stream.run_id and stream.cursor


async def test_a_run_that_fails_is_data(client):
    end = await client.runs.stream("fails", {"words": "no luck"}).end()
    assert end.state == "failed" and isinstance(end.error, errors.NodeFailed)
    with pytest.raises(errors.NodeFailed) as failure:
        end.raise_for_error()
    assert failure.value.metadata["node"]


# G9
def test_no_part_is_lost_or_doubled_wherever_the_connection_is_cut(server):
    with SyncClient(server.address) as direct:
        direct.graphs.register(TALK)
        whole = logged(direct.runs.stream("talk", ASKED, stream_modes=MODES))
    assert len(whole) > 20 and whole[-1][1] is End
    cuts = 0
    while True:
        with Cutter(server.address, cuts, has_ended) as cutter, SyncClient(cutter.address, retry=QUICK) as client:
            parts = logged(client.runs.stream("talk", ASKED, stream_modes=MODES, timeout=30))
        assert [kind for _, kind in parts] == [kind for _, kind in whole], f"cut after {cuts} messages"
        numbers = [seq for seq, _ in parts]
        assert numbers == list(range(1, len(numbers) + 1)), f"cut after {cuts} messages"
        if cutter.ended:
            break
        assert cutter.cut and cutter.connections > 1, f"after {cuts} messages: {cutter.connections} connections"
        cuts += 1
    assert cuts >= len(whole) - 1


# G9
async def test_the_async_stream_rejoins_as_well(server):
    for cuts in (0, 3, 9):
        with Cutter(server.address, cuts, has_ended) as cutter:
            async with Client(cutter.address, retry=QUICK) as client:
                parts = [p async for p in client.runs.stream("joke", {"topic": "cats"}, stream_modes=MODES, timeout=30)]
        numbers = [p.seq for p in parts if p.seq]
        assert numbers == list(range(1, len(numbers) + 1)) and isinstance(parts[-1].payload, End)
        assert cutter.cut and cutter.connections > 1


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_stream_survives_a_restart_of_the_server(own_server, how):
    async with Client(own_server.address, retry=Retry(initial_delay=0.05, max_delay=0.2, max_retries=400)) as client:
        parts, restarted = [], False
        async with client.runs.stream("slow", {"ms": 300}, stream_modes=["updates", "custom"]) as stream:
            async for part in stream:
                parts.append(part)
                if isinstance(part.payload, Custom) and not restarted:
                    restarted = True
                    await asyncio.to_thread(own_server.stop if how == "stop" else own_server.kill)
                    await asyncio.to_thread(own_server.start)
        assert isinstance(parts[-1].payload, End) and parts[-1].payload.state == "succeeded"
        numbers = [p.seq for p in parts if p.seq]
        assert numbers == sorted(set(numbers))
        assert {p.attempt for p in parts if p.seq} == {1, 2}


async def test_join_from_a_cursor_gives_the_rest(client):
    live = [p async for p in client.runs.stream("joke", {"topic": "cats"}, stream_modes=["messages", "updates"])]
    middle = live[len(live) // 2]
    rest = [p async for p in client.runs.join(middle.run_id, middle.cursor)]
    assert [p.seq for p in rest if p.seq] == [p.seq for p in live if p.seq > middle.seq]


async def test_errors_that_are_not_temporary_end_a_stream(client):
    with pytest.raises(errors.RunNotFound):
        await client.runs.join("01a1fd8a-13eb-7131-b87c-12b763e782c0").end()
    with pytest.raises(errors.GraphUnknown) as failure:
        await client.runs.stream("jok", {}).end()
    assert "joke" in failure.value.metadata["known"]
    with pytest.raises(errors.CursorInvalid):
        live = await client.runs.wait("joke", {"topic": "a"})
        await client.runs.join(live.run.run_id, "AAAA").end()


async def test_the_timeout_of_a_stream(client):
    with pytest.raises(errors.DeadlineExceeded):
        await client.runs.stream("endless", {}, timeout=0.5).end()


async def test_a_threads_stream(client):
    thread = await client.threads.create()
    async with client.threads.stream(thread.thread_id, stream_modes=["updates"]) as stream:
        assert isinstance((await anext(stream)).payload, Progress)
        for topic in ("cats", "dogs"):
            await client.runs.create("joke", {"topic": topic}, thread_id=thread.thread_id, stream_modes=["updates"])
        ends = 0
        async for part in stream:
            ends += isinstance(part.payload, End)
            if ends == 2:
                break


def test_an_unreachable_server_is_unavailable():
    with SyncClient("127.0.0.1:1", retry=Retry(max_retries=1, initial_delay=0.01)) as client:
        with pytest.raises(errors.Unavailable) as failure:
            client.runs.stream("joke", {}).end()
    assert failure.value.is_transient and failure.value.retry_after is None


def test_arguments_are_checked_at_the_call(sync_client):
    with pytest.raises(TypeError, match="unknown argument 'thread'"):
        sync_client.runs.stream("joke", {}, thread="x")
    with pytest.raises(ValueError, match="stream_modes: 'value' is not one of values"):
        sync_client.runs.stream("joke", {}, stream_modes=["value"])
    with pytest.raises(ValueError, match="name either a graph or an assistant_id"):
        sync_client.runs.stream(None, {})
    assert runloom.NULL is not None
