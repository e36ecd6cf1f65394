"""LangGraph against Runloom: the same graphs, part by part in every mode, and the state and the history."""
import asyncio
import re
import uuid

import pytest
from compare import MODES, named, on_langgraph, on_runloom
from runloom import Client
from scenarios import REFUSED, SCENARIOS

import runloom_langgraph


class Serving:
    """Serves a graph under a name and a queue of its own while the block runs."""

    def __init__(self, address, graph):
        self.name = re.sub("[^a-z0-9]", "-", f"g{uuid.uuid4()}")
        self.worker = runloom_langgraph.worker({self.name: graph}, address, queue=self.name)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.worker.serve())
        async with Client(self.worker.address) as client:
            while not [w async for w in client.workers.list(queue=self.name)]:
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.02)
        return self.name

    async def __aexit__(self, *_):
        self.worker.drain()
        await asyncio.wait_for(self.task, 30)


COMPARED = [name for name in SCENARIOS if name not in REFUSED]


def of_mode(parts, mode):
    return named([(namespace, payload) for m, namespace, payload in parts if m == mode])


@pytest.mark.parametrize("name", COMPARED)
async def test_parts(server, client, name):
    scenario = SCENARIOS[name]()
    wanted, wanted_state, wanted_history = await on_langgraph(scenario)
    async with Serving(server.address, scenario.graph) as graph:
        got, state, history = await on_runloom(client, graph, scenario)
    differences = []
    for turn, (one, other) in enumerate(zip(wanted, got, strict=True)):
        for mode in MODES:
            left, right = of_mode(one, mode), of_mode(other, mode)
            if left != right and mode not in scenario.skip:
                differences.append(f"turn {turn}, {mode}:\n  LangGraph {left}\n  Runloom   {right}")
    if named(state) != named(wanted_state):
        differences.append(f"state:\n  LangGraph {wanted_state}\n  Runloom   {state}")
    if named(history) != named(wanted_history):
        differences.append(f"history:\n  LangGraph {wanted_history}\n  Runloom   {history}")
    assert not differences, "\n".join(differences)
