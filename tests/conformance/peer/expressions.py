"""CEL over plain JSON: a text is an expression, anything else stands for itself."""
from __future__ import annotations

from typing import Any, Callable

import celpy
from celpy import celtypes
from langchain_core.messages import BaseMessage

Given = Callable[[dict], Any]


def plain(value: Any) -> Any:
    """A state as JSON: messages as the objects that they are sent as."""
    if isinstance(value, BaseMessage): return plain(value.model_dump())
    if isinstance(value, dict): return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)): return [plain(v) for v in value]
    return value


def from_cel(value: Any) -> Any:
    if isinstance(value, Exception): raise value  # within a map, an error is a value at first
    if isinstance(value, (bool, celtypes.BoolType)): return bool(value)
    if isinstance(value, celtypes.MapType): return {from_cel(k): from_cel(v) for k, v in value.items()}
    if isinstance(value, celtypes.ListType): return [from_cel(v) for v in value]
    if isinstance(value, celtypes.StringType): return str(value)
    if isinstance(value, (celtypes.IntType, celtypes.UintType)): return int(value)
    if isinstance(value, celtypes.DoubleType): return float(value)
    return value


def given(written: Any) -> Given:
    """What stands where a document may have an expression, as a function of what the expression sees."""
    if not isinstance(written, str): return lambda sees: written
    env = celpy.Environment()
    program = env.program(env.compile(written))

    def evaluate(sees: dict) -> Any:
        try:
            return from_cel(program.evaluate({name: celpy.json_to_cel(v) for name, v in sees.items()}))
        except celpy.CELEvalError as error:
            raise ValueError(f"{written}: {error.args[0]}") from error

    return evaluate


def given_fields(written: dict) -> Given:
    """An object made field by field; `{expr, overwrite: true}` goes past the channel's reducer."""
    fields = {}
    for name, value in written.items():
        is_form = isinstance(value, dict) and "expr" in value and value.keys() <= {"expr", "overwrite"}
        fields[name] = (given(value["expr"] if is_form else value), is_form and value.get("overwrite", False))

    def evaluate(sees: dict) -> dict:
        made = {}
        for name, (value, overwrite) in fields.items():
            made[name] = {"__overwrite__": value(sees)} if overwrite else value(sees)
        return made

    return evaluate
