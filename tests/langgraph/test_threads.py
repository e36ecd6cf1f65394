"""`client.threads.stream` of LangGraph's Python client, with async over SSE and WebSocket, and without: every projection and channel,
questions, failures, and a server that is killed meanwhile."""
import asyncio

import pytest
from langgraph_sdk import get_client, get_sync_client

ALL = ["values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom"]
SHOWN = "It is sunny in San Francisco, and 18 degrees. A light jacket will do."
WEATHER = {"messages": [{"role": "human", "content": "What's the weather in SF?"}]}
HELP = {"messages": [{"role": "human", "content": "Which form do I need?"}]}
FORM = "Form seven is what you need."
STORY = [
    "One morning a small boat left the harbour, with a cat at the helm and a map that nobody could read.",
    "By noon the wind had turned, and the cat steered by the gulls, by the smell of fish, and by a song that she made up on the way home.",
]
transports = pytest.mark.parametrize("transport", ["sse", "websocket"])


def played(program):
    """Runs a program to its end; one that waits for what never comes fails."""
    return asyncio.run(asyncio.wait_for(program, 60))


async def everything(projection):
    return [item async for item in projection]


async def beside(projection, read):
    """What each item of a projection gives. It is read beside the iteration, which feeds it."""
    return await asyncio.gather(*[asyncio.create_task(read(item)) async for item in projection])


async def texts(projection):
    async def read(message):
        return await message.text

    return await beside(projection, read)


async def calls(projection):
    async def read(call):
        return call.name, call.input, (await call.output)["content"]

    return await beside(projection, read)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


def is_end(event):
    return event["method"] == "lifecycle" and not event["params"]["namespace"] and event["params"]["data"]["event"] in ("completed", "failed")


@transports
def test_all_projections_of_a_run(url, transport):
    async def program():
        client = get_client(url=url)
        async with client.threads.stream(assistant_id="agent", transport=transport) as thread:
            async def progress():
                return [event["params"]["data"]["progress"] async for event in thread.subscribe(["custom"])]

            reading = [asyncio.create_task(r) for r in (everything(thread.values), texts(thread.messages), calls(thread.tool_calls), progress())]
            await thread.run.start(input=WEATHER)
            assert (await thread.output)["messages"][-1]["content"] == SHOWN
            states, said, called, percent = await asyncio.gather(*reading)
        assert [len(state.get("messages", [])) for state in states][-4:] == [1, 2, 3, 4]
        assert said == ["Let me look that up.", SHOWN]
        (name, given, output), = called
        assert name == "get_weather" and given == {"city": "San Francisco"} and "sunny" in output
        assert percent == [0.1, 0.9]

    played(program())


@transports
def test_every_channel_and_its_numbers(url, transport):
    async def program():
        client = get_client(url=url)
        async with client.threads.stream(assistant_id="agent", transport=transport) as thread:
            await thread.run.start(input=WEATHER)
            events = []
            async for event in thread.subscribe(ALL):
                events.append(event)
                if is_end(event):
                    break
        assert {event["method"] for event in events} == set(ALL) - {"input"}
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert len({event["event_id"] for event in events}) == len(events)
        nodes = [name for event in events if event["method"] == "updates" for name in event["params"]["data"]]
        assert nodes == ["agent", "tools", "agent"]
        # Another reader of the same thread gets the same, from any number on.
        async with client.threads.stream(thread.thread_id, assistant_id="agent", transport=transport) as later:
            again = []
            async for event in later.subscribe(ALL):
                again.append(event)
                if is_end(event):
                    break
        assert again == events

    played(program())


@transports
def test_a_subgraph_and_its_question(talks_url, transport):
    async def program():
        client = get_client(url=talks_url)
        async with client.threads.stream(assistant_id="desk", transport=transport) as thread:
            async def read(graph):
                return graph.path[0].split(":")[0], graph.graph_name, *await asyncio.gather(texts(graph.messages), calls(graph.tool_calls))

            async def progress():
                return [data["percent"] async for data in thread.extensions["progress"]]

            reading = [asyncio.create_task(beside(thread.subgraphs, read)), asyncio.create_task(progress())]
            await thread.run.start(input=HELP)
            await until(lambda: thread.interrupted)
            looked_up = ("look_up", {"number": 7}, '{"form": 7}')
            assert await reading[0] == [("clerk", "clerk", ["Let me see.", FORM], [looked_up])]
            assert await reading[1] == [10]
            question, = thread.interrupts
            assert question["value"] == {"question": "Stamp it?"} and question["namespace"][0].startswith("clerk:")
            await thread.run.respond("stamped")
            done = await thread.output
            assert done["stamp"] == "stamped" and done["notes"] == ["taken", "closed"]
            assert [message["content"] for message in done["messages"]][-1] == FORM
            assert thread.interrupts == [] and not thread.interrupted

    played(program())


