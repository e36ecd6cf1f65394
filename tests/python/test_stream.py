"""What a run's stream shows, mode by mode, and in which order."""
import json

import pytest

from wire import (
    MODES, TEXT, Failure, check_stream, error_reason_pb2, event_pb2, kind, logged, message_pb2, of, read, run_pb2, spec, stream_pb2, until,
)

ASKED = {"messages": [{"role": "user", "content": "What's the weather in San Francisco?"}]}
FIRST, SECOND = "Let me look that up.", "It is sunny in San Francisco, and 18 degrees. A light jacket will do."


def weather(api, *modes, **fields):
    return api.stream("agent", ASKED, modes=modes, **fields)


def test_g1_values_are_the_state_after_the_input_and_after_each_step(api):
    parts = weather(api)  # without modes: values
    states = [read(v.state)["messages"] for v in of(parts, "value")]
    assert [len(s) for s in states] == [1, 2, 3, 4]
    assert [m["type"] for m in states[-1]] == ["human", "ai", "tool", "ai"]
    assert states[-1][-1]["content"] == SECOND
    assert [kind(p) for p in logged(parts)] == ["metadata", *["value"] * 4, "end"]
    end = parts[-1].end
    assert end.state == stream_pb2.RUN_STATE_SUCCEEDED and not end.HasField("error")
    assert (end.usage.input_tokens, end.usage.output_tokens) == (84, 19)


def test_g1_metadata_says_what_is_streamed(api):
    thread = api.thread()
    parts = api.stream("agent", ASKED, modes=["updates", "custom"], thread_id=thread)
    metadata = parts[0].metadata
    assert (metadata.thread_id, metadata.graph_name, metadata.run_id) == (thread, "agent", parts[0].run_id)
    assert set(metadata.stream_modes) == {MODES["updates"], MODES["custom"]}
    assert metadata.graph_revision and metadata.assistant_id
    assert parts[-1].end.checkpoint_id == api.state(thread).checkpoint_id


def test_updates_are_what_each_node_wrote(api):
    updates = of(weather(api, "updates"), "update")
    assert [u.node for u in updates] == ["agent", "tools", "agent"]
    called, answered, said = (read(u.update)["messages"] for u in updates)
    call = (called if isinstance(called, dict) else called[0])["tool_calls"][0]
    assert (call["name"], call["args"]) == ("get_weather", {"city": "San Francisco"})
    tool = answered if isinstance(answered, dict) else answered[0]
    assert json.loads(tool["content"]) == {"city": "San Francisco", "sky": "sunny", "degrees": 18}
    assert (said if isinstance(said, dict) else said[0])["content"] == SECOND


def by_message(parts):
    """Chunks by message, in the order in which the messages began."""
    messages = {}
    for chunk in of(parts, "message_chunk"):
        messages.setdefault(chunk.message_id, []).append(chunk)
    return list(messages.values())


def said(chunks):
    return "".join(block.text for chunk in chunks for block in chunk.content)


def test_messages_are_streamed_word_by_word(api):
    first, tool, second = by_message(weather(api, "messages"))
    assert said(first) == FIRST and said(second) == SECOND
    assert len(first) > 5 and len(second) > 10, "a message that came whole"
    for chunks, node in ((first, "agent"), (second, "agent")):
        assert (chunks[0].role, chunks[0].node, chunks[0].model) == (message_pb2.MESSAGE_ROLE_AI, node, "ScriptedModel")
        assert [c.last for c in chunks] == [False] * (len(chunks) - 1) + [True]
        # What does not change comes once.
        assert not any(c.node or c.model or c.tags or c.HasField("metadata") for c in chunks[1:])
    calls = [call for chunk in first for call in chunk.tool_call_chunks]
    assert calls[0].name == "get_weather" and calls[0].id
    assert json.loads("".join(c.args for c in calls)) == {"city": "San Francisco"}
    assert (len(tool), tool[0].role, tool[0].last) == (1, message_pb2.MESSAGE_ROLE_TOOL, True)
    assert tool[0].tool_call_id == calls[0].id
    assert sum(c.usage.output_tokens for c in second) == 19


def test_custom_data_comes_from_the_tool_while_it_works(api):
    customs = of(weather(api, "custom"), "custom")
    assert [read(c.payload)["progress"] for c in customs] == [0.1, 0.9]
    assert {c.node for c in customs} == {"tools"}
    assert read(customs[0].payload)["status"] == "asking for the weather in San Francisco"


