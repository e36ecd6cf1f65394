"""Fixtures: a collector, the services that runs call, and a server that exports its spans to the collector."""
import pathlib, sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
from fixtures import pytest_configure, pytest_runtest_makereport  # noqa: E402,F401
from server import Server  # noqa: E402

from collector import Collector  # noqa: E402
from outside import Outside  # noqa: E402


@pytest.fixture(scope="session")
def collector():
    collector = Collector()
    yield collector
    collector.stop()


@pytest.fixture
def outside():
    outside = Outside()
    yield outside
    outside.stop()


@pytest.fixture
def server(collector, outside, tmp_path, monkeypatch):
    """A server whose spans go to the collector."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("RUNLOOM_LOG_FORMAT", "json")
    graphs = tmp_path / "graphs"
    graphs.mkdir()
    (graphs / "traced.yaml").write_text(outside.document())
    (graphs / "fails.yaml").write_text("""
runloom: v1
name: fails
state: { secret: {} }
nodes: { one: { fail: '"no good: " + state.secret' } }
edges: [ { from: START, to: one } ]
""")
    (graphs / "speaks.yaml").write_text("""
runloom: v1
name: speaks
state: { messages: { reducer: messages } }
models: { bot: { scripted: { responses: [ { content: one two three four five six seven } ], delay_ms: 60000 } } }
nodes: { say: { chat_model: { model: bot } } }
edges: [ { from: START, to: say } ]
""")
    with Server("--egress-allow", "127.0.0.1", graphs=graphs) as server:
        yield server
