"""Runs: created once, one at a time, answered, cancelled, left."""
import threading

import grpc
import pytest

from wire import (
    TEXT, TIMEOUT, Failure, check_stream, kind, logged, new_id, of, read, refused, run_pb2, runs_pb2, spec, stream_pb2, text, threads_pb2, until,
)

S = stream_pb2
# Longer than any test waits, in milliseconds: what is to last until it is ended.
LONG = 3_600_000


def test_wait_gives_the_state_and_the_end(api):
    thread = api.thread()
    answer = api.wait(spec("echo", {"given": {"a": [1, 2.5, None]}}, thread_id=thread))
    assert read(answer.values) == {"given": {"a": [1, 2.5, None]}, "count": 1}
    assert (answer.run.state, answer.end.state) == (S.RUN_STATE_SUCCEEDED, S.RUN_STATE_SUCCEEDED)
    again = api.wait(run_id=answer.run.run_id)
    assert again.end == answer.end and read(again.values) == read(answer.values)


def test_wait_tells_of_a_failure_as_data(api):
    answer = api.wait(spec("fails", {"words": "oh no"}, thread_id=api.thread()))
    assert answer.run.state == S.RUN_STATE_FAILED and "oh no" in answer.end.error.message


def test_a_stateless_run_has_a_thread_of_its_own(api):
    answer = api.wait(spec("echo", {"given": 1}))
    assert answer.run.thread_id and read(answer.values)["given"] == 1
    listed = api.threads.ListThreads(threads_pb2.ListThreadsRequest(page_size=1000), timeout=TIMEOUT).threads
    assert answer.run.thread_id not in {t.thread_id for t in listed}


def test_runs_are_listed_newest_first(api):
    thread = api.thread()
    ids = [api.wait(spec("echo", {"given": i}, thread_id=thread)).run.run_id for i in range(3)]

    def page(token=""):
        return api.runs.ListRuns(runs_pb2.ListRunsRequest(thread_id=thread, page_size=2, page_token=token), timeout=TIMEOUT)
    first = page()
    second = page(first.next_page_token)
    assert [r.run_id for r in [*first.runs, *second.runs]] == ids[::-1] and not second.next_page_token
    with refused("PAGE_TOKEN_INVALID", "INVALID_ARGUMENT"):
        api.runs.ListRuns(runs_pb2.ListRunsRequest(page_size=2, page_token=first.next_page_token), timeout=TIMEOUT)


def test_g21_the_same_request_id_is_the_same_run(api):
    run = spec("echo", {"given": 1}, modes=["values"], thread_id=api.thread(), request_id=new_id())
    parts = list(api.open(run))
    again = list(api.open(run))
    assert logged(again) == logged(parts), "the stream of the same run from its start"
    created = api.runs.CreateRun(runs_pb2.CreateRunRequest(run=run), timeout=TIMEOUT).run
    waited = api.wait(run).run
    assert {created.run_id, waited.run_id} == {parts[0].run_id}
    other = run_pb2.RunSpec()
    other.CopyFrom(run)
    other.input.CopyFrom(text({"given": 2}))
    with refused("REQUEST_ID_REUSED", "ALREADY_EXISTS") as failure:
        list(api.open(other))
    assert failure.info.metadata["run_id"] == parts[0].run_id
    assert failure.info.metadata["request_id"] == run.request_id


def test_g21_after_a_restart(own_server, connect):
    api = connect(own_server)
    run = spec("echo", {"given": 1}, thread_id=api.thread(), request_id=new_id())
    run_id = api.wait(run).run.run_id
    own_server.kill()
    own_server.start()
    assert connect(own_server).wait(run).run.run_id == run_id


def test_g22_a_thread_runs_one_at_a_time_in_order(api):
    thread = api.thread()
    first = api.open(spec("slow", {"ms": 300}, modes=["updates"], thread_id=thread))
    until(first, lambda p: kind(p) == "update")
    ids = [api.create("slow", {"ms": 0}, thread_id=thread).run_id for _ in range(3)]
    waiting = api.open_join(ids[0])
    opened = next(waiting)
    assert opened.metadata.state == S.RUN_STATE_PENDING and opened.attempt == 0
    list(waiting)
    list(first)
    runs = [api.wait(run_id=i).run for i in ids]
    begun = [r.begin_time.ToNanoseconds() for r in runs]
    ended = [r.end_time.ToNanoseconds() for r in runs]
    assert begun == sorted(begun) and all(e <= b for e, b in zip(ended, begun[1:]))