def test_tasks_start_and_finish(api):
    parts = weather(api, "tasks")
    tasks = [p for p in parts if kind(p) == "task"]
    phases = [(p.task.node, p.task.phase) for p in tasks]
    started, finished = stream_pb2.TASK_PHASE_STARTED, stream_pb2.TASK_PHASE_FINISHED
    assert phases == [(n, phase) for n in ("agent", "tools", "agent") for phase in (started, finished)]
    for start, end in zip(tasks[::2], tasks[1::2]):
        assert start.task_id == end.task_id and start.task_attempt == end.task_attempt == 1
        assert "messages" in read(start.task.input) and "messages" in str(read(end.task.result))
    assert len({p.task_id for p in tasks}) == 3


def test_checkpoints_are_those_of_the_thread(api):
    thread = api.thread()
    parts = api.stream("agent", ASKED, modes=["checkpoints"], thread_id=thread)
    streamed = of(parts, "checkpoint")
    assert [list(c.next) for c in streamed] == [["__start__"], ["agent"], ["tools"], ["agent"], []]
    assert [c.step for c in streamed] == [-1, 0, 1, 2, 3]
    assert [c.checkpoint_id for c in streamed] == [c.checkpoint_id for c in reversed(api.history(thread))]
    assert all(a.checkpoint_id == b.parent_checkpoint_id for a, b in zip(streamed, streamed[1:]))


def test_debug_is_tasks_and_checkpoints(api):
    kinds = [kind(p) for p in weather(api, "debug")]
    assert set(kinds) == {"metadata", "task", "checkpoint", "end"}
    assert (kinds.count("task"), kinds.count("checkpoint")) == (6, 5)


def test_events_are_those_of_astream_events(api):
    events = of(weather(api, "events"), "event")
    K = event_pb2.EventKind
    names = [(K.Name(e.kind)[len("EVENT_KIND_"):], e.name) for e in events]
    assert names[0] == ("CHAIN_START", "agent") and names[-1] == ("CHAIN_END", "agent")
    for wanted in (("CHAIN_START", "agent"), ("CHAT_MODEL_START", "ScriptedModel"), ("CHAT_MODEL_STREAM", "ScriptedModel"),
                   ("CHAT_MODEL_END", "ScriptedModel"), ("CHAIN_START", "should_continue"), ("CHAIN_END", "agent"),
                   ("CHAIN_START", "tools"), ("TOOL_START", "get_weather"), ("TOOL_END", "get_weather"), ("CHAIN_STREAM", "tools")):
        assert wanted in names, f"{wanted} is missing in {sorted(set(names))}"
    root = events[0].run_id
    model = next(e for e in events if e.kind == K.Value("EVENT_KIND_CHAT_MODEL_START"))
    agent = next(e for e in events if e.kind == K.Value("EVENT_KIND_CHAIN_START") and e.name == "agent" and e.parent_ids)
    assert list(agent.parent_ids) == [root] and "graph:step:1" in agent.tags
    assert list(model.parent_ids) == [root, agent.run_id] and model.node == "agent"
    tokens = [e for e in events if e.kind == K.Value("EVENT_KIND_CHAT_MODEL_STREAM") and e.run_id == model.run_id]
    assert said([e.data.message_chunk for e in tokens]) == FIRST
    # What its start has said of the call is not said again.
    assert not any(e.node or e.tags or e.parent_ids for e in tokens)
    # What starts, ends.
    for start in (e for e in events if K.Name(e.kind).endswith("_START")):
        assert any(e.run_id == start.run_id and K.Name(e.kind).endswith("_END") for e in events), start.name


def test_custom_events_are_events_of_their_own_name(api):
    events = of(api.stream("support_agent", {"messages": []}, modes=["events"]), "event")
    progress = [e for e in events if e.kind == event_pb2.EVENT_KIND_CUSTOM]
    assert {e.name for e in progress} == {"progress"}
    assert [read(e.data.custom)["percent"] for e in progress] == [10, 45, 80]


