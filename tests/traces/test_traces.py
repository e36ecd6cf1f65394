"""One trace from the caller to the model and the tool."""
import json, urllib.request, uuid

import pytest

from wire import TIMEOUT, Api, runs_pb2, spec

INPUT = {"messages": [{"role": "human", "content": "Is it nice out?"}]}


def context():
    """A caller's trace: its id, the id of its span, and the header with both."""
    trace, span = uuid.uuid4().hex, uuid.uuid4().hex[:16]
    return trace, span, f"00-{trace}-{span}-01"


def over_http(server, header):
    request = urllib.request.Request(f"http://{server.http}/runs/wait", json.dumps({"assistant_id": "traced", "input": INPUT}).encode(),
                                     {"content-type": "application/json", "traceparent": header, "tracestate": "vendor=1"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def stream(server, graph, given, header=None):
    """The parts of a run over gRPC, asked for as part of a trace."""
    api = Api(server.address)
    try:
        metadata = [("traceparent", header), ("tracestate", "vendor=1")] if header else []
        return list(api.runs.StreamRun(runs_pb2.StreamRunRequest(run=spec(graph, given)), metadata=metadata, timeout=TIMEOUT))
    finally:
        api.close()


def over_grpc(server, header):
    return stream(server, "traced", INPUT, header)


@pytest.mark.parametrize("call", [over_http, over_grpc])
def test_a_call_is_one_trace_to_the_model_and_the_tool(server, collector, outside, call):
    trace, caller, header = context()
    call(server, header)
    spans = collector.trace(trace, last="invoke_agent traced")
    run = spans["invoke_agent traced"]
    assert run["Parent ID"] == caller
    assert run["attributes"]["gen_ai.operation.name"] == "invoke_agent"
    assert run["attributes"]["runloom.run.status"] == "succeeded"
    assert (run["attributes"]["gen_ai.usage.input_tokens"], run["attributes"]["gen_ai.usage.output_tokens"]) == (14, 6)
    of = {span["ID"]: span for span in collector.spans() if span["Trace ID"] == trace}
    above = lambda span: of[span["Parent ID"]]
    chats = [span for span in of.values() if span["Name"] == "chat tiny"]
    assert len(chats) == 2
    for chat in chats:
        attributes = chat["attributes"]
        assert chat["Kind"] == "SPAN_KIND_CLIENT"
        assert (attributes["gen_ai.operation.name"], attributes["gen_ai.provider.name"], attributes["gen_ai.request.model"]) == ("chat", "openai", "tiny")
        assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (7, 3)
        assert above(chat)["Name"] == "task agent" and above(above(chat))["Name"].startswith("superstep ")
        assert above(above(above(chat)))["ID"] == run["ID"]
    tool = spans["execute_tool weather"]
    assert tool["attributes"]["gen_ai.tool.name"] == "weather" and above(tool)["Name"] == "task tools"
    # Each called service received the span of its caller.
    received = lambda kind: [headers.get("traceparent") or headers.get("Traceparent") for name, headers in outside.calls if name == kind]
    assert sorted(received("model")) == sorted(f"00-{trace}-{chat['ID']}-01" for chat in chats)
    assert received("tool") == [f"00-{trace}-{tool['ID']}-01"]
    assert "Is it nice out?" not in "\n".join(collector.lines) and "It is fine." not in "\n".join(collector.lines), "content is not exported"


def test_a_failure_is_told_by_its_kind_alone(server, collector):
    trace, _, header = context()
    end = stream(server, "fails", {"secret": "sesame"}, header)[-1].end
    assert "sesame" in end.error.message, "the caller receives the message"
    spans = collector.trace(trace, last="invoke_agent fails")
    for name in ["invoke_agent fails", "task one"]:
        assert (spans[name]["Status code"], spans[name]["attributes"]["error.type"]) == ("STATUS_CODE_ERROR", "ValueError")
    assert "sesame" not in "\n".join(collector.lines)


@pytest.mark.parametrize("header", [None, "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_run_without_a_callers_trace_begins_its_own(server, collector, header):
    runs = lambda: [span for span in collector.spans() if span.get("Name") == "invoke_agent fails" and "Status code" in span]
    before = len(runs())
    stream(server, "fails", {"secret": "x"}, header)
    assert collector.until(lambda: runs()[before:])[-1]["Parent ID"] in ("", "0" * 16)
