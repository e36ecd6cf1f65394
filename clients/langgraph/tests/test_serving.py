"""What cannot be served is refused with its reason; a project's file; workers that go; nodes that run graphs themselves."""
import asyncio
import json
import operator
import os
import signal
import subprocess
import sys
import textwrap
from typing import Annotated

import pytest
from langgraph.channels import Topic
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from runloom import Custom, Update
from scenarios import REFUSED, SCENARIOS
from test_parts import Serving
from typing_extensions import TypedDict

import runloom_langgraph
from runloom_langgraph import Unsupported
from runloom_langgraph.values import Codec, decode, encode


class State(TypedDict):
    log: Annotated[list[str], operator.add]


def one(node, **options):
    return StateGraph(State).add_node("one", node, **options).add_edge(START, "one").compile()


def refused(graph, why, name="g"):
    with pytest.raises(Unsupported, match=why):
        runloom_langgraph.worker({name: graph})


def test_what_cannot_be_served_is_refused_with_a_reason():
    for name in REFUSED:
        refused(SCENARIOS[name]().graph, "graph 'g', channel 'best': the reducer 'longest' runs where writes are combined")

    class WithTopic(TypedDict):
        log: Annotated[list[str], Topic(str)]

    topic = StateGraph(WithTopic).add_node("one", lambda state: None).add_edge(START, "one").compile()
    refused(topic, "channel 'log': the channel class Topic cannot be served")
    inner = StateGraph(State).add_node("one", lambda state: None).add_edge(START, "one").compile(checkpointer=InMemorySaver())
    refused(one(inner), "node 'one': a subgraph with a checkpointer of its own")
    refused(one(lambda state: None), "lower-case letters", name="My Graph")
    refused(StateGraph(State), "a StateGraph: only a compiled StateGraph")

    @entrypoint()
    def functional(given):
        return given

    refused(functional, "functional API")


@pytest.mark.parametrize("value", [1, 1.5, "x", None, [1, {"a": [True]}], {"set": {1, 2}}, {"bytes": b"x"}, {"type": "human", "x": 1}])
def test_values_are_the_same_after_a_round_trip(value):
    assert decode(json.loads(json.dumps(encode(value)))) == value
    assert Codec(None).decode(Codec(None).encode(value)) == value


async def test_a_graph_that_a_node_runs_itself(server, client):
    inner = one(lambda state: {"log": ["inner"]})

    async def outer(state):
        return {"log": (await inner.ainvoke({"log": []}))["log"]}

    async with Serving(server.address, one(outer)) as graph:
        stream = client.runs.stream(graph, {"log": []}, stream_modes=["updates"], stream_subgraphs=True)
        parts = [(p.namespace, p.payload) async for p in stream]
        updates = [(bool(namespace), p.node, p.update) for namespace, p in parts if isinstance(p, Update)]
    assert updates[-1] == (False, "one", {"log": ["inner"]})
    assert (True, "one", {"log": ["inner"]}) in updates


PROJECT = """
from typing import Annotated
import operator, os, time
from typing_extensions import TypedDict
from langgraph.graph import START, StateGraph
from langgraph.config import get_stream_writer

class State(TypedDict):
    log: Annotated[list[str], operator.add]

def work(state):
    get_stream_writer()({"by": os.getpid()})
    time.sleep(0.5)
    return {"log": [os.environ["GREETING"]]}

graph = StateGraph(State).add_node(work).add_edge(START, "work").compile()

def make(config):
    return StateGraph(State).add_node("work", lambda state: {"log": ["made"]}).add_edge(START, "work")
"""


async def test_a_project_is_served_and_drains(server, client, tmp_path):
    (tmp_path / "agent.py").write_text(textwrap.dedent(PROJECT))
    (tmp_path / ".env").write_text("# comment\nGREETING='hello'\n")
    graphs = {"project-agent": "./agent.py:graph", "project-made": {"path": "./agent.py:make"}}
    (tmp_path / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs, "env": ".env"}))
    command = [sys.executable, "-m", "runloom_langgraph.project", str(tmp_path / "langgraph.json")]
    worker = subprocess.Popen([*command, "--address", server.address, "--queue", "project"], stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout.readline().startswith("serving project-agent, project-made")
        while not [w async for w in client.workers.list(queue="project")]:
            await asyncio.sleep(0.05)
        assert (await client.runs.wait("project-made", {"log": []})).values == {"log": ["made"]}
        async for part in client.runs.stream("project-agent", {"log": []}, stream_modes=["custom", "values"]):
            if isinstance(part.payload, Custom):
                os.kill(worker.pid, signal.SIGTERM)
                run_id = part.run_id
        assert (await client.runs.wait_for(run_id)).values == {"log": ["hello"]}
        assert worker.wait(30) == 0
    finally:
        worker.kill()


def test_a_project_with_errors_says_what_is_wrong(tmp_path):
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"agent": "./nowhere.py:graph"}}))
    command = [sys.executable, "-m", "runloom_langgraph.project", str(tmp_path / "langgraph.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "graph 'agent': there is no file" in done.stderr


