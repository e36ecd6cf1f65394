"""Serves graphs: their documents go to the server, their nodes are handlers of a worker."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runloom import Context, Worker

from .document import Document, Unsupported
from .task import Served

__all__ = ["Unsupported", "serve", "worker"]


def worker(graphs: Mapping[str, Any], address: str = "localhost:50051", *, queue: str = "langgraph", **options: Any) -> Worker:
    """A worker for compiled graphs by name: `await worker.serve()`, or `worker.run()`. Raises `Unsupported`.

    `options`: those of `runloom.Worker`. Workers of one queue must serve the same graphs.
    """
    made = Worker(address, queue=queue, **options)
    for name, graph in graphs.items():
        for document in Document(name, graph, queue).all():
            register(made, document)
    return made


def serve(graphs: Mapping[str, Any], address: str = "localhost:50051", **options: Any) -> None:
    """Serves compiled graphs by name until the process gets SIGTERM or SIGINT."""
    worker(graphs, address, **options).run()


def register(made: Worker, document: Document) -> None:
    """Registers the handlers of a graph, and brings its document."""
    served = Served(document)
    for node in document.graph.builder.nodes:
        if node not in document.subgraphs:
            made.node(node_handler(served, node), name=document.handler(node), description=f"node {node} of graph {document.name}")
    for name, (source, _, branch) in document.routes.items():
        made.route(route_handler(served, source, branch), name=name)
    made.graph(document.document)


def node_handler(served: Served, node: str) -> Callable[..., Any]:
    async def run(state: Any, ctx: Context) -> Any:
        return await served.node(node, state, ctx)

    return run


def route_handler(served: Served, source: str, branch: Any) -> Callable[..., Any]:
    async def run(state: Any, ctx: Context) -> Any:
        return await served.route(source, branch, state, ctx)

    return run
