"""Values of channels as JSON and back: messages, and objects of any other type that the state has."""
from __future__ import annotations

import base64
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    BaseMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    message_chunk_to_message,
)
from langgraph.channels.base import BaseChannel
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Overwrite
from pydantic import BaseModel, TypeAdapter

MESSAGES: dict[str, type[BaseMessage]] = {
    "ai": AIMessage,
    "chat": ChatMessage,
    "function": FunctionMessage,
    "human": HumanMessage,
    "remove": RemoveMessage,
    "system": SystemMessage,
    "tool": ToolMessage,
}
# A value that JSON does not have: how LangGraph's own serializer writes it.
TAG = "__langgraph__"
SERDE = JsonPlusSerializer()


def encode(value: Any) -> Any:
    """A value as JSON."""
    if value is None or isinstance(value, (bool, int, float, str)) and type(value) in (bool, int, float, str):
        return value
    if isinstance(value, BaseMessageChunk):
        value = message_chunk_to_message(value)
    if isinstance(value, BaseMessage):
        return encode(value.model_dump())
    if isinstance(value, Overwrite):
        return {"__overwrite__": encode(value.value)}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: encode(one) for key, one in value.items()}
    if type(value) in (list, tuple):
        return [encode(one) for one in value]
    kind, data = SERDE.dumps_typed(value)
    return {TAG: [kind, base64.b64encode(data).decode()]}


def decode(value: Any, *, is_messages: bool = False) -> Any:
    """The value of JSON. A dict with the fields of a message is one; in a channel of messages its type suffices."""
    if isinstance(value, list):
        return [decode(one, is_messages=is_messages) for one in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {TAG}:
        kind, data = value[TAG]
        return SERDE.loads_typed((kind, base64.b64decode(data)))
    known = MESSAGES.get(value["type"]) if isinstance(value.get("type"), str) else None
    if known is not None and "content" in value and (is_messages or "response_metadata" in value and "additional_kwargs" in value):
        return known(**{key: decode(one) for key, one in value.items() if key != "type" or known is ChatMessage})
    return {key: decode(one) for key, one in value.items()}


def readable(value: Any) -> Any:
    """A value as JSON for streams: objects are shown by their fields, as LangGraph Server shows them."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, BaseMessageChunk):
        value = message_chunk_to_message(value)
    if isinstance(value, BaseModel):
        return readable(value.model_dump())
    if isinstance(value, dict):
        return {str(key): readable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [readable(one) for one in value]
    try:
        return TypeAdapter(type(value)).dump_python(value, mode="json")
    except Exception:
        return repr(value)


class Codec:
    """How the values of one channel are written: by its type where that is exact, so that the state can be read by people."""

    def __init__(self, channel: BaseChannel[Any, Any, Any] | None) -> None:
        hint = getattr(channel, "typ", Any)
        self.is_messages = "Message" in str(hint) and "langchain_core" in str(hint)
        try:
            self._adapter = None if self.is_messages or hint is Any else TypeAdapter(hint)
        except Exception:
            self._adapter = None

    def encode(self, value: Any) -> Any:
        if isinstance(value, Overwrite):
            return {"__overwrite__": self.encode(value.value)}
        plain = encode(value)
        if self._adapter is None or not has_tag(plain):
            return plain
        try:
            shown = self._adapter.dump_python(value, mode="json", warnings=False)
            return shown if self._adapter.validate_python(shown) == value and not has_tag(encode(shown)) else plain
        except Exception:
            return plain

    def decode(self, value: Any) -> Any:
        made = decode(value, is_messages=self.is_messages)
        if self._adapter is None or has_tag(value):
            return made
        try:
            return self._adapter.validate_python(made)
        except Exception:
            return made


def has_tag(value: Any) -> bool:
    """Whether a value that JSON does not have is somewhere in it."""
    if isinstance(value, dict):
        return TAG in value or any(has_tag(one) for one in value.values())
    return isinstance(value, list) and any(has_tag(one) for one in value)
