"""Channel values that this worker has, so that the server can send what changed."""
from __future__ import annotations

import marshal
from collections import OrderedDict
from typing import Any

from ..codec import from_json


class StateCache:
    """Values by version, bounded by their size; those used longest ago are evicted. One for each connection."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.bytes = max_bytes, 0
        self._values: OrderedDict[str, tuple[Any, int]] = OrderedDict()

    def state(self, channels: Any) -> tuple[dict[str, Any], list[str]]:
        """The values of a task's channels, and the channels whose values are missing."""
        state, missing = {}, []
        for channel in channels:
            try:
                state[channel.channel] = self._value(channel)
            except KeyError:
                missing.append(channel.channel)
        return state, missing

    def _value(self, channel: Any) -> Any:
        kind = channel.WhichOneof("value")
        if kind == "whole":
            value, size = from_json(channel.whole), channel.whole.ByteSize()
        elif kind == "unchanged":
            value, size = self._values[channel.version]
        else:
            base, base_size = self._values[channel.appended.base]
            keep = channel.appended.keep
            if not isinstance(base, list) or keep > len(base):
                raise KeyError(channel.channel)
            value = base[:keep] + from_json(channel.appended.items)
            size = base_size + channel.appended.items.ByteSize()
        if not channel.version:
            return value
        self._put(channel.version, value, size)
        # A handler may change what it is given.
        return marshal.loads(marshal.dumps(value))

    def _put(self, version: str, value: Any, size: int) -> None:
        before = self._values.pop(version, None)
        self.bytes += size - (before[1] if before else 0)
        self._values[version] = (value, size)
        while self.bytes > self.max_bytes and self._values:
            _, (_, evicted) = self._values.popitem(last=False)
            self.bytes -= evicted