def test_multitask_reject_interrupt_and_rollback(api):
    thread = api.thread()

    def begin():
        stream = api.open(spec("slow", {"ms": 60_000}, modes=["updates"], thread_id=thread))
        return stream, until(stream, lambda p: kind(p) == "update")[0].run_id
    stream, active = begin()
    with refused("THREAD_BUSY", "ABORTED") as failure:
        list(api.open(spec("slow", {"ms": 0}, thread_id=thread, multitask_strategy="MULTITASK_STRATEGY_REJECT")))
    assert failure.info.metadata["run_id"] == active
    for strategy, mode in (("INTERRUPT", S.CANCEL_MODE_INTERRUPT), ("ROLLBACK", S.CANCEL_MODE_ROLLBACK)):
        newer = api.wait(spec("slow", {"ms": 0}, thread_id=thread, multitask_strategy=f"MULTITASK_STRATEGY_{strategy}"))
        assert newer.run.state == S.RUN_STATE_SUCCEEDED
        end = list(stream)[-1].end
        assert end.state == S.RUN_STATE_CANCELLED
        assert (end.cancellation.cause, end.cancellation.mode) == (S.CANCEL_CAUSE_NEWER_RUN, mode)
        if strategy == "INTERRUPT":
            stream, active = begin()
    with refused("RUN_NOT_FOUND", "NOT_FOUND"):
        api.run(active)


def test_g23_a_cancel_ends_the_run_and_says_so(api):
    thread = api.thread()
    stream = api.open(spec("slow", {}, modes=["updates", "custom"], thread_id=thread))
    seen = until(stream, lambda p: kind(p) == "custom")
    run = api.cancel(seen[0].run_id)
    assert run.state == S.RUN_STATE_CANCELLED
    parts = seen + list(stream)
    check_stream(parts)
    end = parts[-1].end
    assert (end.state, end.cancellation.cause) == (S.RUN_STATE_CANCELLED, S.CANCEL_CAUSE_REQUEST)
    # Its work stays, and the thread goes on from there.
    assert read(api.state(thread).values)["log"] == ["begun"] and list(api.state(thread).next) == ["wait"]
    # Twice is no error, nor is a run that has ended otherwise.
    assert api.cancel(seen[0].run_id).state == S.RUN_STATE_CANCELLED
    ended = api.wait(spec("echo", {"given": 1})).run.run_id
    assert api.cancel(ended).state == S.RUN_STATE_SUCCEEDED
    with refused("RUN_NOT_FOUND", "NOT_FOUND"):
        api.cancel(new_id())


def test_g23_a_queued_run_is_cancelled_too(api):
    thread = api.thread()
    stream = api.open(spec("slow", {}, modes=["updates"], thread_id=thread))
    active = until(stream, lambda p: kind(p) == "update")[0].run_id
    queued = api.create("slow", {"ms": 0}, thread_id=thread).run_id
    assert api.cancel(queued).state == S.RUN_STATE_CANCELLED
    assert api.join(queued)[-1].end.state == S.RUN_STATE_CANCELLED
    api.cancel(active)


def test_g24_a_rollback_leaves_nothing(api):
    thread = api.thread()
    api.stream("echo", {"given": "before"}, thread_id=thread)
    before = api.state(thread)
    stream = api.open(spec("slow", {}, modes=["updates"], thread_id=thread))
    seen = until(stream, lambda p: kind(p) == "update")
    api.cancel(seen[0].run_id, mode="ROLLBACK")
    assert list(stream)[-1].end.cancellation.mode == S.CANCEL_MODE_ROLLBACK
    assert api.state(thread) == before
    with refused("RUN_NOT_FOUND", "NOT_FOUND"):
        list(api.open_join(seen[0].run_id))


def follow(api, thread):
    """The stream of a thread: it does not count as a reader of its runs."""
    stream = api.threads.StreamThread(threads_pb2.StreamThreadRequest(thread_id=thread, json_encoding=TEXT), timeout=TIMEOUT)
    assert kind(next(stream)) == "progress"
    return stream