def test_g3_g6_all_modes_at_once_in_order(api):
    parts = weather(api, *[m for m in MODES if m != "debug"])
    for task_id in {p.task_id for p in parts if p.task_id}:
        own = [p for p in parts if p.task_id == task_id]
        # Events of the node itself may stand outside; what it streams does not.
        own = [p for p in own if kind(p) != "event"]
        assert kind(own[0]) == "task" and own[0].task.phase == stream_pb2.TASK_PHASE_STARTED
        assert kind(own[-1]) == "task" and own[-1].task.phase == stream_pb2.TASK_PHASE_FINISHED
        assert kind(own[-2]) == "update"
    steps = [p for p in parts if kind(p) in ("task", "value", "checkpoint") and p.step > 0]
    for step in {p.step for p in steps}:
        kinds = [kind(p) for p in steps if p.step == step]
        assert kinds == ["task", "task", "value", "checkpoint"], (step, kinds)


def test_g6_parallel_tasks_each_keep_their_order(api):
    parts = api.stream("map_reduce", {"text": "many hands make light work"}, modes=["tasks", "updates", "custom", "values"])
    sent = [p for p in parts if p.step == 2 and kind(p) != "value"]
    assert len({p.task_id for p in sent}) == 5
    for task_id in {p.task_id for p in sent}:
        assert [kind(p) for p in sent if p.task_id == task_id] == ["task", "custom", "update", "task"]
    final = read(of(parts, "value")[-1].state)
    # The results stand in the order of the Sends, whoever was done first.
    assert [c["word"] for c in final["counted"]] == ["many", "hands", "make", "light", "work"]
    assert final["summary"] == {"words": 5, "longest": 5}


def test_subgraphs_stream_under_their_namespace_where_asked(api):
    plain = api.stream("outer", {"log": []}, modes=["updates"])
    assert not any(p.namespace for p in plain)
    parts = api.stream("outer", {"log": []}, modes=["updates", "custom"], stream_subgraphs=True)
    inner = [p for p in parts if p.namespace]
    assert [u.node for u in of(inner, "update")] == ["in_a", "in_b"]
    assert {len(p.namespace) for p in inner} == {1} and inner[0].namespace[0].startswith("child:")
    assert [u.node for u in of([p for p in parts if not p.namespace], "update")] == ["before", "child", "after"]


SELECTOR = event_pb2.EventSelector


@pytest.mark.parametrize("filter, wanted", [
    (dict(include=SELECTOR(kinds=["EVENT_KIND_CHAT_MODEL_STREAM"])), lambda e: e[0] == "CHAT_MODEL_STREAM"),
    (dict(include=SELECTOR(names=["get_*"])), lambda e: e[1] == "get_weather"),
    (dict(include=SELECTOR(nodes=["tools"])), lambda e: e[2] == "tools"),
    (dict(include=SELECTOR(nodes=["agent"], kinds=["EVENT_KIND_CHAIN_START"])), lambda e: e[0] == "CHAIN_START" and e[2] == "agent"),
    (dict(exclude=SELECTOR(kinds=["EVENT_KIND_CHAT_MODEL_STREAM"], names=["should_continue"])),
     lambda e: e[0] != "CHAT_MODEL_STREAM" and e[1] != "should_continue"),
], ids=["kind", "name", "node", "both", "exclude"])
def test_g3_filters_let_through_what_was_asked_for(api, filter, wanted):
    def seen(parts):
        nodes = {}
        found = []
        for e in of(parts, "event"):
            # The node comes with the first piece of a thing that streams.
            nodes.setdefault(e.run_id, e.node)
            found.append((event_pb2.EventKind.Name(e.kind)[len("EVENT_KIND_"):], e.name, nodes[e.run_id]))
        return found
    everything = weather(api, "events")
    expected = [e for e in seen(everything) if wanted(e)]
    assert expected and len(expected) < len(seen(everything))
    # What is recorded may be narrowed, and what a reader is sent.
    assert seen(weather(api, "events", event_filter=event_pb2.EventFilter(**filter))) == expected
    joined = api.join(everything[0].run_id, event_filter=event_pb2.EventFilter(**filter), whole=False)
    assert seen(joined) == expected
    numbers = {p.seq: p for p in everything}
    assert all(kind(numbers[p.seq]) == kind(p) for p in joined if p.seq), "a filter must not renumber"


