"""The state of threads: read, written, forked, listed, and exact."""
import json

import pytest

from wire import (
    TEXT, TIMEOUT, error_reason_pb2, json_pb2, kind, new_id, of, read, refused, run_pb2, spec, state_pb2, stream_pb2, text, threads_pb2,
)

LAST = 2**63 - 1


def test_a_thread_without_runs_has_no_state(api):
    thread = api.thread()
    answer = api.threads.GetState(threads_pb2.GetStateRequest(thread_id=thread), timeout=TIMEOUT)
    assert not answer.HasField("checkpoint")


def test_state_is_the_latest_checkpoint_or_another(api):
    thread = api.thread()
    api.stream("steps", {}, thread_id=thread)
    latest = api.state(thread)
    assert read(latest.values)["log"] == ["one", "two", "three"] and not latest.next
    history = api.history(thread)
    assert history[0] == latest and [c.step for c in history] == [3, 2, 1, 0, -1]
    assert [read(c.values).get("log", []) for c in history][:4] == [["one", "two", "three"], ["one", "two"], ["one"], []]
    assert [list(c.next) for c in history] == [[], ["three"], ["two"], ["one"], ["__start__"]]
    assert history[-1].source == state_pb2.CHECKPOINT_SOURCE_INPUT and latest.source == state_pb2.CHECKPOINT_SOURCE_LOOP
    for checkpoint in history:
        assert api.state(thread, checkpoint_id=checkpoint.checkpoint_id) == checkpoint
    with refused("CHECKPOINT_NOT_FOUND", "NOT_FOUND"):
        api.state(thread, checkpoint_id=new_id())


def test_checkpoints_come_in_pages(api):
    thread = api.thread()
    for i in range(4):
        api.stream("echo", {"given": i}, thread_id=thread)
    whole = [c.checkpoint_id for c in api.history(thread)]
    pages, token = [], ""
    while True:
        request = threads_pb2.ListCheckpointsRequest(thread_id=thread, page_size=5, page_token=token)
        page = api.threads.ListCheckpoints(request, timeout=TIMEOUT)
        pages += [c.checkpoint_id for c in page.checkpoints]
        token = page.next_page_token
        if not token:
            break
    assert pages == whole and len(whole) == 12
    older = api.history(thread, before_checkpoint_id=whole[3])
    assert [c.checkpoint_id for c in older] == whole[4:]


def test_an_update_is_written_as_a_node(api):
    thread = api.thread()
    api.stream("steps", {}, modes=["updates"], thread_id=thread, interrupt_before=["two"])
    before = api.state(thread)
    made = api.update(thread, {"log": ["by hand"]}, as_node="two", expected_checkpoint_id=before.checkpoint_id)
    after = api.state(thread)
    assert (after.checkpoint_id, after.source) == (made.checkpoint_id, state_pb2.CHECKPOINT_SOURCE_UPDATE)
    assert read(after.values)["log"] == ["one", "by hand"] and list(after.next) == ["three"]
    with refused("CHECKPOINT_CHANGED", "ABORTED"):
        api.update(thread, {"log": ["late"]}, as_node="two", expected_checkpoint_id=before.checkpoint_id)
    with refused("NODE_UNKNOWN", "INVALID_ARGUMENT"):
        api.update(thread, {"log": []}, as_node="tow")
    with refused("INVALID_UPDATE", "INVALID_ARGUMENT"):
        api.update(thread, {"log": "no list"}, as_node="two")
    assert api.state(thread) == after, "a refused update changed something"


def test_a_run_forks_from_an_older_checkpoint(api):
    thread = api.thread()
    api.stream("steps", {}, thread_id=thread)
    after_one = next(c for c in api.history(thread) if list(c.next) == ["two"])
    parts = api.stream("steps", modes=["updates"], thread_id=thread, checkpoint_id=after_one.checkpoint_id)
    assert [u.node for u in of(parts, "update")] == ["two", "three"]
    assert read(api.state(thread).values)["log"] == ["one", "two", "three"]
    assert len(api.history(thread)) > 5, "the old branch stays"


def test_a_busy_thread_is_not_written(api):
    thread = api.thread()
    stream = api.open(spec("slow", {}, modes=["updates"], thread_id=thread))
    run_id = next(p.run_id for p in stream if kind(p) == "update")
    with refused("THREAD_BUSY", "ABORTED"):
        api.update(thread, {"log": ["by hand"]}, as_node="begin")
    api.cancel(run_id)


