"""Messages whose native form is not a dataclass of their fields: parts of a stream, blocks of a message, a cron's run."""
from __future__ import annotations

from typing import Any

from . import types
from .codec import DECODERS, ENCODERS, as_datetime, decode, decoder, fill, from_json
from .errors import from_status


def part(message: Any) -> types.Part | None:
    """A part of a stream. None for a payload that this version does not know."""
    kind = message.WhichOneof("payload")
    if kind is None:
        return None
    return types.Part(
        payload=decode(getattr(message, kind)),
        seq=message.seq,
        cursor=message.cursor,
        emit_time=as_datetime(message.emit_time) if message.HasField("emit_time") else None,
        run_id=message.run_id,
        attempt=message.attempt,
        namespace=list(message.namespace),
        step=message.step if message.HasField("step") else None,
        task_id=message.task_id,
        task_attempt=message.task_attempt,
        omitted=decode(message.omitted) if message.HasField("omitted") else None,
    )


def block(message: Any) -> types.ContentBlock:
    """A block of a message."""
    kind, index, start = message.WhichOneof("block"), message.index, message.start
    if kind == "text":
        return types.Text(message.text, index, start)
    if kind == "reasoning":
        return types.Reasoning(message.reasoning.text, message.reasoning.signature, index, start)
    if kind in ("image", "audio", "file"):
        media = getattr(message, kind)
        source = media.WhichOneof("source")
        made = types.Media(kind, mime_type=media.mime_type, filename=media.filename, index=index, start=start)
        if source:
            setattr(made, source, getattr(media, source))
        return made
    return types.OtherBlock(from_json(message.other) if kind else None, index, start)


def _write_text(target: Any, value: types.Text) -> None:
    target.index, target.start, target.text = value.index, value.start, value.text


def _write_reasoning(target: Any, value: types.Reasoning) -> None:
    target.index, target.start = value.index, value.start
    target.reasoning.text, target.reasoning.signature = value.text, value.signature


def _write_media(target: Any, value: types.Media) -> None:
    target.index, target.start = value.index, value.start
    fields = {"url": value.url, "data": value.data, "file_id": value.file_id}
    fill(getattr(target, value.kind), {**fields, "mime_type": value.mime_type, "filename": value.filename})


def _write_other(target: Any, value: types.OtherBlock) -> None:
    target.index, target.start = value.index, value.start
    fill(target, {"other": value.value})


def run_spec(message: Any) -> dict[str, Any]:
    """The fields of a RunSpec that are set."""
    made: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None or descriptor.name in ("input", "context", "metadata", "config"):
            made[descriptor.name] = _native(descriptor, value)
    return made


def _native(descriptor: Any, value: Any) -> Any:
    convert = decoder(descriptor)
    return [convert(v) for v in value] if descriptor.is_repeated else convert(value)


DECODERS["runloom.v1.ContentBlock"] = block
DECODERS["runloom.v1.RunSpec"] = run_spec
DECODERS["google.rpc.Status"] = from_status
ENCODERS.update({types.Text: _write_text, types.Reasoning: _write_reasoning})
ENCODERS.update({types.Media: _write_media, types.OtherBlock: _write_other})
