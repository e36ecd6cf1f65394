"""Client and workers for Runloom, a server for agent graphs.

`Client` is for asyncio, `SyncClient` is the same without it.
"""

from . import errors, types
from ._async.client import Client
from ._async.stream import RunStream
from ._sync.client import SyncClient
from ._sync.stream import SyncRunStream
from .codec import NULL
from .errors import RunloomError
from .options import Options, Retry, Tls
from .types import (
    Checkpoint,
    Custom,
    End,
    Event,
    Interrupt,
    Media,
    MessageChunk,
    Metadata,
    OtherBlock,
    Part,
    Progress,
    Reasoning,
    Run,
    RunResult,
    State,
    Task,
    Text,
    Thread,
    ToolCallChunk,
    Update,
    Usage,
    Value,
)
from .worker import END, START, Command, Context, Graph, Result, Send, TaskCancelled, TaskError, Worker

__all__ = [
    "END",
    "START",
    "Command",
    "Context",
    "Graph",
    "Result",
    "Send",
    "TaskCancelled",
    "TaskError",
    "Worker",
    "Checkpoint",
    "Client",
    "Custom",
    "End",
    "Event",
    "Interrupt",
    "Media",
    "MessageChunk",
    "Metadata",
    "NULL",
    "Options",
    "OtherBlock",
    "Part",
    "Progress",
    "Reasoning",
    "Retry",
    "Run",
    "RunResult",
    "RunStream",
    "RunloomError",
    "State",
    "SyncClient",
    "SyncRunStream",
    "Task",
    "Text",
    "Thread",
    "Tls",
    "ToolCallChunk",
    "Update",
    "Usage",
    "Value",
    "errors",
    "types",
]
