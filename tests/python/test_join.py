"""Streams that are joined again: after a cut, after the end, after a restart, after a crash."""
import grpc
import pytest

from wire import TEXT, TIMEOUT, Failure, check_stream, kind, logged, read, refused, runs_pb2, spec, stream_pb2, threads_pb2, until

ASKED = {"messages": [{"role": "user", "content": "What's the weather?"}]}


def test_g9_a_join_from_any_cursor_gives_exactly_the_rest(api):
    live = api.stream("agent", ASKED, modes=["updates", "custom", "values", "tasks"])
    for at, part in enumerate(live[:-1]):
        joined = api.join(part.run_id, part.cursor)
        assert joined[0].metadata.state == stream_pb2.RUN_STATE_SUCCEEDED
        assert joined[1:] == live[at + 1:], f"after part {part.seq}"


def test_g9_tokens_join_in_the_middle_of_a_message(api):
    live = api.stream("agent", ASKED, modes=["messages"])
    chunks = [p for p in live if kind(p) == "message_chunk"]
    cut = chunks[len(chunks) // 2]
    joined = api.join(cut.run_id, cut.cursor)
    rest = [p for p in joined if kind(p) == "message_chunk"]
    assert [p.seq for p in rest] == [p.seq for p in chunks if p.seq > cut.seq]
    # The first chunk after a join says again whose it is.
    assert rest[0].message_chunk.node == "agent" and rest[0].message_chunk.role


def test_g9_a_cut_stream_goes_on_where_it_was_cut_while_the_run_goes(api):
    stream = api.open(spec("agent", ASKED, modes=["messages", "updates"]))
    seen = until(stream, lambda p: kind(p) == "update")
    stream.cancel()
    rest = api.join(seen[0].run_id, seen[-1].cursor)
    numbers = [p.seq for p in logged(seen + rest)]
    assert numbers == list(range(1, len(numbers) + 1)), "a part is missing, or came twice"
    assert rest[-1].end.state == stream_pb2.RUN_STATE_SUCCEEDED


def test_g7_readers_beside_each_other_see_the_same(api):
    first = api.open(spec("agent", ASKED, modes=["messages"]))
    opened = until(first, lambda p: kind(p) == "metadata")
    second = api.open_join(opened[0].run_id)
    live, joined = opened + list(first), list(second)
    assert joined[1:] == live[1:]


def test_g9_an_ended_run_gives_only_its_end(api):
    live = api.stream("echo", {"given": 1})
    joined = api.join(live[0].run_id, live[-2].cursor)
    assert [kind(p) for p in joined] == ["metadata", "end"]
    assert joined[1] == live[-1]


def test_g12_a_join_may_ask_for_fewer_modes_but_not_for_others(api):
    live = api.stream("agent", ASKED, modes=["updates", "custom"])
    fewer = api.join(live[0].run_id, modes=["custom"], whole=False)
    assert {kind(p) for p in fewer} == {"metadata", "custom", "end"}
    assert [p for p in fewer if kind(p) == "custom"] == [p for p in live if kind(p) == "custom"]
    with refused("MODES_NOT_RECORDED", "FAILED_PRECONDITION") as failure:
        list(api.open_join(live[0].run_id, modes=["custom", "values"]))
    assert {m.strip().lower() for m in failure.info.metadata["stream_modes"].split(",")} == {"updates", "custom"}


def test_a_cursor_of_another_run_is_refused(api):
    one, other = (api.stream("echo", {"given": 1}) for _ in range(2))
    with refused("CURSOR_INVALID", "INVALID_ARGUMENT"):
        list(api.open_join(one[0].run_id, other[1].cursor))
    with refused("CURSOR_INVALID", "INVALID_ARGUMENT"):
        list(api.open_join(one[0].run_id, "not a cursor"))


def test_a_thread_streams_all_its_runs(api):
    thread = api.thread()
    request = threads_pb2.StreamThreadRequest(thread_id=thread, json_encoding=TEXT)
    stream = api.threads.StreamThread(request, timeout=TIMEOUT)
    assert kind(next(stream)) == "progress"
    api.stream("echo", {"given": 1}, thread_id=thread)
    first = until(stream, lambda p: kind(p) == "end")
    api.stream("echo", {"given": 2}, thread_id=thread)
    second = until(stream, lambda p: kind(p) == "end")
    stream.cancel()
    for parts in (first, second):
        check_stream([p for p in parts if kind(p) != "progress"])
    assert first[0].run_id != second[0].run_id
    # From a cursor in the middle of the first run.
    request.cursor = first[1].cursor
    again = api.threads.StreamThread(request, timeout=TIMEOUT)
    rest = [p for p in until(again, lambda p: kind(p) == "end" and p.run_id == second[0].run_id) if kind(p) != "progress"]
    again.cancel()
    assert [(p.run_id, p.seq) for p in rest if p.seq] == [(p.run_id, p.seq) for p in first[2:] + second if p.seq]


def test_g9_after_a_restart(own_server, connect):
    api = connect(own_server)
    live = api.stream("agent", ASKED, modes=["updates", "messages"], thread_id=api.thread())
    assert own_server.stop() == 0
    own_server.start()
    api = connect(own_server)
    for at in (0, 1, len(live) // 2, len(live) - 2):
        joined = api.join(live[0].run_id, live[at].cursor)
        assert [p.seq for p in joined[1:]] == [p.seq for p in live[at + 1:]]
    assert api.join(live[0].run_id)[1:] == live[1:]


def test_g11_a_server_that_drains_says_where_to_join(own_server, connect):
    api = connect(own_server)
    stream = api.open(spec("slow", {"ms": 2000}, modes=["updates", "custom"], thread_id=api.thread()))
    seen = until(stream, lambda p: kind(p) == "custom")
    own_server.terminate()
    with pytest.raises(grpc.RpcError) as caught:
        seen.extend(stream)
    failure = Failure(caught.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING"), failure.message
    assert failure.retry is not None and failure.info.metadata["cursor"] == seen[-1].cursor
    assert own_server.process.wait(60) == 0
    own_server.start()
    rest = connect(own_server).join(seen[0].run_id, failure.info.metadata["cursor"])
    assert rest[-1].end.state == stream_pb2.RUN_STATE_SUCCEEDED
    assert min(p.seq for p in rest if p.seq) > seen[-1].seq


@pytest.mark.parametrize("durability", ["SYNC", "ASYNC", "EXIT"])
def test_g13_g14_a_crash_is_taken_up_again(own_server, connect, durability):
    api = connect(own_server)
    thread = api.thread()
    run = spec("steps", {"ms": 1500}, modes=["updates", "custom"], thread_id=thread, durability=f"DURABILITY_{durability}")
    stream = api.open(run)
    seen = until(stream, lambda p: kind(p) == "custom" and read(p.custom.payload) == "three")
    own_server.kill()
    with pytest.raises(grpc.RpcError):
        list(stream)
    own_server.start()
    rest = list(connect(own_server).open_join(seen[0].run_id, seen[-1].cursor))
    check_stream(rest, joined=True)
    attempts = [p.metadata.attempt for p in rest if kind(p) == "metadata" and p.seq]
    assert attempts == [2], "readers receive the new attempt"
    assert rest[-1].end.state == stream_pb2.RUN_STATE_SUCCEEDED
    assert min(p.seq for p in rest if p.seq) > max(p.seq for p in seen), "a number was used twice"
    # Done work is not done again, except with EXIT: all of it is.
    redone = [read(p.custom.payload) for p in rest if kind(p) == "custom"]
    assert redone[-1] == "three"
    if durability == "SYNC":
        assert redone == ["three"]
        again = next(p for p in rest if kind(p) == "custom")
        before = next(p for p in reversed(seen) if kind(p) == "custom")
        assert (again.task_id, again.step) == (before.task_id, before.step) and again.task_attempt > before.task_attempt
    elif durability == "EXIT":
        assert redone == ["one", "two", "three"]
    # What counts, counts once.
    assert read(connect(own_server).state(thread).values)["log"] == ["one", "two", "three"]


def test_g17_what_was_answered_is_there_after_a_crash(own_server, connect):
    api = connect(own_server)
    thread = api.thread()
    run_id = api.create("slow", {"ms": 100}, thread_id=thread).run_id
    own_server.kill()
    own_server.start()
    api = connect(own_server)
    assert api.run(run_id).thread_id == thread
    assert api.wait(run_id=run_id).end.state == stream_pb2.RUN_STATE_SUCCEEDED


def test_g10_a_run_that_was_deleted_is_not_found(api):
    live = api.stream("echo", {"given": 1}, thread_id=api.thread())
    api.runs.DeleteRun(runs_pb2.DeleteRunRequest(run_id=live[0].run_id), timeout=TIMEOUT)
    with refused("RUN_NOT_FOUND", "NOT_FOUND"):
        list(api.open_join(live[0].run_id))
