"""MCP servers, over standard input and output and over streamable HTTP: one written for these tests, and two others."""
import base64, json, os, signal, subprocess, sys, time

import pytest
from langgraph_sdk import get_sync_client

from conftest import HERE, NODE, Moody
from server import BINARY


def message(*calls):
    calls = [{"name": name, "args": args, "id": f"c{i}"} for i, (name, args) in enumerate(calls)]
    return {"messages": [{"role": "assistant", "content": "", "tool_calls": calls}]}


def client(server):
    return get_sync_client(url=f"http://{server.http}")


def call(server, *calls):
    """The tool messages that answer calls, in their order."""
    return client(server).runs.wait(None, "tools", input=message(*calls))["messages"][1:]


def call_one(server, name, **args):
    return call(server, (name, args))[0]


def test_tools_are_described_and_their_arguments_checked_as_the_server_says(served):
    wrong, right = call(served, ("count", {"to": "many"}), ("count", {"to": 0}))
    assert wrong["status"] == "error"
    assert "'count'" in wrong["content"] and "to: \"many\" is not of type \"integer\"" in wrong["content"]
    assert (right["status"], right["content"], right["name"]) == ("success", "0", "count")


def test_progress_is_custom_data_while_the_call_is_under_way(served):
    parts = client(served).runs.stream(None, "tools", input=message(("count", {"to": 50})), stream_mode=["custom", "values"])
    parts = [part for part in parts if part.event in ("custom", "values")]
    progress = [part.data for part in parts if part.event == "custom"]
    assert progress == [{"tool": "count", "tool_call_id": "c0", "progress": i, "total": 50, "message": f"at {i}"} for i in range(1, 51)]
    assert parts[-1].event == "values"


def test_what_a_tool_gives_is_content_and_artifact(served):
    picture, counted = call(served, ("picture", {}), ("count", {"to": 2}))
    png = base64.b64encode(b"\x89PNG").decode()
    assert picture["content"] == [{"type": "text", "text": "a point"}, {"type": "image", "base64": png, "mime_type": "image/png"}]
    assert counted["artifact"] == {"structured_content": {"result": 2}}


def test_a_tool_that_fails_tells_the_model_why(served):
    answer = call_one(served, "fail", why="no such thing")
    assert answer["status"] == "error" and "no such thing" in answer["content"]


def test_a_server_that_dies_fails_the_call_and_is_there_for_the_next(served, moody):
    before = call_one(served, "which")["content"]
    began = time.monotonic()
    answer = call_one(served, "die")
    assert answer["status"] == "error" and "MCP server `moody`" in answer["content"], answer
    assert time.monotonic() - began < 20
    moody.start()
    after = call_one(served, "which")
    assert after["status"] == "success" and after["content"] != before, after


def test_a_run_that_is_cancelled_cancels_the_call(served, ear):
    api = client(served)
    thread = api.threads.create()["thread_id"]
    run = api.runs.create(thread, "tools", input=message(("hang", {"port": ear.port})))
    assert ear.next() == "hanging"
    api.runs.cancel(thread, run["run_id"], wait=False)
    assert ear.next() == "cancelled"


def test_a_call_without_a_sign_of_life_ends_at_its_time_and_is_cancelled(served, ear):
    answer = call_one(served, "wait_a_little", port=ear.port)
    assert answer["status"] == "error" and "no sign of life within 300ms" in answer["content"]
    assert (ear.next(), ear.next()) == ("hanging", "cancelled")
    assert call_one(served, "which")["status"] == "success"