def test_empty_chunks_are_left_out_where_asked(api):
    def empty(chunk):
        content = any(b.WhichOneof("block") for b in chunk.content)
        return not (content or chunk.tool_call_chunks or chunk.HasField("usage") or chunk.last)
    parts = weather(api, "messages", event_filter=event_pb2.EventFilter(skip_empty_chunks=True))
    chunks = of(parts, "message_chunk")
    assert not any(map(empty, chunks))
    assert said(by_message(parts)[-1]) == SECOND


def test_coalesced_tokens_are_fewer_and_say_the_same(api):
    coalescing = run_pb2.TokenCoalescing(max_chunks=5)
    coalescing.max_delay_duration.FromSeconds(10)
    parts = weather(api, "messages", token_coalescing=coalescing)
    one_by_one = weather(api, "messages")
    assert said(by_message(parts)[-1]) == SECOND
    assert len(parts) < len(one_by_one) / 2
    assert by_message(parts)[-1][-1].last


def test_g4_every_reader_sees_the_same_parts(api):
    live = weather(api, *[m for m in MODES if m != "debug"])
    late = api.join(live[0].run_id)
    again = api.join(live[0].run_id)
    assert live[1:] == late[1:], "a late reader sees something else"
    assert late[1:] == again[1:]


def test_g2_a_run_that_fails_is_data(api):
    parts = api.stream("fails", {"words": "no more paper"}, modes=["updates"])
    end = parts[-1].end
    assert end.state == stream_pb2.RUN_STATE_FAILED
    failure = Failure.of_status(end.error)
    assert failure.reason == "NODE_FAILED" and "no more paper" in failure.message
    metadata = failure.info.metadata
    assert (metadata["graph"], metadata["node"], metadata["error_type"]) == ("fails", "bad", "ValueError")
    assert [u.node for u in of(parts, "update")] == ["fine"]


def test_g2_the_recursion_limit_is_data(api):
    config = run_pb2.RunConfig(recursion_limit=7)
    end = api.stream("endless", {}, modes=["values"], config=config)[-1].end
    failure = Failure.of_status(end.error)
    assert (end.state, failure.reason) == (stream_pb2.RUN_STATE_FAILED, "RECURSION_LIMIT")
    assert failure.info.metadata["limit"] == "7"


def test_g2_a_timeout_is_data(api):
    run = spec("slow", {}, modes=["updates"])
    run.run_timeout.FromMilliseconds(300)
    parts = list(api.open(run))
    check_stream(parts)
    assert parts[-1].end.state == stream_pb2.RUN_STATE_TIMED_OUT
    assert Failure.of_status(parts[-1].end.error).reason == "RUN_TIMEOUT"


def test_g8_a_part_too_large_says_where_its_data_is(api):
    thread = api.thread()
    big = "x" * 200_000
    parts = api.stream("echo", {"given": big}, modes=["values"], thread_id=thread, request={"max_part_bytes": 65_536})
    omitted = [p for p in parts if p.HasField("omitted")]
    assert omitted and all(kind(p) == "value" and not p.value.HasField("state") for p in omitted)
    assert parts[-1].end.state == stream_pb2.RUN_STATE_SUCCEEDED
    last = omitted[-1].omitted
    assert last.reason == error_reason_pb2.ERROR_REASON_PART_TOO_LARGE
    assert last.size_bytes > 200_000
    assert read(api.state(thread, checkpoint_id=last.checkpoint.checkpoint_id).values)["given"] == big


@pytest.mark.slow
def test_g5_silence_is_broken(api):
    stream = api.open(spec("slow", {"ms": 60_000}, modes=["updates"]))
    parts = until(stream, lambda p: kind(p) == "progress")
    assert parts[-1].seq == 0 and parts[-1].cursor
    api.cancel(parts[0].run_id)
    assert [kind(p) for p in stream][-1] == "end"


def test_json_comes_as_the_reader_asks(api):
    auto = list(api.open(spec("echo", {"given": {"n": 1.5}}), json_encoding=0))
    assert of(auto, "value")[-1].state.WhichOneof("encoding") == "value"
    as_text = list(api.open(spec("echo", {"given": {"n": 1.5}}), json_encoding=TEXT))
    assert of(as_text, "value")[-1].state.WhichOneof("encoding") == "json"
    assert read(of(auto, "value")[-1].state) == read(of(as_text, "value")[-1].state)
