"""A server as grpcurl shows it: found by reflection, asked in JSON."""
import json, subprocess, uuid

import pytest

DEADLINE = 120


@pytest.fixture(scope="module")
def grpcurl(server):
    """Runs grpcurl against the server. Gives its exit code, and what it wrote to either side."""
    def run(*arguments, given=None):
        request = [] if given is None else ["-d", json.dumps(given)]
        words = ["grpcurl", "-plaintext", *request, server.address, *arguments]
        done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE)
        return done.returncode, done.stdout, done.stderr
    return run


@pytest.fixture(scope="module")
def call(grpcurl):
    """Calls a method that goes well. Gives its answers."""
    def call(method, given=None):
        code, out, err = grpcurl(method, given=given or {})
        assert code == 0, err
        return messages(out)
    return call


def messages(out):
    """The JSON objects of a text, one after the other."""
    found, at, decoder = [], 0, json.JSONDecoder()
    while at < len(out.rstrip()):
        message, at = decoder.raw_decode(out, at)
        found.append(message)
        while at < len(out) and out[at].isspace():
            at += 1
    return found


def test_services_are_listed(grpcurl):
    code, out, err = grpcurl("list")
    assert code == 0, err
    services = set(out.split())
    assert {"runloom.v1.Runs", "runloom.v1.Threads", "runloom.v1.Assistants", "runloom.v1.Graphs", "runloom.v1.Store", "runloom.v1.Crons", "grpc.health.v1.Health"} <= services


@pytest.mark.parametrize("symbol", ["runloom.v1.Runs", "runloom.v1.Runs.StreamRun", "runloom.v1.RunSpec", "runloom.v1.StreamRunResponse"])
def test_everything_is_described(grpcurl, symbol):
    code, out, err = grpcurl("describe", symbol)
    assert code == 0, err
    assert symbol.rpartition(".")[2] in out


def test_the_server_is_healthy(call):
    assert call("grpc.health.v1.Health/Check") == [{"status": "SERVING"}]


def test_graphs_are_listed(call):
    (answer,) = call("runloom.v1.Graphs/ListGraphs")
    assert "agent" in [g["name"] for g in answer["graphs"]]


def test_a_run_streams(call):
    parts = call("runloom.v1.Runs/StreamRun", {
        "run": {
            "graph_name": "agent", "input": {"value": {"messages": [{"role": "user", "content": "What is the weather?"}]}},
            "stream_modes": ["STREAM_MODE_MESSAGES", "STREAM_MODE_CUSTOM", "STREAM_MODE_UPDATES"],
        },
    })
    assert "metadata" in parts[0] and parts[-1]["end"]["state"] == "RUN_STATE_SUCCEEDED"
    said = "".join(b.get("text", "") for p in parts for b in p.get("messageChunk", {}).get("content", [])
                   if p["messageChunk"].get("toolCallId") is None)
    assert said.endswith("A light jacket will do.")
    assert [p["custom"]["payload"]["value"]["progress"] for p in parts if "custom" in p] == [0.1, 0.9]
    assert [p["update"]["node"] for p in parts if "update" in p] == ["agent", "tools", "agent"]


def test_g9_a_run_is_joined_from_a_cursor(call):
    parts = call("runloom.v1.Runs/StreamRun", {"run": {"graph_name": "joke", "input": {"json": "{\"topic\": \"tea\"}"}}})
    joined = call("runloom.v1.Runs/JoinRun", {"run_id": parts[0]["runId"], "cursor": parts[1]["cursor"]})
    assert joined[1:] == parts[2:]


def test_a_question_is_answered(call):
    (made,) = call("runloom.v1.Threads/CreateThread")
    thread = made["thread"]["threadId"]
    run = {"graph_name": "approval", "thread_id": thread}
    (asked,) = call("runloom.v1.Runs/WaitRun", {"run": {**run, "input": {"value": {"topic": "tea"}}}})
    assert asked["end"]["state"] == "RUN_STATE_AWAITING_INPUT"
    assert asked["interrupts"][0]["value"]["value"]["question"] == "Publish this?"
    (state,) = call("runloom.v1.Threads/GetState", {"thread_id": thread})
    assert state["checkpoint"]["next"] == ["ask"]
    (done,) = call("runloom.v1.Runs/WaitRun", {"run": {**run, "command": {"resume": {"value": {"approved": True}}}}})
    assert done["values"]["value"]["status"] == "published"


def test_errors_say_what_is_wrong(grpcurl):
    code, _, err = grpcurl("runloom.v1.Threads/GetThread", given={"thread_id": str(uuid.uuid4())})
    assert code != 0 and "NotFound" in err and "THREAD_NOT_FOUND" in err
    code, _, err = grpcurl("runloom.v1.Runs/StreamRun", given={"run": {"thread_id": "x", "durability": 9}})
    assert code != 0 and "InvalidArgument" in err
    for field in ("run.thread_id", "run.durability", "run.target"):
        assert field in err, err
