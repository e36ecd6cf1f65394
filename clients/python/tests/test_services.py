"""Every service, async and sync: objects, JSON as native values, errors by reason, retries, deadlines."""
import asyncio
import dataclasses
import importlib
import importlib.metadata
import inspect
import pathlib
import re
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from conftest import ROOT

import runloom
from runloom import NULL, Client, Retry, SyncClient, errors
from runloom.codec import CLASSES, RENAMED, from_json
from runloom.v1 import error_reason_pb2, json_pb2

DOCUMENT = """
runloom: v1
name: %s
state: { n: { reducer: add } }
nodes: { one: { update: { n: 1 } } }
edges: [ { from: START, to: one } ]
"""
ASKS = """
runloom: v1
name: asks
state: { said: {} }
nodes: { ask: { steps: [ { interrupt: { value: '"well?"' } }, { update: { said: answer } } ] } }
edges: [ { from: START, to: ask } ]
"""


async def test_threads(client):
    thread = await client.threads.create(metadata={"user": "ada", "big": 2**60, "float": 1.0})
    assert thread.metadata == {"user": "ada", "big": 2**60, "float": 1.0} and isinstance(thread.metadata["float"], float)
    assert abs(datetime.now(timezone.utc) - thread.create_time) < timedelta(minutes=1)
    await client.threads.update(thread.thread_id, metadata={"user": "bob"}, update_mask=["metadata.user"])
    assert (await client.threads.get(thread.thread_id)).metadata["user"] == "bob"
    assert [t.thread_id async for t in client.threads.list(metadata_filter={"user": "bob"}, page_size=1)] == [thread.thread_id]
    with pytest.raises(errors.ThreadExists):
        await client.threads.create(thread.thread_id)
    copy = await client.threads.copy(thread.thread_id)
    assert copy.thread_id != thread.thread_id
    await client.threads.delete(thread.thread_id)
    with pytest.raises(errors.ThreadNotFound) as failure:
        await client.threads.get(thread.thread_id)
    assert isinstance(failure.value, errors.NotFound) and failure.value.code == "NOT_FOUND"
    assert failure.value.metadata == {"thread_id": thread.thread_id} and not failure.value.is_transient


async def test_questions_state_and_history(client):
    thread = (await client.threads.create()).thread_id
    result = await client.runs.wait("approval", {"topic": "tea"}, thread_id=thread)
    assert result.run.state == "awaiting_input" and result.interrupts[0].value["question"]
    state = await client.threads.state(thread)
    assert state.checkpoint.next and state.checkpoint.tasks[0].interrupts[0].id == result.interrupts[0].id
    with pytest.raises(errors.QuestionUnknown):
        await client.runs.wait("approval", command={"resume_by_id": {"nope": 1}}, thread_id=thread)
    done = await client.runs.wait("approval", command={"resume": {"approved": True}}, thread_id=thread)
    assert done.raise_for_error().run.state == "succeeded"
    history = [c async for c in client.threads.history(thread, page_size=2)]
    assert len(history) > 3 and history[0].source == "loop" and history[-1].source == "input"
    assert [c.checkpoint_id for c in history] == sorted((c.checkpoint_id for c in history), reverse=True)
    steps = [{"updates": [{"values": {"topic": topic}, "as_node": "__input__"}]} for topic in ("a", "b")]
    await client.threads.update_state(thread, supersteps=steps)
    fork = await client.threads.update_state(thread, {"topic": "coffee"}, checkpoint_id=history[-2].checkpoint_id)
    assert (await client.threads.state(thread)).checkpoint.checkpoint_id == fork.checkpoint_id
    with pytest.raises(errors.CheckpointChanged):
        await client.threads.update_state(thread, {"topic": "x"}, expected_checkpoint_id=history[-1].checkpoint_id)


async def test_the_answer_null(client):
    await client.graphs.register(ASKS)
    thread = (await client.threads.create()).thread_id
    with pytest.raises(errors.NothingToResume):
        await client.runs.wait("asks", thread_id=thread)
    asked = await client.runs.wait("asks", {}, thread_id=thread)
    answer = {"resume_by_id": {asked.interrupts[0].id: NULL}}
    result = await client.runs.wait("asks", command=answer, thread_id=thread)
    assert result.run.state == "succeeded"


