"""The tests of tools use the server of the tests in Python, with MCP servers beside it."""
import json, os, pathlib, socket, subprocess, sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))
from server import DEADLINE, ROOT, Server, free_port  # noqa: E402

MOODY = HERE / "servers" / "moody.py"
# Where `./test tools` puts what npm installs.
NODE = pathlib.Path(os.environ.get("RUNLOOM_TEST_TOOLS") or ROOT / "target" / "tools" / "mcp") / "node_modules" / ".bin"


class Ear:
    """Receives the reports of an MCP server."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(DEADLINE)
        self.port, self.line = self.listener.getsockname()[1], None

    def next(self):
        """The next line; empty when the process has gone."""
        if self.line is None:
            connection, _ = self.listener.accept()
            connection.settimeout(DEADLINE)
            self.line = connection.makefile()
        try:
            return self.line.readline().strip()
        except ConnectionError:
            return ""


@pytest.fixture
def ear():
    ear = Ear()
    yield ear
    ear.listener.close()


class Moody:
    """The server that is written here, over one of the two transports."""

    def __init__(self, transport):
        self.transport, self.process, self.port = transport, None, free_port()
        if transport == "http":
            self.start()
            self.config = {"type": "http", "url": f"http://127.0.0.1:{self.port}/mcp"}
        else:
            self.config = {"command": sys.executable, "args": [str(MOODY)]}

    def start(self):
        """Starts the one that is called; one that is started is Runloom's own to start."""
        if self.transport != "http":
            return
        self.process = subprocess.Popen([sys.executable, MOODY, "--http", str(self.port)], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "Uvicorn running" in line:
                return
        raise AssertionError("the MCP server does not start")

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()


@pytest.fixture(params=["stdio", "http"])
def moody(request):
    moody = Moody(request.param)
    yield moody
    moody.stop()


@pytest.fixture
def served(moody, tmp_path):
    """A server of the graph `tools`, whose MCP server is moody."""
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"moody": moody.config}}))
    with Server("--mcp", str(config), "--data", ":memory:", graphs=HERE / "graphs") as server:
        yield server