def test_g25_a_run_goes_on_without_readers(api):
    thread = api.thread()
    watch = follow(api, thread)
    stream = api.open(spec("slow", {"ms": 300}, modes=["updates"], thread_id=thread))
    until(stream, lambda p: kind(p) == "metadata")
    stream.cancel()
    assert until(watch, lambda p: kind(p) == "end")[-1].end.state == S.RUN_STATE_SUCCEEDED
    watch.cancel()


def test_g25_a_deadline_is_a_reader_that_leaves(api):
    # A deadline that leaves the server the time to make the run, however slow the machine is.
    for deadline in (0.5, 2, 8, 32):
        request = runs_pb2.StreamRunRequest(run=spec("slow", {"ms": LONG}, modes=["updates"], thread_id=api.thread()))
        seen = []
        with pytest.raises(grpc.RpcError) as caught:
            seen.extend(api.runs.StreamRun(request, timeout=deadline))
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        if any(kind(part) == "update" for part in seen):
            break
    # Its only reader has left; the run continues until it is cancelled.
    run_id = seen[0].run_id
    assert api.run(run_id).state == S.RUN_STATE_RUNNING
    api.cancel(run_id)
    assert api.wait(run_id=run_id).end.cancellation.cause == S.CANCEL_CAUSE_REQUEST


def test_g25_on_disconnect_cancels_after_the_grace(api):
    thread = api.thread()
    watch = follow(api, thread)
    run = spec("slow", {"ms": LONG}, modes=["updates"], thread_id=thread, on_disconnect="ON_DISCONNECT_CANCEL")
    run.disconnect_grace_duration.FromMilliseconds(200)
    stream = api.open(run)
    until(stream, lambda p: kind(p) == "update")
    stream.cancel()
    end = until(watch, lambda p: kind(p) == "end")[-1].end
    watch.cancel()
    assert (end.state, end.cancellation.cause) == (S.RUN_STATE_CANCELLED, S.CANCEL_CAUSE_DISCONNECT)


def test_g25_a_reader_that_comes_back_in_time_keeps_the_run(api):
    run = spec("slow", {"ms": 1500}, modes=["updates"], thread_id=api.thread(), on_disconnect="ON_DISCONNECT_CANCEL")
    run.disconnect_grace_duration.FromMilliseconds(LONG)
    stream = api.open(run)
    seen = until(stream, lambda p: kind(p) == "update")
    stream.cancel()
    assert api.join(seen[0].run_id, seen[-1].cursor)[-1].end.state == S.RUN_STATE_SUCCEEDED


def answer(value=None, *, by_id=None, **fields):
    command = run_pb2.Command(**fields)
    if value is not None:
        command.resume.CopyFrom(text(value))
    for key, given in (by_id or {}).items():
        command.resume_by_id[key].CopyFrom(text(given))
    return command


def test_a_question_stops_the_run_and_its_answer_goes_on(api):
    thread = api.thread()
    parts = api.stream("approval", {"topic": "tea"}, modes=["updates"], thread_id=thread)
    end = parts[-1].end
    assert end.state == S.RUN_STATE_AWAITING_INPUT
    (question,) = end.interrupts
    asked = read(question.value)
    assert asked["question"] == "Publish this?" and asked["tries"] == 1 and question.node == "ask" and question.id
    assert list(of(parts, "update")[-1].interrupts) == [question]
    state = api.state(thread)
    assert list(state.next) == ["ask"] and list(state.interrupts) == [question]
    read_thread = api.threads.GetThread(threads_pb2.GetThreadRequest(thread_id=thread), timeout=TIMEOUT).thread
    assert read_thread.status == threads_pb2.THREAD_STATUS_INTERRUPTED and read_thread.interrupts[0].id == question.id

    parts = api.stream("approval", command=answer({"approved": False, "note": "shorter"}), modes=["updates"], thread_id=thread)
    (question,) = parts[-1].end.interrupts
    assert read(question.value)["tries"] == 2
    parts = api.stream("approval", command=answer({"approved": True}), modes=["values"], thread_id=thread)
    assert parts[-1].end.state == S.RUN_STATE_SUCCEEDED
    final = read(of(parts, "value")[-1].state)
    assert (final["status"], final["notes"]) == ("published", ["shorter"])
    with refused("NOTHING_TO_RESUME", "FAILED_PRECONDITION"):
        list(api.open(spec("approval", thread_id=thread)))


