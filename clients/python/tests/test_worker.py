"""Workers with a real server: every kind of handler and outcome, cancel, loss, drain, the cache of state."""
import asyncio
import os
import signal
import subprocess
import sys
import threading
import uuid

import pytest
from cutter import Cutter

from runloom import (
    START,
    Client,
    Command,
    Custom,
    Event,
    Graph,
    MessageChunk,
    Result,
    Retry,
    Send,
    TaskError,
    Update,
    Worker,
    errors,
)

QUICK = Retry(initial_delay=0.02, max_delay=0.2, max_retries=500)


class Serving:
    """A worker that serves while the block runs, with a queue of its own."""

    def __init__(self, address, graph=None, **options):
        self.queue = f"q-{uuid.uuid4()}"
        self.worker = Worker(address, queue=self.queue, retry=QUICK, **options)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.worker.serve())
        async with Client(self.worker.address) as client:
            while not [w async for w in client.workers.list(queue=self.queue)]:
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.02)
        return self.worker

    async def __aexit__(self, *_):
        self.worker.drain()
        await asyncio.wait_for(self.task, 30)


def one_node(node, state=None, **options):
    """A graph with one node, under a name of its own."""
    name = f"g-{uuid.uuid4()}"
    return Graph(name, state=state or {"n": {}, "log": {"reducer": "append"}}).node(node, name="work", **options).edge(START, "work")


async def run(server, graph, input, **options):
    serving = Serving(server.address)
    serving.worker.graph(graph)
    async with serving, Client(server.address) as client:
        return await client.runs.wait(graph.name, input, timeout=30, **options)


async def test_async_and_sync_nodes_and_commands(server):
    async def first(state, ctx):
        assert ctx.node == "first" and ctx.config["configurable"] == {"user": "ada"} and ctx.context == {"k": 1}
        return Command(update={"log": [f"first {state['n']}"]}, goto=[Send("each", {"x": x}) for x in (1, 2)])

    def each(given):
        assert threading.current_thread() is not threading.main_thread()
        return {"log": [f"each {given['x']}"]}

    graph = Graph(f"g-{uuid.uuid4()}", state={"n": {}, "log": {"reducer": "append"}}, context={"schema": {"type": "object"}})
    graph.node(first, destinations=["each"]).node(each).edge(START, "first")
    result = await run(server, graph, {"n": 5}, config={"configurable": {"user": "ada"}}, context={"k": 1})
    assert result.raise_for_error().values == {"n": 5, "log": ["first 5", "each 1", "each 2"]}


async def test_what_a_node_emits_is_in_the_stream(server):
    async def work(state, ctx):
        ctx.emit({"status": "looking"})
        ctx.event("found", {"n": 1})
        with ctx.message(model="Parrot") as message:
            message.text("one ")
            message.text("two")
        return {"messages": [message.as_message()]}

    graph = one_node(work, {"messages": {"reducer": "messages"}})
    serving = Serving(server.address)
    serving.worker.graph(graph)
    async with serving, Client(server.address) as client:
        modes = ["custom", "messages", "events", "updates"]
        payloads = [p.payload async for p in client.runs.stream(graph.name, {"messages": []}, stream_modes=modes)]
    assert [p.payload for p in payloads if isinstance(p, Custom)] == [{"status": "looking"}]
    assert [(p.name, p.data.custom) for p in payloads if isinstance(p, Event) and p.kind == "custom"] == [("found", {"n": 1})]
    chunks = [p for p in payloads if isinstance(p, MessageChunk)]
    assert "".join(c.text for c in chunks) == "one two" and chunks[0].role == "ai" and chunks[-1].last
    assert chunks[0].node == "work" and len({c.message_id for c in chunks}) == 1
    assert [p.update["messages"][0]["content"] for p in payloads if isinstance(p, Update)] == ["one two"]


