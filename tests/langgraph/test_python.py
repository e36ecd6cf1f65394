"""Programs as users of LangGraph's Python client write them, against the example graphs, unmodified."""
import asyncio

from langgraph_sdk import get_client, get_sync_client

ASKED = {"messages": [{"role": "human", "content": "What's the weather in SF?"}]}
REPLY = "It is sunny in San Francisco, and 18 degrees. A light jacket will do."


def collect(url, **options):
    """All chunks of a run on a thread of its own."""

    async def program():
        client = get_client(url=url)
        thread = await client.threads.create()
        options.setdefault("assistant_id", "agent")
        options.setdefault("input", ASKED)
        return [chunk async for chunk in client.runs.stream(thread_id=thread["thread_id"], **options)]

    return asyncio.run(program())


def test_events_give_the_reply_token_by_token(url):
    chunks = collect(url, stream_mode="events")
    assert chunks[0].event == "metadata" and chunks[0].data["run_id"]
    assert chunks[-1].event == "end"
    events = [chunk.data for chunk in chunks if chunk.event == "events"]
    assert len(events) == len(chunks) - 2
    for event in events:
        assert {"event", "name", "run_id", "tags", "metadata", "data", "parent_ids"} <= set(event), event
    tokens = [event["data"]["chunk"]["content"] for event in events if event["event"] == "on_chat_model_stream"]
    assert "".join(tokens).endswith(REPLY)
    assert len([token for token in tokens if token]) > 10


def test_updates_are_one_per_node(url):
    chunks = collect(url, stream_mode="updates")
    assert [chunk.event for chunk in chunks] == ["metadata", "updates", "updates", "updates", "end"]
    assert [list(chunk.data) for chunk in chunks[1:-1]] == [["agent"], ["tools"], ["agent"]]
    assert chunks[1].data["agent"]["messages"][0]["tool_calls"][0]["name"] == "get_weather"
    assert chunks[3].data["agent"]["messages"][0]["content"] == REPLY


def test_progress_comes_between_updates(url):
    chunks = collect(url, stream_mode=["updates", "custom"])
    names = [chunk.event for chunk in chunks]
    assert names == ["metadata", "updates", "custom", "custom", "updates", "updates", "end"]
    assert "status" in chunks[2].data


def test_values_are_the_whole_state_after_each_step(url):
    chunks = collect(url, stream_mode="values")
    counts = [len(chunk.data["messages"]) for chunk in chunks if chunk.event == "values"]
    assert counts == [1, 2, 3, 4]
    assert [message["type"] for message in chunks[-2].data["messages"]] == ["human", "ai", "tool", "ai"]


def test_messages_grow(url):
    chunks = collect(url, stream_mode="messages")
    partial = [chunk.data[0] for chunk in chunks if chunk.event == "messages/partial"]
    last = partial[-1]["id"]
    said = [message["content"] for message in partial if message["id"] == last]
    assert said[-1] == REPLY
    assert all(after.startswith(before) for before, after in zip(said, said[1:]))
    assert any(chunk.event == "messages/metadata" for chunk in chunks)


def test_message_tuples_are_pieces(url):
    chunks = collect(url, stream_mode="messages-tuple")
    pieces = [chunk.data for chunk in chunks if chunk.event == "messages"]
    assert all(len(piece) == 2 for piece in pieces)
    assert "".join(piece["content"] for piece, meta in pieces if piece["type"] == "AIMessageChunk").endswith(REPLY)


def test_debug_tells_tasks_and_checkpoints(url):
    chunks = collect(url, stream_mode="debug")
    kinds = {chunk.data["type"] for chunk in chunks if chunk.event == "debug"}
    assert kinds == {"task", "task_result", "checkpoint"}


def test_the_client_without_async(url):
    client = get_sync_client(url=url)
    thread = client.threads.create()
    chunks = list(client.runs.stream(thread["thread_id"], "agent", input=ASKED, stream_mode="updates"))
    assert [chunk.event for chunk in chunks] == ["metadata", "updates", "updates", "updates", "end"]
    state = client.threads.get_state(thread["thread_id"])
    assert state["values"]["messages"][-1]["content"] == REPLY and state["next"] == []
    assert len(client.threads.get_history(thread["thread_id"])) == 5


def test_a_question_is_answered(url):
    client = get_sync_client(url=url)
    thread = client.threads.create()["thread_id"]
    asked = client.runs.wait(thread, "approval", input={"topic": "tea"})
    assert asked["__interrupt__"][0]["value"]["question"] == "Publish this?"
    assert client.threads.get(thread)["status"] == "interrupted"
    done = client.runs.wait(thread, "approval", command={"resume": {"approved": True}})
    assert done["status"] == "published"


def test_a_background_run_is_joined(url):
    client = get_sync_client(url=url)
    thread = client.threads.create()["thread_id"]
    run = client.runs.create(thread, "agent", input=ASKED, stream_mode=["updates"], stream_resumable=True)
    chunks = list(client.runs.join_stream(thread, run["run_id"], stream_mode=["updates"], last_event_id="-1"))
    assert [list(chunk.data) for chunk in chunks if chunk.event == "updates"] == [["agent"], ["tools"], ["agent"]]
    assert client.runs.get(thread, run["run_id"])["status"] == "success"


def test_the_newer_protocol(url):
    async def program():
        client = get_client(url=url)
        async with client.threads.stream(assistant_id="agent") as thread:
            await thread.run.start(input=ASKED)

            async def read(message):
                return await message.text

            # The iteration feeds the messages, so each is read beside it.
            texts = [asyncio.create_task(read(message)) async for message in thread.messages]
            assert [await text for text in texts][-1] == REPLY
            assert (await thread.output)["messages"][-1]["content"] == REPLY
        async with client.threads.stream(assistant_id="approval") as thread:
            await thread.run.start(input={"topic": "tea"})
            while not thread.interrupts:
                await asyncio.sleep(0.01)
            assert thread.interrupts[0]["value"]["question"] == "Publish this?"
            await thread.run.respond({"approved": True})
            assert (await thread.output)["status"] == "published"

    asyncio.run(asyncio.wait_for(program(), 60))