async def test_runs(client):
    thread = (await client.threads.create()).thread_id
    request_id = str(uuid.uuid4())
    first = await client.runs.create("joke", {"topic": "cats"}, thread_id=thread, request_id=request_id, metadata={"k": 1})
    again = await client.runs.create("joke", {"topic": "cats"}, thread_id=thread, request_id=request_id, metadata={"k": 1})
    assert first.run_id == again.run_id
    with pytest.raises(errors.RequestIdReused) as failure:
        await client.runs.create("joke", {"topic": "dogs"}, thread_id=thread, request_id=request_id)
    assert failure.value.metadata["run_id"] == first.run_id
    assert (await client.runs.wait_for(first.run_id)).end.state == "succeeded"
    assert (await client.runs.get(first.run_id)).metadata["k"] == 1
    assert [r.run_id async for r in client.runs.list(thread_id=thread, states=["succeeded"])] == [first.run_id]
    slow = await client.runs.create("slow", {}, config={"tags": ["a"], "configurable": {"x": 1}}, run_timeout=60)
    async with client.runs.join(slow.run_id) as parts:
        # The first part in the log: the run is under way.
        while not (await anext(parts)).seq:
            pass
    with pytest.raises(errors.RunActive):
        await client.runs.delete(slow.run_id)
    assert (await client.runs.cancel(slow.run_id, wait=True)).state == "cancelled"
    await client.runs.delete(first.run_id)
    with pytest.raises(errors.RunNotFound):
        await client.runs.get(first.run_id)


async def test_all_invalid_fields_are_named(client):
    with pytest.raises(errors.FieldInvalid) as failure:
        await client.runs.create("joke", {}, config={"configurable": {"thread_id": "x"}}, thread_id="no uuid")
    assert {v.field for v in failure.value.violations} == {"run.config.configurable.thread_id", "run.thread_id"}
    assert "run.thread_id" in str(failure.value)


async def test_assistants(client):
    made = await client.assistants.create("joke", name="Jester", config={"recursion_limit": 7}, metadata={"team": "x"})
    assert (made.version, made.config.recursion_limit) == (1, 7)
    second = await client.assistants.update(made.assistant_id, name="Fool")
    assert (second.version, second.name, second.metadata) == (2, "Fool", {"team": "x"})
    assert [a.version async for a in client.assistants.versions(made.assistant_id)] == [2, 1]
    assert (await client.assistants.set_latest(made.assistant_id, 1)).name == "Jester"
    assert (await client.assistants.get(made.assistant_id)).name == "Jester"
    assert [a.assistant_id async for a in client.assistants.list(metadata_filter={"team": "x"})] == [made.assistant_id]
    drawing = await client.assistants.graph(made.assistant_id)
    assert {n.kind for n in drawing.nodes} == {"start", "node", "end"} and "graph TD" in drawing.mermaid
    schemas = await client.assistants.schemas(made.assistant_id)
    assert schemas.schemas.input_schema["type"] == "object"
    result = await client.runs.wait(input={"topic": "cats"}, assistant_id=made.assistant_id)
    assert result.run.assistant_id == made.assistant_id
    await client.assistants.delete(made.assistant_id)
    with pytest.raises(errors.AssistantNotFound):
        await client.assistants.get(made.assistant_id)


async def test_graphs(client):
    name = f"counted-{uuid.uuid4()}"
    registered = await client.graphs.register(DOCUMENT % name)
    assert registered.changed and registered.graph.source == "registered" and registered.warnings == []
    assert name in [g.name async for g in client.graphs.list(page_size=3)]
    assert (await client.runs.wait(name, {"n": 4})).values == {"n": 5}
    with pytest.raises(errors.GraphInvalid) as failure:
        await client.graphs.register((DOCUMENT % name).replace("to: one", "to: ones"))
    assert "did you mean" in str(failure.value)
    await client.graphs.delete(name)


async def test_crons(client):
    cron = await client.crons.create("0 9 * * 1", "joke", {"topic": "Mondays"}, time_zone="Europe/Vienna", metadata={"k": 1})
    assert cron.next_run_time > datetime.now(timezone.utc) and cron.run["input"] == {"topic": "Mondays"}
    assert cron.run["metadata"] == {"k": 1}
    changed = await client.crons.update(cron.cron_id, disabled=True)
    assert changed.disabled and changed.schedule == "0 9 * * 1"
    assert [c.cron_id async for c in client.crons.list(disabled=True)] == [cron.cron_id]
    assert (await client.crons.get(cron.cron_id)).time_zone == "Europe/Vienna"
    await client.crons.delete(cron.cron_id)
    with pytest.raises(errors.CronNotFound):
        await client.crons.get(cron.cron_id)