@pytest.mark.parametrize("is_async", [True, False])
async def test_questions(server, is_async):
    calls = []

    def ask(state, ctx):
        calls.append(list(ctx.answers))
        first = ctx.interrupt({"question": "name?"})
        second = ctx.interrupt({"question": f"age of {first}?"})
        return {"log": [first, second]}

    async def ask_async(state, ctx):
        return ask(state, ctx)

    graph = one_node(ask_async if is_async else ask)
    serving = Serving(server.address)
    serving.worker.graph(graph)
    async with serving, Client(server.address) as client:
        thread = (await client.threads.create()).thread_id
        asked = await client.runs.wait(graph.name, {"n": 1}, thread_id=thread)
        assert [i.value for i in asked.interrupts] == [{"question": "name?"}]
        asked = await client.runs.wait(graph.name, command={"resume": "ada"}, thread_id=thread)
        assert [i.value for i in asked.interrupts] == [{"question": "age of ada?"}]
        done = await client.runs.wait(graph.name, command={"resume": 36}, thread_id=thread)
    assert done.raise_for_error().values["log"] == ["ada", 36] and calls == [[], ["ada"], ["ada", 36]]


async def test_failures_have_their_type_and_are_tried_again_as_they_say(server):
    tries = []

    async def work(state, ctx):
        tries.append(ctx.try_)
        if state["n"] == "value":
            raise ValueError("no luck")
        if state["n"] == "never":
            raise TaskError("not again", type="Permanent", retry=False)
        if len(tries) < 3:
            raise TaskError("again", retry=True, retry_delay=0.01)
        return {"log": ["went through"]}

    graph = one_node(work, retry={"max_attempts": 3, "initial_ms": 10})
    serving = Serving(server.address)
    serving.worker.graph(graph)
    async with serving, Client(server.address) as client:
        failed = await client.runs.wait(graph.name, {"n": "value"})
        assert failed.end.error.metadata["error_type"] == "ValueError" and "no luck" in failed.end.error.message
        tries.clear()
        failed = await client.runs.wait(graph.name, {"n": "never"})
        assert failed.end.error.metadata["error_type"] == "Permanent" and len(tries) == 1
        tries.clear()
        done = await client.runs.wait(graph.name, {"n": "again"})
        assert done.raise_for_error().values["log"] == ["went through"] and tries == [1, 2, 3]


async def test_tools(server):
    tool_graph = f"g-{uuid.uuid4()}"
    calls = [{"name": "add", "args": {"a": 1, "b": 2}, "id": "c1"}, {"name": "add", "args": {"a": "x", "b": 2}, "id": "c2"}]

    def add(a: int, b: int, ctx) -> Result:
        """Adds two numbers."""
        ctx.emit({"adding": [a, b], "call": ctx.tool_call_id})
        return Result(str(a + b), artifact={"sum": a + b})

    graph = Graph(tool_graph, state={"messages": {"reducer": "messages"}}).tool(add)
    graph.node("tools", do={"tools": {}}).edge(START, "tools")
    message = {"type": "ai", "content": "", "tool_calls": calls}
    result = await run(server, graph, {"messages": [message]}, stream_modes=["custom"])
    one, two = result.raise_for_error().values["messages"][1:]
    assert (one["content"], one["artifact"], one["status"]) == ("3", {"sum": 3}, "success")
    assert two["status"] == "error", "the arguments are checked against the types of the function"


async def test_cancel_reaches_async_and_sync_handlers(server):
    started, seen = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    async def wait(state, ctx):
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append(("async", ctx.cancel_reason))
            raise

    def wait_sync(state, ctx):
        loop.call_soon_threadsafe(started.set)
        assert ctx.wait_cancelled(60)
        seen.append(("sync", ctx.cancel_reason))

    for function in (wait, wait_sync):
        started.clear()
        graph = one_node(function)
        serving = Serving(server.address)
        serving.worker.graph(graph)
        async with serving, Client(server.address) as client:
            made = await client.runs.create(graph.name, {"n": 1})
            await started.wait()
            assert (await client.runs.cancel(made.run_id, wait=True)).state == "cancelled"
    assert seen == [("async", "run_cancelled"), ("sync", "run_cancelled")]


async def test_a_timeout_cancels(server):
    reasons = []

    async def wait(state, ctx):
        assert ctx.deadline is not None
        try:
            await asyncio.sleep(60)
        finally:
            reasons.append(ctx.cancel_reason)

    result = await run(server, one_node(wait, timeout_ms=200, retry={"max_attempts": 1}), {"n": 1})
    assert isinstance(result.end.error, errors.NodeTimeout) and reasons == ["timed_out"]


