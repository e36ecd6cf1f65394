"""LangGraph graphs, as they are, on a Runloom server: `serve({"agent": graph}, "localhost:50051")`.

The server runs the graph: supersteps, checkpoints, streams, questions. The nodes run here.
"""

from .serving import Unsupported, serve, worker
from .store import RunloomStore

__all__ = ["RunloomStore", "Unsupported", "serve", "worker"]
