"""The metrics at `/metrics`, the dashboard that uses them, and the log."""
import json, pathlib, re, urllib.request

from test_traces import over_http, stream
from wire import TIMEOUT, Api, kind, runs_pb2, spec, until

DASHBOARD = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "runloom.json"


def metrics(server, query=""):
    with urllib.request.urlopen(f"http://{server.http}/metrics{query}", timeout=60) as answer:
        return answer.read().decode()


def samples(server):
    """All samples: their values by name and labels."""
    lines = [line for line in metrics(server).splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_what_runs_do_is_counted(server):
    before = samples(server)
    over_http(server, "")
    stream(server, "fails", {"secret": "sesame"})
    now = samples(server)
    more = lambda name: now.get(name, 0) - before.get(name, 0)
    assert more('runloom_runs_ended_total{graph="traced",status="succeeded"}') == 1
    assert more('runloom_runs_ended_total{graph="fails",status="failed"}') == 1
    assert more("runloom_supersteps_total") == 3, "one that fails is not taken"
    assert more('runloom_model_calls_total{provider="openai",model="tiny",outcome="ok"}') == 2
    assert more('runloom_model_tokens_total{provider="openai",model="tiny",kind="input"}') == 14
    assert more('runloom_tool_calls_total{tool="weather",outcome="ok"}') == 1
    for name in ["runloom_checkpoint_bytes_total", "runloom_log_bytes_total", "runloom_store_commit_seconds_count", "runloom_run_queue_wait_seconds_count",
                 'runloom_model_time_to_first_token_seconds_count{provider="openai",model="tiny"}']:
        assert more(name) > 0, name
    assert now["runloom_store_errors_total"] == 0 and now["runloom_store_up"] == 1
    assert now['runloom_runs{status="pending"}'] == now['runloom_runs{status="running"}'] == 0
    of_queue = json.loads(metrics(server, "?format=json"))
    assert of_queue["queue"] == {"n_pending": 0, "n_running": 0} and of_queue["workers"]["available"] == of_queue["workers"]["max"]


def test_a_call_of_a_model_that_is_cancelled_is_counted(server):
    api = Api(server.address)
    parts = api.runs.StreamRun(runs_pb2.StreamRunRequest(run=spec("speaks", {"messages": []}, modes=["events"])), timeout=TIMEOUT)
    run_id = until(parts, lambda part: kind(part) == "event" and part.event.name == "ScriptedModel")[-1].run_id
    api.cancel(run_id)
    api.close()
    assert samples(server)['runloom_model_calls_total{provider="scriptedmodel",model="scripted",outcome="cancelled"}'] == 1


def test_an_open_stream_and_a_first_token_are_counted(server):
    body = json.dumps({"assistant_id": "traced", "input": {"messages": [{"role": "human", "content": "hi"}]}, "stream_mode": "messages-tuple", "after_seconds": 0.5})
    request = urllib.request.Request(f"http://{server.http}/runs/stream", body.encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert samples(server)['runloom_streams_open{api="http"}'] == 1
        answer.read()
    now = samples(server)
    assert now['runloom_streams_open{api="http"}'] == 0
    assert now["runloom_run_time_to_first_token_seconds_count"] == 1


def test_the_dashboard_uses_exported_metrics(server):
    over_http(server, "")
    body = json.dumps({"assistant_id": "traced", "input": {"messages": []}, "stream_mode": "messages-tuple"}).encode()
    urllib.request.urlopen(urllib.request.Request(f"http://{server.http}/runs/stream", body, {"content-type": "application/json"}), timeout=60).read()
    exported = set(re.findall(r"^# TYPE (\w+) (?:counter|gauge|histogram)$", metrics(server), re.M))
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for query in queries for name in re.findall(r"runloom_\w+", query)}
    assert shown <= exported, f"not exported: {shown - exported}"
    assert exported - shown <= {"runloom_checkpoints_total", "runloom_log_records_total", "runloom_store_commits_total"}, "the dashboard shows the rest"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)) and dashboard["schemaVersion"] and dashboard["uid"]


def test_the_log_tells_of_which_run_it_speaks_and_no_content(server):
    run_id = stream(server, "fails", {"secret": "sesame"})[-1].run_id
    server.stop()
    lines = [json.loads(line) for line in server.output().splitlines() if line.startswith("{")]
    assert lines and all("timestamp" in line and "level" in line for line in lines)
    failed, = [line for line in lines if line["message"] == "a run failed"]
    assert (failed["run"], failed["graph"], failed["error"]) == (run_id, "fails", "ValueError") and failed["thread"]
    assert "sesame" not in server.output()