async def test_the_state_is_sent_as_what_changed(server):
    sent = []

    async def work(state, ctx):
        state["log"].append("changing what is given changes nothing")
        return {"log": [f"{state['n']} of {len(state['log']) - 1}"]}

    graph = one_node(work)
    serving = Serving(server.address)
    serving.worker.graph(graph)
    async with serving as worker, Client(server.address) as client:
        attachment = worker._attachments[server.address][0]
        receive = attachment._receive

        def record(task):
            sent.append((task.ByteSize(), {c.channel: c.WhichOneof("value") for c in task.state}))
            receive(task)

        attachment._receive = record
        thread = (await client.threads.create()).thread_id
        lines = ["x" * 100] * 1000
        await client.runs.wait(graph.name, {"n": 0, "log": lines}, thread_id=thread)
        result = await client.runs.wait(graph.name, {"n": 1, "log": ["more"]}, thread_id=thread)
        assert result.values["log"] == [*lines, "0 of 1000", "more", "1 of 1002"]
        assert sent[0][1]["log"] == "whole" and sent[1][1]["log"] == "appended"
        assert sent[0][0] > 100_000 and sent[1][0] < 5_000
        # What the worker no longer has, it asks for.
        attachment._cache._values.clear()
        result = await client.runs.wait(graph.name, {"n": 2, "log": []}, thread_id=thread)
        assert result.values["log"][-1] == "2 of 1003" and sent[2][1]["log"] != "whole"


async def test_an_outcome_that_is_too_large_fails_its_task(server):
    async def work(state, ctx):
        return {"log": ["x" * (20 << 20)]}

    result = await run(server, one_node(work, retry={"max_attempts": 1}), {"n": 1})
    assert result.end.error.metadata["error_type"] == "OutcomeTooLarge"


async def test_much_is_emitted_with_bounded_memory(server):
    def flood(state, ctx):
        for n in range(3000):
            ctx.emit({"n": n, "text": "x" * 1000})

    async def flood_async(state, ctx):
        for n in range(3000):
            ctx.emit({"n": n, "text": "x" * 1000})
            await ctx.flush()

    for function in (flood, flood_async):
        graph = one_node(function)
        serving = Serving(server.address)
        serving.worker.graph(graph)
        async with serving as worker, Client(server.address) as client:
            attachment = worker._attachments[server.address][0]
            most = 0
            got = []
            async for part in client.runs.stream(graph.name, {"n": 1}, stream_modes=["custom"]):
                most = max(most, attachment._unsent)
                if isinstance(part.payload, Custom):
                    got.append(part.payload.payload["n"])
            assert got == list(range(3000)) and most < 3 << 20


async def test_a_worker_that_is_refused_says_why(server):
    worker = Worker(server.address, queue="q", retry=QUICK)
    worker.graph({"runloom": "v1", "name": "bad", "state": {}, "nodes": {}, "edges": [{"from": "START", "to": "nowhere"}]})
    with pytest.raises(errors.GraphInvalid, match="nowhere"):
        await asyncio.wait_for(worker.serve(), 20)


async def test_the_same_handler_twice_and_wrong_signatures():
    worker = Worker(queue="q")
    worker.node(lambda state: None, name="n")
    with pytest.raises(ValueError, match="a second node 'n'"):
        worker.node(lambda state: None, name="n")
    with pytest.raises(TypeError, match="takes the state"):
        worker.node(lambda: None)
    with pytest.raises(TypeError, match="takes the present value and a write"):
        worker.reducer(lambda x: x)


async def test_the_server_may_restart(own_server):
    started = asyncio.Event()
    tries = []

    async def work(state, ctx):
        tries.append(ctx.attempt)
        started.set()
        if ctx.attempt == 1:
            await asyncio.sleep(60)
        return {"log": ["done"]}

    graph = one_node(work)
    serving = Serving(own_server.address)
    serving.worker.graph(graph)
    async with serving, Client(own_server.address, retry=QUICK) as client:
        made = await client.runs.create(graph.name, {"n": 1})
        await started.wait()
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.start)
        result = await client.runs.wait_for(made.run_id, timeout=60)
        assert result.raise_for_error().values["log"] == ["done"] and tries == [1, 2]


