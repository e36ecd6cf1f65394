"""Between protobuf messages and native values: JSON, times, enums as words, messages as the dataclasses of `types`."""
from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from .v1 import json_pb2

# The value JSON null, where None means that a field is absent.
NULL = type("Null", (), {"__repr__": lambda self: "NULL", "__bool__": lambda self: False})()

# Dataclasses by the full name of the message that they stand for.
CLASSES: dict[str, type[Any]] = {}
# Converters for messages that are not simply a dataclass of their fields.
DECODERS: dict[str, Callable[[Any], Any]] = {}
ENCODERS: dict[type[Any], Callable[[Any, Any], None]] = {}

# Fields whose names are words of the language.
RENAMED = {"try": "try_"}


def stands_for(name: str) -> Callable[[type[Any]], type[Any]]:
    """Marks a dataclass as the native form of the message `runloom.v1.<name>`."""

    def register(cls: type[Any]) -> type[Any]:
        CLASSES[f"runloom.v1.{name}"] = cls
        return cls

    return register


def dump(value: Any) -> str:
    """JSON text. Raises TypeError for a value that is not JSON, ValueError for NaN and infinity."""
    if value is NULL:
        value = None
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def to_json(value: Any) -> Any:
    """A `Json` message."""
    return json_pb2.Json(json=dump(value))


def from_json(message: Any) -> Any:
    """The value of a `Json` message, in either encoding. None if nothing is set."""
    encoding = message.WhichOneof("encoding")
    if encoding == "json":
        return json.loads(message.json)
    return _plain(message.value) if encoding else None


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {k: _plain(v) for k, v in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(v) for v in value.list_value.values]
    return None if kind in (None, "null_value") else getattr(value, kind)


def enum_words(descriptor: EnumDescriptor) -> dict[int, str]:
    """The values of an enum as words: `RUN_STATE_TIMED_OUT` is `timed_out`."""
    names = [v.name for v in descriptor.values]
    prefix = names[0].removesuffix("UNSPECIFIED")
    return {v.number: v.name.removeprefix(prefix).lower() for v in descriptor.values}


def decoder(field: FieldDescriptor) -> Callable[[Any], Any]:
    """What converts one value of a field."""
    if field.enum_type is not None:
        words = enum_words(field.enum_type)
        if field.enum_type.name == "ErrorReason":
            words = {number: word.upper() for number, word in words.items()}
        return lambda number: words.get(number, str(number))
    if field.message_type is None:
        return lambda value: value
    name = field.message_type.full_name
    special = DECODERS.get(name)
    if special is not None:
        return special
    if name in CLASSES:
        return decode
    raise TypeError(f"{field.full_name}: no native form of {name}")


Plan = list[tuple[str, str, Callable[[Any], Any]]]
_plans: dict[str, Plan] = {}


def _plan(descriptor: Descriptor) -> Plan:
    """For each field: its name, the kind of its presence, its converter."""
    plan: Plan = []
    known = {f.name for f in dataclasses.fields(CLASSES[descriptor.full_name])}
    for field in descriptor.fields:
        if RENAMED.get(field.name, field.name) not in known:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            plan.append((field.name, "map", decoder(field.message_type.fields_by_name["value"])))
        elif field.is_repeated:
            plan.append((field.name, "list", decoder(field)))
        elif field.has_presence:
            plan.append((field.name, "optional", decoder(field)))
        else:
            plan.append((field.name, "plain", decoder(field)))
    return plan


def decode(message: Message) -> Any:
    """The dataclass of a message."""
    descriptor = message.DESCRIPTOR
    name = descriptor.full_name
    plan = _plans.get(name)
    if plan is None:
        plan = _plans[name] = _plan(descriptor)
    values: dict[str, Any] = {}
    for field, presence, convert in plan:
        if presence == "optional":
            value = convert(getattr(message, field)) if message.HasField(field) else None
        elif presence == "list":
            value = [convert(item) for item in getattr(message, field)]
        elif presence == "map":
            value = {k: convert(v) for k, v in getattr(message, field).items()}
        else:
            value = convert(getattr(message, field))
        values[RENAMED.get(field, field)] = value
    return CLASSES[name](**values)


def as_datetime(stamp: Any) -> datetime:
    made = stamp.ToDatetime(tzinfo=timezone.utc)
    assert isinstance(made, datetime)
    return made


DECODERS["runloom.v1.Json"] = from_json
DECODERS["google.protobuf.Timestamp"] = as_datetime
DECODERS["google.protobuf.Duration"] = lambda duration: duration.ToTimedelta()


def fill(message: Message, fields: dict[str, Any]) -> Message:
    """Sets the fields of a message from native values; None leaves a field unset."""
    by_name = message.DESCRIPTOR.fields_by_name
    for name, value in fields.items():
        field = by_name.get(name)
        if field is None:
            raise TypeError(f"unknown argument {name!r}: {message.DESCRIPTOR.name} has {', '.join(sorted(by_name))}")
        if value is None:
            continue
        try:
            _set(message, field, value)
        except (TypeError, ValueError, AttributeError) as error:
            raise type(error)(f"{name}: {error}") from error
    return message


def _set(message: Message, field: FieldDescriptor, value: Any) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        item = field.message_type.fields_by_name["value"]
        target = getattr(message, field.name)
        for key, one in value.items():
            if item.message_type is None:
                target[key] = one
            else:
                _write(target[key], one)
    elif field.is_repeated:
        if isinstance(value, (str, bytes)):
            raise TypeError(f"expected a list, not {value!r}")
        target = getattr(message, field.name)
        for one in value:
            if field.message_type is None:
                target.append(_scalar(field, one))
            else:
                _write(target.add(), one)
    elif field.message_type is not None:
        target = getattr(message, field.name)
        target.SetInParent()
        _write(target, value)
    else:
        setattr(message, field.name, _scalar(field, value))


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is None or isinstance(value, int):
        return value
    words = {word: number for number, word in enum_words(field.enum_type).items()}
    if value not in words:
        raise ValueError(f"{value!r} is not one of {', '.join(w for w in words if w != 'unspecified')}")
    return words[value]


def _write(target: Any, value: Any) -> None:
    """Writes a native value into a message."""
    name = target.DESCRIPTOR.full_name
    if isinstance(value, Message):
        target.CopyFrom(value)
    elif name == "runloom.v1.Json":
        target.json = dump(value)
    elif name == "google.protobuf.Timestamp":
        target.FromDatetime(value.astimezone(timezone.utc))
    elif name == "google.protobuf.Duration":
        target.FromTimedelta(value if isinstance(value, timedelta) else timedelta(seconds=value))
    elif name == "google.protobuf.FieldMask":
        target.paths.extend(value)
    elif type(value) in ENCODERS:
        ENCODERS[type(value)](target, value)
    elif dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        fill(target, {k: v for k, v in fields.items() if v not in (None, "", 0, [], {})})
    elif isinstance(value, dict):
        fill(target, value)
    else:
        raise TypeError(f"expected a dict or a dataclass, not {value!r}")