@transports
def test_two_questions_are_answered_by_their_ids(url, transport):
    async def program():
        client = get_client(url=url)
        async with client.threads.stream(assistant_id="two_questions", transport=transport) as thread:
            await thread.run.start(input={})
            await until(lambda: len(thread.interrupts) == 2)
            ids = {question["value"]: question["interrupt_id"] for question in thread.interrupts}
            with pytest.raises(RuntimeError, match="ambiguous"):
                await thread.run.respond("which?")
            await thread.run.respond("A", interrupt_id=ids["a?"])
            state = await client.threads.get_state(thread.thread_id)
            while state["values"].get("a") != "A" and not (state["tasks"] and len(state["next"]) == 1):
                state = await client.threads.get_state(thread.thread_id)
        # A session of its own, as after a restart of the program.
        async with client.threads.stream(thread.thread_id, assistant_id="two_questions", transport=transport) as thread:
            await until(lambda: any(question["interrupt_id"] == ids["b?"] for question in thread.interrupts))
            await thread.run.respond("B", interrupt_id=ids["b?"])
            while (await client.threads.get_state(thread.thread_id))["values"].get("both") != ["A", "B"]:
                await asyncio.sleep(0.01)

    played(program())


@transports
def test_a_failure_is_an_error_of_the_output_and_of_its_messages(talks_url, transport):
    async def program():
        client = get_client(url=talks_url)
        async with client.threads.stream(assistant_id="broken", transport=transport) as thread:
            await thread.run.start(input=HELP)
            with pytest.raises(RuntimeError, match="the printer is on fire"):
                await thread.output
        assert (await client.threads.get(thread.thread_id))["status"] == "error"

    played(program())


@transports
def test_a_run_of_somebody_else_is_followed(talks_url, transport):
    async def program():
        client = get_client(url=talks_url)
        made = await client.threads.create()
        async with client.threads.stream(made["thread_id"], assistant_id="story", transport=transport) as thread:
            reading = asyncio.create_task(texts(thread.messages))
            # By the older API, and by another client.
            await get_client(url=talks_url).runs.create(made["thread_id"], "story", input=HELP, stream_mode=["values", "messages-tuple"])
            assert await reading == STORY
            assert [message["content"] for message in (await thread.output)["messages"]][1:] == STORY

    played(program())


@transports
def test_a_reader_outlives_a_crash_of_the_server(talks, talks_url, transport):
    async def program():
        client = get_client(url=talks_url)
        async with client.threads.stream(assistant_id="story", transport=transport) as thread:
            await thread.run.start(input=HELP)
            # All that the reader receives, by the number of the event.
            said, killed, seqs = {}, False, []
            async for event in thread.subscribe(["messages", "lifecycle"]):
                seqs.append(event["seq"])
                data = event["params"]["data"]
                if data["event"] == "message-start":
                    now = said[data["id"]] = []
                elif data["event"] == "content-block-delta":
                    now.append(data["delta"]["text"])
                if is_end(event):
                    break
                if not killed and len(said) == 2 and len(now) == 5:
                    killed = True
                    await asyncio.to_thread(talks.kill)
                    await asyncio.to_thread(talks.start)
            assert ["".join(pieces) for pieces in said.values()] == STORY
            assert seqs == sorted(set(seqs))
            assert [message["content"] for message in (await thread.output)["messages"]][1:] == STORY

    played(program())


def test_without_async(url):
    client = get_sync_client(url=url)
    with client.threads.stream(assistant_id="agent") as thread:
        thread.run.start(input=WEATHER)
        items = list(thread.interleave_projections(["values", "messages", "tool_calls", "updates"]))
        assert thread.output["messages"][-1]["content"] == SHOWN
    kinds = [kind for kind, _ in items]
    assert {kind: kinds.count(kind) for kind in ("messages", "tool_calls", "updates")} == {"messages": 2, "tool_calls": 1, "updates": 3}
    assert [str(message.text) for kind, message in items if kind == "messages"] == ["Let me look that up.", SHOWN]
    assert [call.name for kind, call in items if kind == "tool_calls"] == ["get_weather"]
    assert [value for kind, value in items if kind == "values"][-1]["messages"][-1]["content"] == SHOWN


def test_messages_and_tools_without_async(url):
    client = get_sync_client(url=url)
    with client.threads.stream(assistant_id="agent") as thread:
        thread.run.start(input=WEATHER)
        assert [str(message.text) for message in thread.messages] == ["Let me look that up.", SHOWN]
    with client.threads.stream(assistant_id="agent") as thread:
        thread.run.start(input=WEATHER)
        assert ["sunny" in call.output["content"] for call in thread.tool_calls] == [True]


def test_a_question_without_async(talks_url):
    client = get_sync_client(url=talks_url)
    with client.threads.stream(assistant_id="desk") as thread:
        thread.run.start(input=HELP)
        names = [graph.graph_name for graph in thread.subgraphs]
        assert names == ["clerk"]
        while not thread.interrupts:
            pass
        thread.run.respond("stamped")
        assert thread.output["stamp"] == "stamped"
