"""Errors: the code, the reason for programs, every wrong field, and what to do."""
import pytest

from wire import (
    TIMEOUT, assistants_pb2, event_pb2, graphs_pb2, json_pb2, kind, new_id, refused, run_pb2, runs_pb2, spec, text, threads_pb2,
    until,
)


@pytest.mark.parametrize("make, reason, code, metadata", [
    (lambda: spec("wheather_agent", {}), "GRAPH_UNKNOWN", "NOT_FOUND", ["graph", "known"]),
    (lambda: spec("echo", {}, thread_id="4f3ee8bb-2c0a-4ddb-9b6d-5cbb4b0f7d10"), "THREAD_NOT_FOUND", "NOT_FOUND", ["thread_id"]),
    (lambda: run_pb2.RunSpec(assistant_id="4f3ee8bb-2c0a-4ddb-9b6d-5cbb4b0f7d10", input=text({})), "ASSISTANT_NOT_FOUND", "NOT_FOUND",
     ["assistant_id"]),
    (lambda: spec("echo", {"given": 1, "count": "three"}), "INPUT_INVALID", "INVALID_ARGUMENT", ["graph"]),
    (lambda: spec("echo", {"given": 1}, context=text({"usr": 1})), "CONTEXT_INVALID", "INVALID_ARGUMENT", ["graph"]),
    (lambda: run_pb2.RunSpec(graph_name="echo", input=json_pb2.Json(json='{"a":')), "JSON_INVALID", "INVALID_ARGUMENT", []),
    (lambda: run_pb2.RunSpec(graph_name="echo", input=json_pb2.Json()), "JSON_INVALID", "INVALID_ARGUMENT", []),
    (lambda: run_pb2.RunSpec(graph_name="echo", input=json_pb2.Json(json="[" * 200 + "]" * 200)), "JSON_TOO_DEEP", "INVALID_ARGUMENT", []),
], ids=["graph", "thread", "assistant", "input", "context", "json", "json-unset", "json-deep"])
def test_a_run_that_cannot_be_made_says_why(api, make, reason, code, metadata):
    for call in (lambda: list(api.open(make())), lambda: api.wait(make()),
                 lambda: api.runs.CreateRun(runs_pb2.CreateRunRequest(run=make()), timeout=TIMEOUT)):
        with refused(reason, code) as failure:
            call()
        assert set(metadata) <= set(failure.info.metadata), dict(failure.info.metadata)
        assert failure.message and failure.message == failure.message.strip()
        if code == "INVALID_ARGUMENT":
            assert failure.fields, "a BadRequest names the field"


def test_an_unknown_graph_names_those_there_are(api):
    with refused("GRAPH_UNKNOWN", "NOT_FOUND") as failure:
        list(api.open(spec("wheather_agent", {})))
    assert "agent" in [name.strip() for name in failure.info.metadata["known"].split(",")]


def test_every_wrong_field_is_named(api):
    run = run_pb2.RunSpec(thread_id="not a uuid", checkpoint_id="neither", multitask_strategy=99, durability=77)
    run.stream_modes.extend([0, 42])
    run.run_timeout.FromSeconds(-1)
    run.config.configurable.CopyFrom(text([1]))
    with refused("FIELD_INVALID", "INVALID_ARGUMENT") as failure:
        list(api.open(run))
    for field in ("run.thread_id", "run.checkpoint_id", "run.multitask_strategy", "run.durability", "run.stream_modes[0]",
                  "run.stream_modes[1]", "run.run_timeout", "run.config.configurable", "run.target"):
        assert field in failure.fields, sorted(failure.fields)
    assert all(failure.fields.values())


@pytest.mark.parametrize("pattern", ["EVENT_KIND_UNSPECIFIED"])
def test_a_filter_with_a_wrong_kind_is_refused(api, pattern):
    wrong = event_pb2.EventFilter(include=event_pb2.EventSelector(kinds=[pattern]))
    with refused("FIELD_INVALID", "INVALID_ARGUMENT") as failure:
        list(api.open(spec("echo", {"given": 1}, modes=["events"], event_filter=wrong)))
    assert any("event_filter" in field for field in failure.fields)


def test_what_is_not_there_is_not_found(api):
    unknown = new_id()
    for call, reason in (
        (lambda: api.run(unknown), "RUN_NOT_FOUND"),
        (lambda: api.cancel(unknown), "RUN_NOT_FOUND"),
        (lambda: list(api.open_join(unknown)), "RUN_NOT_FOUND"),
        (lambda: api.wait(run_id=unknown), "RUN_NOT_FOUND"),
        (lambda: api.state(unknown), "THREAD_NOT_FOUND"),
        (lambda: api.history(unknown), "THREAD_NOT_FOUND"),
        (lambda: api.threads.DeleteThread(threads_pb2.DeleteThreadRequest(thread_id=unknown), timeout=TIMEOUT), "THREAD_NOT_FOUND"),
        (lambda: api.assistants.GetAssistant(assistants_pb2.GetAssistantRequest(assistant_id=unknown), timeout=TIMEOUT), "ASSISTANT_NOT_FOUND"),
        (lambda: api.graphs.DeleteGraph(graphs_pb2.DeleteGraphRequest(name="nobody"), timeout=TIMEOUT), "GRAPH_UNKNOWN"),
    ):
        with refused(reason, "NOT_FOUND") as failure:
            call()
        assert failure.retry is None, "waiting does not help"


def test_a_run_that_goes_is_not_deleted(api):
    # One that waits for its turn may be deleted.
    stream = api.open(spec("slow", {}, modes=["updates"]))
    run_id = until(stream, lambda part: kind(part) == "update")[-1].run_id
    with refused("RUN_ACTIVE", "FAILED_PRECONDITION"):
        api.runs.DeleteRun(runs_pb2.DeleteRunRequest(run_id=run_id), timeout=TIMEOUT)
    api.cancel(run_id)
    api.runs.DeleteRun(runs_pb2.DeleteRunRequest(run_id=run_id), timeout=TIMEOUT)


def test_a_stateless_run_is_not_answered(api):
    command = run_pb2.Command()
    command.resume.CopyFrom(text(1))
    with refused("FIELD_INVALID", "INVALID_ARGUMENT"):
        list(api.open(spec("approval", command=command)))


def test_a_graph_document_is_refused_with_all_its_faults(api):
    document = """
runloom: v1
name: broken
state: { n: { reducer: sum } }
nodes: { a: { update: { n: 'state.' } } }
edges: [ { from: START, to: b } ]
"""
    with refused("GRAPH_INVALID", "INVALID_ARGUMENT") as failure:
        api.graphs.RegisterGraph(graphs_pb2.RegisterGraphRequest(document=document), timeout=TIMEOUT)
    assert failure.fields or "line" in failure.info.metadata
