"""What a handler returns or raises, and the message that it becomes."""
from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Union

from ..codec import fill, to_json
from ..v1 import workers_pb2

START, END = "__start__", "__end__"
MAX_DETAILS = 60_000

# A coder turns a value of the handler into one of JSON.
Coder = Callable[[Any], Any]


@dataclass(slots=True)
class Send:
    """A node to run next, on an input of its own."""

    node: str
    input: Any = None


Goto = Union[str, Send]


@dataclass(slots=True)
class Command:
    """Writes, and where the graph goes next beside its edges. With `parent`, both are for the graph that contains this subgraph."""

    update: Any = None
    goto: Goto | Sequence[Goto] = field(default_factory=list)
    parent: bool = False


@dataclass(slots=True)
class Result:
    """A tool's result: `content` is for the model, `artifact` is not sent to it."""

    content: Any
    artifact: Any = None
    is_error: bool = False
    command: Command | None = None


class TaskError(Exception):
    """Fails a task, and says how. An exception of any other type fails it as the node's retry policy says."""

    def __init__(self, message: str, *, type: str | None = None, retry: bool | None = None, retry_delay: float | None = None) -> None:
        super().__init__(message)
        self.type, self.retry, self.retry_delay = type or self.__class__.__name__, retry, retry_delay


class Interrupted(BaseException):
    """A question was asked that has no answer yet. Derives from BaseException so that `except Exception` does not catch it."""

    def __init__(self, questions: list[dict[str, Any]]) -> None:
        super().__init__(questions)
        self.questions = questions


class TaskCancelled(BaseException):
    """The task of a sync handler was cancelled. Raised by the methods of its context."""


def gotos(value: Any, code: Coder = lambda v: v) -> list[Any]:
    """The next nodes, from a name, a Send, or a list of them."""
    if value is None:
        return []
    made = []
    for one in [value] if isinstance(value, (str, Send)) else value:
        if isinstance(one, str):
            made.append(workers_pb2.Route(goto=[{"node": one}]).goto[0])
        elif isinstance(one, Send):
            made.append(fill(workers_pb2.Route().goto.add(), {"node": one.node, "input": to_json(code(one.input))}))
        else:
            raise TypeError(f"a node to run next is its name or a Send, not {one!r}")
    return made


def node_update(value: Any) -> Any:
    """The writes of a node: None, an object, a Command, or a list of these."""
    made = workers_pb2.NodeUpdate()
    parts = value if isinstance(value, list) else [value]
    updates = []
    for part in parts:
        if isinstance(part, Command):
            made.goto.extend(gotos(part.goto))
            made.to_parent |= part.parent
            part = part.update
        if isinstance(part, list):
            updates.extend(part)
        elif part is not None:
            updates.append(part)
    for update in updates:
        if not isinstance(update, dict):
            raise TypeError(f"a node returns an object of writes by channel, a Command, or None, not {type(update).__name__}")
    if updates:
        made.update.CopyFrom(to_json(updates[0] if len(updates) == 1 else updates))
    return made


def done(kind: Literal["node", "tool", "route", "reducer"], token: bytes, value: Any) -> Any:
    """The outcome of a handler that has returned."""
    message = workers_pb2.Done(token=token)
    if kind == "node":
        message.update.CopyFrom(node_update(value))
        message.update.SetInParent()
    elif kind == "route":
        message.route.goto.extend(gotos(value))
        message.route.SetInParent()
    elif kind == "reducer":
        message.value.CopyFrom(to_json(value))
    else:
        result = value if isinstance(value, Result) else Result("", command=value) if isinstance(value, Command) else Result(value)
        fields = {"content": to_json(result.content), "artifact": result.artifact, "is_error": result.is_error}
        fill(message.tool_result, fields)
        if result.command is not None:
            message.tool_result.command.CopyFrom(node_update(result.command))
    return message


def interrupts(token: bytes, questions: list[dict[str, Any]]) -> Any:
    """The outcome of a handler that asks."""
    message = workers_pb2.Done(token=token)
    for question in questions:
        value = to_json(question["value"])
        fields = {"index": question["index"], "value": value, "response_schema": question.get("response_schema")}
        fill(message.interrupts.questions.add(), fields)
    return message


def failure(token: bytes, error: BaseException) -> Any:
    """The outcome of a handler that has raised."""
    message = workers_pb2.Done(token=token)
    details = "".join(traceback.format_exception(type(error), error, error.__traceback__))[-MAX_DETAILS:]
    fields: dict[str, Any] = {"type": type(error).__name__, "message": str(error), "details": details}
    if isinstance(error, TaskError):
        retryable = {True: "retryable_yes", False: "retryable_no"}.get(error.retry)  # type: ignore[arg-type]
        fields |= {"type": error.type, "retry_delay": error.retry_delay}
        if retryable:
            fields["retryable"] = workers_pb2.Retryable.Value(retryable.upper())
    fill(message.failure, fields)
    return message
