"""Calls: the channel, metadata, deadlines, retries, errors."""
from __future__ import annotations

from typing import Any

import grpc

from .. import _aio
from .. import wire as wire
from ..codec import fill
from ..errors import from_rpc
from ..options import Options
from ..v1 import json_pb2


class Caller:
    """A connection to a server, as the services use it."""

    def __init__(self, address: str, options: Options) -> None:
        self.options = options
        self.channel = _aio.channel(address, options)
        self.metadata = options.call_metadata()

    def with_metadata(self, metadata: dict[str, str]) -> Caller:
        """The same connection, with more metadata in each call."""
        other = object.__new__(Caller)
        other.options, other.channel = self.options, self.channel
        other.metadata = (*self.metadata, *metadata.items())
        return other

    def request(self, cls: Any, **fields: Any) -> Any:
        """A request with JSON as text and the client's limit of a message."""
        message = fill(cls(), fields)
        known = message.DESCRIPTOR.fields_by_name
        if "json_encoding" in known:
            message.json_encoding = json_pb2.JSON_ENCODING_TEXT
        if "max_part_bytes" in known:
            message.max_part_bytes = self.options.max_message_bytes
        return message

    async def once(self, method: Any, request: Any, timeout: float | None) -> Any:
        """Calls an RPC that is not safe to repeat."""
        try:
            return await method(request, timeout=self._timeout(timeout), metadata=self.metadata)
        except grpc.RpcError as error:
            raise from_rpc(error) from None

    async def repeated(self, method: Any, request: Any, timeout: float | None) -> Any:
        """Calls an RPC that is safe to repeat, according to the retry policy."""
        failures = 0
        while True:
            try:
                return await method(request, timeout=self._timeout(timeout), metadata=self.metadata)
            except grpc.RpcError as rpc:
                error = from_rpc(rpc)
            failures += 1
            delay = self.options.retry.delay(failures, error)
            if delay is None:
                raise error
            await _aio.sleep(delay)

    def _timeout(self, timeout: float | None) -> float | None:
        if timeout is None:
            return self.options.timeout
        return None if timeout == float("inf") else timeout