def test_several_questions_are_answered_by_their_ids(api):
    thread = api.thread()
    end = api.stream("two_questions", {}, modes=["updates"], thread_id=thread)[-1].end
    ids = {read(q.value): q.id for q in end.interrupts}
    assert set(ids) == {"a?", "b?"}
    with refused("QUESTION_AMBIGUOUS", "FAILED_PRECONDITION") as failure:
        list(api.open(spec("two_questions", command=answer(1), thread_id=thread)))
    assert set(failure.info.metadata["question_ids"].split(",")) == set(ids.values())
    with refused("QUESTION_UNKNOWN", "FAILED_PRECONDITION"):
        list(api.open(spec("two_questions", command=answer(by_id={"nobody": 1}), thread_id=thread)))
    end = api.stream("two_questions", command=answer(by_id={ids["a?"]: 1}), thread_id=thread)[-1].end
    assert [q.id for q in end.interrupts] == [ids["b?"]], "a question left out stays open"
    parts = api.stream("two_questions", command=answer(by_id={ids["b?"]: 2}), thread_id=thread)
    assert read(of(parts, "value")[-1].state)["both"] == [1, 2]


def test_g26_an_answer_to_an_old_question_does_nothing(api):
    thread = api.thread()
    asked = api.stream("approval", {}, thread_id=thread)[-1].end.checkpoint_id
    command = answer({"approved": True}, expected_checkpoint_id=asked)
    api.stream("approval", command=answer({"approved": False}), thread_id=thread)
    before = api.state(thread)
    with refused("CHECKPOINT_CHANGED", "ABORTED") as failure:
        list(api.open(spec("approval", command=command, thread_id=thread)))
    assert failure.info.metadata["expected_checkpoint_id"] == asked
    assert failure.info.metadata["checkpoint_id"] == before.checkpoint_id
    assert api.state(thread) == before
    command.expected_checkpoint_id = before.checkpoint_id
    assert api.stream("approval", command=command, thread_id=thread)[-1].end.state == S.RUN_STATE_SUCCEEDED


def test_g26_of_many_answers_at_once_one_counts(api):
    thread = api.thread()
    asked = api.stream("approval", {}, thread_id=thread)[-1].end.checkpoint_id
    outcomes = []

    def give():
        command = answer({"approved": True}, expected_checkpoint_id=asked)
        try:
            end = api.wait(spec("approval", command=command, thread_id=thread)).end
            # One that waited for its turn while another answered has been created, and fails when its turn comes.
            outcomes.append("counted" if end.state == S.RUN_STATE_SUCCEEDED else Failure.of_status(end.error).reason)
        except grpc.RpcError as error:
            outcomes.append(Failure(error).reason)
    threads = [threading.Thread(target=give) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(outcomes) == ["CHECKPOINT_CHANGED"] * 7 + ["counted"]


def test_breakpoints_stop_and_a_run_without_input_goes_on(api):
    thread = api.thread()
    parts = api.stream("steps", {}, modes=["updates"], thread_id=thread, interrupt_before=["two"], interrupt_after=["two"])
    assert [u.node for u in of(parts, "update") if u.node] == ["one"]
    assert parts[-1].end.state == S.RUN_STATE_AWAITING_INPUT and not parts[-1].end.interrupts
    parts = api.stream("steps", modes=["updates"], thread_id=thread, interrupt_after=["two"])
    assert [u.node for u in of(parts, "update") if u.node] == ["two"]
    parts = api.stream("steps", modes=["updates"], thread_id=thread)
    assert [u.node for u in of(parts, "update")] == ["three"] and parts[-1].end.state == S.RUN_STATE_SUCCEEDED


def test_a_failed_run_is_tried_again_from_where_it_failed(api):
    thread = api.thread()
    api.stream("fails", {"words": "not yet"}, thread_id=thread)
    fixed = run_pb2.Command()
    fixed.update.CopyFrom(text({"words": ""}))
    parts = api.stream("fails", command=fixed, modes=["updates"], thread_id=thread)
    assert parts[-1].end.state == S.RUN_STATE_SUCCEEDED
    assert read(api.state(thread).values)["log"] == ["fine", "went through"]