WORKER = """
import asyncio, os, sys
from runloom import START, Graph, Worker
worker = Worker(sys.argv[1], queue=sys.argv[2], max_tasks=1, heartbeat_timeout=2)
async def work(state, ctx):
    print("started", os.getpid(), ctx.task_id, flush=True)
    await asyncio.sleep(state["n"])
    return {"log": [f"by {os.getpid()}"]}
worker.graph(Graph(sys.argv[3], state={"n": {}, "log": {"reducer": "append"}}).node(work).edge(START, "work"))
worker.run()
print("drained", flush=True)
"""


async def spawn(address, queue, graph):
    return await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, address, queue, graph, stdout=subprocess.PIPE)


async def test_a_killed_workers_task_goes_to_another(server):
    queue, graph = f"q-{uuid.uuid4()}", f"g-{uuid.uuid4()}"
    workers = [await spawn(server.address, queue, graph) for _ in range(2)]
    try:
        async with Client(server.address, retry=QUICK) as client:
            while len([w async for w in client.workers.list(queue=queue)]) < 2:
                await asyncio.sleep(0.05)
            made = await client.runs.create(graph, {"n": 1})
            lines = {asyncio.create_task(w.stdout.readline()): w for w in workers}
            done, pending = await asyncio.wait(lines, return_when=asyncio.FIRST_COMPLETED)
            first = lines[done.pop()]
            first.kill()
            second = (await pending.pop()).decode().split()
            result = await client.runs.wait_for(made.run_id, timeout=30)
            assert result.raise_for_error().values["log"] == [f"by {second[1]}"] and int(second[1]) != first.pid
    finally:
        for worker in workers:
            if worker.returncode is None:
                worker.kill()
            await worker.wait()


async def test_sigterm_finishes_the_task_under_way(server):
    queue, graph = f"q-{uuid.uuid4()}", f"g-{uuid.uuid4()}"
    worker = await spawn(server.address, queue, graph)
    async with Client(server.address, retry=QUICK) as client:
        while not [w async for w in client.workers.list(queue=queue)]:
            await asyncio.sleep(0.05)
        made = await client.runs.create(graph, {"n": 1})
        assert (await worker.stdout.readline()).startswith(b"started")
        os.kill(worker.pid, signal.SIGTERM)
        result = await client.runs.wait_for(made.run_id, timeout=30)
        assert result.raise_for_error().values["log"] == [f"by {worker.pid}"]
        assert await worker.stdout.readline() == b"drained\n" and await worker.wait() == 0




async def test_draining_ends_in_time_without_a_server(own_server):
    serving = Serving(own_server.address, drain_timeout=1.0)
    await serving.__aenter__()
    await asyncio.to_thread(own_server.kill)
    start = asyncio.get_running_loop().time()
    serving.worker.drain()
    await asyncio.wait_for(serving.task, 10)
    assert asyncio.get_running_loop().time() - start < 5


async def test_an_outcome_is_sent_again_until_it_is_stored(server):
    """The connection breaks between the outcome and its Stored: the next connection settles it, and the node runs once."""
    calls = []

    async def work(state, ctx):
        calls.append(ctx.try_)
        return {"log": ["once"]}

    graph = one_node(work)
    proxy = Cutter(server.address)
    serving = Serving(proxy.address)
    serving.worker.graph(graph)
    async with serving as worker, Client(server.address) as client:
        attachment = worker._attachments[proxy.address][0]
        send, was_cut = attachment.send, asyncio.Event()

        def cut_at_the_outcome(**message):
            if "done" in message and not was_cut.is_set():
                was_cut.set()
                proxy.sever()
                return
            send(**message)

        attachment.send = cut_at_the_outcome
        result = await client.runs.wait(graph.name, {"n": 1}, timeout=30)
        assert was_cut.is_set() and result.raise_for_error().values["log"] == ["once"]
        while attachment._outcomes:
            await asyncio.sleep(0.01)
    assert calls == [1], "the outcome was computed again"
