"""Workers: nodes, tools, routes and reducers of graphs, in Python."""

from .context import Context, MessageWriter
from .document import Graph
from .outcome import END, START, Command, Interrupted, Result, Send, TaskCancelled, TaskError
from .worker import Worker

__all__ = [
    "END",
    "START",
    "Command",
    "Context",
    "Graph",
    "Interrupted",
    "MessageWriter",
    "Result",
    "Send",
    "TaskCancelled",
    "TaskError",
    "Worker",
]