def test_threads_are_created_listed_changed_copied_and_deleted(api):
    mark = new_id()
    thread_id = new_id()
    made = api.thread(thread_id=thread_id, metadata=text({"mark": mark, "n": LAST}))
    assert made == thread_id
    with refused("THREAD_EXISTS", "ALREADY_EXISTS"):
        api.thread(thread_id=thread_id)
    assert api.thread(thread_id=thread_id, if_exists="IF_EXISTS_RETURN") == thread_id
    api.stream("echo", {"given": 1}, thread_id=thread_id)

    def listed(metadata, **fields):
        request = threads_pb2.ListThreadsRequest(metadata_filter=text(metadata), json_encoding=TEXT, **fields)
        return api.threads.ListThreads(request, timeout=TIMEOUT).threads
    (found,) = listed({"mark": mark}, include_values=True, status="THREAD_STATUS_IDLE")
    assert read(found.metadata)["n"] == LAST and read(found.values)["given"] == 1 and found.graph_name == "echo"
    assert not listed({"mark": mark}, status="THREAD_STATUS_BUSY")

    change = threads_pb2.UpdateThreadRequest(thread=threads_pb2.Thread(thread_id=thread_id, metadata=text({"more": True})))
    change.update_mask.paths.extend(["metadata.more", "metadata.n"])
    change.json_encoding = TEXT
    changed = api.threads.UpdateThread(change, timeout=TIMEOUT).thread
    stored = read(changed.metadata)
    assert (stored["mark"], stored["more"]) == (mark, True) and "n" not in stored

    copy = api.threads.CopyThread(threads_pb2.CopyThreadRequest(thread_id=thread_id), timeout=TIMEOUT).thread.thread_id
    assert read(api.state(copy).values) == read(api.state(thread_id).values)
    api.stream("echo", {"given": 2}, thread_id=copy)
    assert read(api.state(thread_id).values)["given"] == 1, "the copy is its own"

    api.threads.DeleteThread(threads_pb2.DeleteThreadRequest(thread_id=thread_id), timeout=TIMEOUT)
    with refused("THREAD_NOT_FOUND", "NOT_FOUND"):
        api.state(thread_id)


NUMBERS = '{"a":9223372036854775807,"b":9007199254740993,"c":1.0,"d":0.1,"e":1e300,"f":-9223372036854775808,"g":[1,2.5,null,true]}'


def exact(given):
    """Equal, and integers are integers."""
    return json.dumps(json.loads(given), sort_keys=True)


def test_g30_numbers_come_out_as_they_went_in(api):
    thread = api.thread()
    run = run_pb2.RunSpec(graph_name="echo", thread_id=thread, input=json_pb2.Json(json='{"given":%s}' % NUMBERS))
    parts = list(api.open(run))
    for state in (of(parts, "value")[-1].state, api.state(thread).values):
        assert exact(json.dumps(json.loads(state.json)["given"])) == exact(NUMBERS)


def test_g30_auto_is_exact_too(api):
    for number in ("9007199254740993", "1.0"):
        run = run_pb2.RunSpec(graph_name="echo", input=json_pb2.Json(json='{"given":%s}' % number))
        state = of(list(api.open(run, json_encoding=0)), "value")[-1].state
        assert state.WhichOneof("encoding") == "json" and f'"given":{number}' in state.json.replace(" ", "")


def test_g30_value_says_what_it_cannot_hold(api):
    run = run_pb2.RunSpec(graph_name="echo", thread_id=api.thread(), input=text({"given": 2**53 + 1}))
    parts = list(api.open(run, json_encoding="JSON_ENCODING_VALUE"))
    omitted = [p.omitted for p in parts if p.HasField("omitted")]
    assert omitted and {o.reason for o in omitted} == {error_reason_pb2.ERROR_REASON_JSON_NOT_EXACT}
    assert parts[-1].end.state == stream_pb2.RUN_STATE_SUCCEEDED
    request = threads_pb2.GetStateRequest(thread_id=run.thread_id, json_encoding="JSON_ENCODING_VALUE")
    with refused("JSON_NOT_EXACT", "FAILED_PRECONDITION"):
        api.threads.GetState(request, timeout=TIMEOUT)


@pytest.mark.parametrize("given", [{"n": 1}, {"n": 1.5, "deep": [[["x"]]]}, "text", None, True, []])
def test_a_tree_is_taken_as_well_as_text(api, given):
    run = run_pb2.RunSpec(graph_name="echo")
    run.input.value.struct_value.update({"given": given})
    answer = api.wait(run)
    assert read(answer.values)["given"] == given
    # A tree's objects have no order.
    assert exact(json.dumps(read(answer.values)["given"])) == exact(json.dumps(given)), "an integer has become a float"
