"""The channels of a document as LangGraph's: a state is a TypedDict whose fields carry their reducers."""
from __future__ import annotations

import operator
from typing import Annotated, Any

from langchain_core.messages import AnyMessage
from langgraph._internal._typing import MISSING
from langgraph.channels import BinaryOperatorAggregate, EphemeralValue, LastValue, UntrackedValue
from langgraph.graph.message import add_messages
from pydantic import WithJsonSchema
from typing_extensions import TypedDict

TYPES = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict}


def merge(a: dict, b: dict) -> dict:
    return {**a, **b}


# LangGraph asks a reducer for its signature, and the built-in ones have none.
def most(a: Any, b: Any) -> Any:
    return max(a, b)


def least(a: Any, b: Any) -> Any:
    return min(a, b)


REDUCERS = {"append": (list, operator.add), "add": (int, operator.add), "max": (int, most), "min": (int, least), "merge": (dict, merge)}


def field(channel: dict | None) -> Any:
    """The type of a channel, as a field of a TypedDict."""
    channel = channel or {}
    reducer, schema = channel.get("reducer", "replace"), channel.get("schema") or {}
    typ = TYPES.get(schema.get("type"), Any)
    shown = [WithJsonSchema(schema)] if schema else []
    if reducer == "messages":
        kind: Any = add_messages
        typ, shown = list[AnyMessage], []
    elif reducer in REDUCERS:
        known, kind = REDUCERS[reducer]
        typ = typ if typ in (int, float) and known is int else known
    elif reducer == "ephemeral": kind = EphemeralValue(typ)
    elif reducer == "untracked": kind = UntrackedValue(typ)
    else: return Annotated[typ, *shown] if shown else typ
    if "default" in channel and reducer in REDUCERS: kind = with_default(BinaryOperatorAggregate(typ, kind), channel["default"])
    return Annotated[typ, *shown, kind]


def state(name: str, channels: dict, only: list[str] | None = None) -> type:
    chosen = {c: field(channels[c]) for c in (channels if only is None else only)}
    return TypedDict(name, chosen, total=False)


def with_default(channel: Any, default: Any) -> Any:
    """LangGraph's channels start as their type does; this one starts as the document says."""
    base = type(channel)

    class Defaulted(base):
        def from_checkpoint(self, checkpoint):
            made = super().from_checkpoint(checkpoint)
            if checkpoint is MISSING: made.value = default
            return made

    Defaulted.__name__ = base.__name__
    args = (channel.typ, channel.operator) if isinstance(channel, BinaryOperatorAggregate) else (channel.typ,)
    made = Defaulted(*args)
    made.value = default
    return made


def defaults(compiled: Any, channels: dict) -> None:
    """Gives the channels without a reducer what they hold before the first write."""
    for name, channel in channels.items():
        known = compiled.channels.get(name)
        if (channel or {}).get("default") is not None and type(known) is LastValue:
            compiled.channels[name] = with_default(known, channel["default"])
            compiled.channels[name].key = name