class TestOwnProcess:
    """What is true of a server that Runloom starts."""

    @pytest.fixture(params=["stdio"])
    def moody(self, request):
        return Moody(request.param)

    def test_one_that_dies_again_and_again_is_started_ever_later(self, served):
        assert call_one(served, "die")["status"] == "error"
        assert call_one(served, "die")["status"] == "error"
        answer = call_one(served, "die")
        assert "is started again in 1 s at the earliest" in answer["content"], answer

    def test_it_is_given_no_keys(self, served):
        names = call_one(served, "environment")["artifact"]["structured_content"]["result"]
        # What the server of the tests is started with.
        assert "PATH" in names and "RUNLOOM_HTTP" not in names, names

    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
    def test_it_ends_with_runloom(self, served, ear, how):
        assert call_one(served, "hold", port=ear.port)["content"] == "held"
        assert ear.next() == "held"
        served.process.send_signal(how)
        served.process.wait(60)
        assert ear.next() == ""


def run(*arguments, **more):
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=120, **more)


def test_a_server_that_does_not_start_is_a_fault_of_the_documents_that_use_it(tmp_path):
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"moody": {"command": sys.executable, "args": ["-c", "raise SystemExit(1)"]}}}))
    checked = run("graph", "check", HERE / "graphs", "--mcp", config)
    assert checked.returncode == 1
    assert "tool `count`, mcp: MCP server `moody` cannot be used: it does not begin to speak MCP" in checked.stdout, checked.stdout
    config.write_text(json.dumps({"mcpServers": {"mody": {"command": "/no/such/program"}}}))
    checked = run("graph", "check", HERE / "graphs", "--mcp", config)
    assert "there is no MCP server `moody` in the operator's file (--mcp); did you mean `mody`?" in checked.stdout
    config.write_text("{")
    refused = run("serve", "--mcp", config)
    assert refused.returncode == 2 and "invalid --mcp" in refused.stderr and "EOF" in refused.stderr, refused


AGENT = """
runloom: v1
name: librarian
description: An agent with tools of two published MCP servers.
state:
  messages: { reducer: messages }
models:
  bot:
    scripted:
      responses:
        - tool_calls:
            - { name: write_file, args: { path: FOLDER/note.txt, content: "It is noon in London." } }
            - { name: convert_time, args: { source_timezone: Europe/London, time: "12:00", target_timezone: Asia/Tokyo } }
        - tool_calls:
            - { name: read, args: { path: FOLDER/note.txt } }
            - { name: read, args: { path: /etc/passwd } }
        - content: done
tools:
  write_file: { mcp: { server: files } }
  read: { mcp: { server: files, tool: read_text_file } }
  convert_time: { mcp: { server: time } }
nodes:
  think: { chat_model: { model: bot, tools: [write_file, read, convert_time] } }
  act: { tools: {} }
edges:
  - { from: START, to: think }
  - { from: think, route: 'size(state.messages[size(state.messages) - 1].tool_calls) > 0 ? "act" : "END"', to: [act, END] }
  - { from: act, to: think }
"""


def test_an_agent_uses_servers_that_nobody_here_wrote(tmp_path):
    folder, graphs = tmp_path / "files", tmp_path / "graphs"
    folder.mkdir()
    graphs.mkdir()
    (graphs / "librarian.yaml").write_text(AGENT.replace("FOLDER", str(folder)))
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {
        "files": {"command": str(NODE / "mcp-server-filesystem"), "args": ["${FOLDER}"]},
        "time": {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]},
    }}))
    ran = run("run", "librarian", "What time is it in Tokyo?", "--graphs", graphs, "--mcp", config, "--json", "--mode", "values",
              env={**os.environ, "FOLDER": str(folder)})
    assert ran.returncode == 0, ran.stderr
    values = [json.loads(line)["value"] for line in ran.stdout.splitlines() if '"value":' in line]
    tools = [m for m in values[-1]["state"]["messages"] if m["type"] == "tool"]
    written, converted, read, refused = tools
    assert written["status"] == "success" and (folder / "note.txt").read_text() == "It is noon in London."
    assert converted["artifact"]["structured_content"]["target"]["timezone"] == "Asia/Tokyo"
    assert read["content"] == "It is noon in London."
    assert refused["status"] == "error" and "Access denied" in refused["content"], refused