async def test_the_store(client):
    user = ["users", str(uuid.uuid4())]
    for key, n in (("a", 1), ("b", 2), ("c", 3)):
        await client.store.put(user, key, {"n": n}, ttl=3600)
    item = await client.store.get(user, "b")
    assert item.value == {"n": 2} and item.expire_time > item.create_time
    assert [i.key async for i in client.store.search(user, filter={"n": {"$gt": 1}}, page_size=1)] == ["b", "c"]
    assert [n async for n in client.store.namespaces(user)] == [tuple(user)]
    await client.store.delete(user, "b")
    assert await client.store.get(user, "b") is None


def test_the_sync_client_is_the_same(sync_client):
    thread = sync_client.threads.create()
    result = sync_client.runs.wait("approval", {"topic": "tea"}, thread_id=thread.thread_id)
    assert result.interrupts and sync_client.threads.state(thread.thread_id).checkpoint.interrupts
    assert [g.name for g in sync_client.graphs.list() if g.name == "joke"] == ["joke"]
    with pytest.raises(errors.ThreadNotFound):
        sync_client.threads.get(str(uuid.uuid4()))
    for service in ("threads", "runs", "assistants", "graphs", "crons", "store", "workers"):
        blocking = type(getattr(sync_client, service))
        asynchronous = getattr(importlib.import_module(blocking.__module__.replace("_sync", "_async")), blocking.__name__)
        for name, method in inspect.getmembers(blocking, inspect.isfunction):
            assert inspect.signature(method).parameters.keys() == inspect.signature(getattr(asynchronous, name)).parameters.keys()


def test_metadata_and_key_are_sent(server):
    with SyncClient(server.address, api_key="secret", metadata={"x-team": "blue"}) as client:
        assert dict(client._caller.metadata) == {"authorization": "Bearer secret", "x-team": "blue"}
        client.threads.create()


async def test_a_call_has_a_deadline(client):
    with pytest.raises(errors.DeadlineExceeded):
        await client.runs.wait("slow", {}, timeout=0.2)


async def test_safe_calls_are_repeated_until_the_server_is_back(own_server):
    async with Client(own_server.address, retry=Retry(initial_delay=0.02, max_delay=0.1, max_retries=500)) as client:
        thread = await client.threads.create()
        own_server.kill()
        reading = asyncio.create_task(client.threads.get(thread.thread_id))
        await asyncio.to_thread(own_server.start)
        assert (await reading).thread_id == thread.thread_id


def test_delays_grow_to_a_bound_and_respect_the_server():
    retry = Retry(max_retries=40)
    for failures in range(1, 41):
        full = min(0.1 * 2 ** (failures - 1), 8)
        assert full / 2 <= retry.delay(failures, errors.Unavailable("gone", "UNAVAILABLE")) <= full
    assert retry.delay(41, errors.Unavailable("gone", "UNAVAILABLE")) is None
    assert retry.delay(1, errors.NotFound("no", "NOT_FOUND")) is None
    asked = errors.Unavailable("draining", "UNAVAILABLE")
    asked.retry_after = 30
    assert 30 <= retry.delay(1, asked) <= 30.1


def test_every_reason_has_a_class():
    for name in error_reason_pb2.ErrorReason.keys():
        reason = name.removeprefix("ERROR_REASON_")
        if reason != "UNSPECIFIED":
            assert errors.RunloomError._by_reason[reason].reason == reason


def test_every_field_of_a_message_has_a_native_one():
    modules = [runloom.v1.__dict__[m] for m in dir(runloom.v1) if m.endswith("_pb2")]
    messages = {d.full_name: d for m in modules for d in m.DESCRIPTOR.message_types_by_name.values()}
    assert len(CLASSES) > 30
    for name, cls in CLASSES.items():
        fields = {RENAMED.get(f, f) for f in messages[name].fields_by_name}
        assert {f.name for f in dataclasses.fields(cls)} == fields, name
    kinds = {m.fields_by_name[f.name].message_type.full_name
             for m in [messages["runloom.v1.StreamRunResponse"]] for f in m.oneofs_by_name["payload"].fields}
    assert kinds <= set(CLASSES)


def test_json_in_both_encodings():
    tree = json_pb2.Json()
    tree.value.struct_value.fields["a"].list_value.values.add().number_value = 1
    tree.value.struct_value.fields["b"].null_value = 0
    assert from_json(tree) == {"a": [1], "b": None}
    assert from_json(json_pb2.Json(json='{"n": 9007199254740993}')) == {"n": 2**53 + 1}


def test_an_address_is_checked():
    with pytest.raises(ValueError, match="invalid address"):
        SyncClient("ftp://localhost")


def test_the_version_is_that_of_the_server():
    wanted = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
    assert importlib.metadata.version("runloom") == wanted
    assert (pathlib.Path(runloom.__file__).parent / "py.typed").exists()
