"""Functions of a worker: how they are called, and what is known of them."""
from __future__ import annotations

import enum
import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

Kind = Literal["node", "tool", "route", "reducer"]
SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", dict: "object", list: "array"}


@dataclass(slots=True)
class HandlerSpec:
    """A function with its name, kind and schemas."""

    function: Callable[..., Any]
    name: str
    kind: Kind
    description: str
    input_schema: Any
    output_schema: Any
    is_async: bool
    takes_context: bool

    def call(self, given: Any, context: Any) -> Any:
        """Calls the function: a tool with its arguments by name, any other with its input."""
        if self.kind == "tool":
            arguments = {**given, "ctx": context} if self.takes_context else given
            return self.function(**arguments)
        if self.kind == "reducer":
            return self.function(*given)
        return self.function(given, context) if self.takes_context else self.function(given)


def handler(function: Callable[..., Any], kind: Kind, name: str | None, given: dict[str, Any]) -> HandlerSpec:
    """Describes a function as a handler."""
    parameters = list(inspect.signature(function).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_context = any(p.name == "ctx" for p in parameters) if kind == "tool" else len(positional) > 1
    if kind in ("node", "route") and not positional:
        raise TypeError(f"{kind} {function.__name__!r} takes the state, and may take the context: def {function.__name__}(state, ctx)")
    if kind == "reducer" and len(positional) != 2:
        raise TypeError(f"reducer {function.__name__!r} takes the present value and a write: def {function.__name__}(left, right)")
    input_schema = given.get("input_schema")
    if input_schema is None and kind == "tool":
        input_schema = arguments_schema(function)
    called = inspect.unwrap(function)
    return HandlerSpec(
        function=function,
        name=name or str(getattr(function, "__name__", type(function).__name__)),
        kind=kind,
        description=given.get("description") or inspect.getdoc(called) or "",
        input_schema=input_schema,
        output_schema=given.get("output_schema"),
        is_async=inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(getattr(called, "__call__", None)),  # noqa: B004
        takes_context=takes_context,
    )


def arguments_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """The JSON Schema of a function's arguments, from their types."""
    hints = typing.get_type_hints(function, include_extras=True)
    properties: dict[str, Any] = {}
    required = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "ctx":
            continue
        properties[parameter.name] = schema(hints.get(parameter.name, Any))
        if parameter.default is inspect.Parameter.empty:
            required.append(parameter.name)
        elif parameter.default is not None:
            properties[parameter.name] = {**properties[parameter.name], "default": parameter.default}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def schema(hint: Any) -> dict[str, Any]:
    """The JSON Schema of a type; one that has none is any value."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is typing.Annotated:
        texts = [a for a in arguments[1:] if isinstance(a, str)]
        return {**schema(arguments[0]), **({"description": texts[0]} if texts else {})}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema(a) for a in arguments]}
    if origin in (list, typing.Sequence) or hint is list:
        return {"type": "array", **({"items": schema(arguments[0])} if arguments else {})}
    if origin is dict:
        return {"type": "object", **({"additionalProperties": schema(arguments[1])} if len(arguments) == 2 else {})}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    if isinstance(hint, type) and hasattr(hint, "model_json_schema"):
        return typing.cast("dict[str, Any]", hint.model_json_schema())
    return {"type": SIMPLE[hint]} if hint in SIMPLE else {}
