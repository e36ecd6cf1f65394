"""The stream of a run or a thread, which rejoins when it breaks."""
from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any

import grpc

from .. import _aio
from ..errors import DeadlineExceeded, RunloomError, Unavailable, from_rpc
from ..types import End, Metadata, Part
from ..wire import part as to_part
from .caller import Caller


class Position:
    """The position of a stream: everything needed to open it again."""

    def __init__(self, run_id: str = "", cursor: str = "") -> None:
        self.run_id, self.cursor = run_id, cursor
        # The highest seq of each run that has not ended.
        self.seen: dict[str, int] = {}

    def accept(self, part: Part) -> bool:
        """Advances to a part. False if it was received before, as is the Metadata at the start of a later join."""
        last = self.seen.get(part.run_id)
        if last is not None and (part.seq == 0 and isinstance(part.payload, Metadata) or 0 < part.seq <= last):
            return False
        if part.run_id:
            self.seen[part.run_id] = max(part.seq, last or 0)
            self.run_id = part.run_id
        if isinstance(part.payload, End):
            self.seen.pop(part.run_id, None)
        self.cursor = part.cursor or self.cursor
        return True


class RunStream(AsyncIterator[Part]):
    """The parts of a run, or of all runs of a thread, in order, each once.

    If the connection breaks, the server drains, or the stream ends without an End, it rejoins at its last cursor, according to
    the retry policy. The stream of a run ends after its End. A run that failed is not an error of the stream: see
    `End.raise_for_error`. The request is sent when the first part is read. Leaving the stream does not stop the run, unless its
    on_disconnect is `cancel`.
    """

    def __init__(
        self,
        caller: Caller,
        open: Callable[[Position], tuple[Any, Any]],
        *,
        position: Position | None = None,
        one_run: bool = True,
        timeout: float | None = None,
    ) -> None:
        self._caller, self._open, self._one_run = caller, open, one_run
        self._position = position or Position()
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._call: Any = None
        self._failures, self._has_part, self._done = 0, False, False

    @property
    def run_id(self) -> str | None:
        """The run of the last part. None before the first part."""
        return self._position.run_id or None

    @property
    def cursor(self) -> str | None:
        """The cursor of the last part, with which a join continues. None before the first part."""
        return self._position.cursor or None

    async def end(self) -> End:
        """Reads until a run ends, and returns its End."""
        async for part in self:
            if isinstance(part.payload, End):
                return part.payload
        raise RunloomError("the stream has ended already", "OUT_OF_RANGE")

    async def aclose(self) -> None:
        """Leaves the stream."""
        self._done = True
        if self._call is not None:
            self._call.cancel()
            self._call = None

    async def __aenter__(self) -> RunStream:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        await self.aclose()

    def __aiter__(self) -> RunStream:
        return self

    async def __anext__(self) -> Part:
        while not self._done:
            try:
                part = await self._read()
                if part is not None and self._accept(part):
                    return part
                continue
            except grpc.RpcError as rpc:
                error = from_rpc(rpc)
            except Unavailable as cut:
                error = cut
            await self._wait(error)
        raise StopAsyncIteration

    async def _read(self) -> Part | None:
        """The next part; None for a payload that this version does not know."""
        if self._call is None:
            method, request = self._open(self._position)
            self._call = method(request, timeout=self._remaining(), metadata=self._caller.metadata)
            self._has_part = False
        message = await _aio.read(self._call)
        if message is None:
            raise Unavailable("the stream stopped before its end", "UNAVAILABLE")
        return to_part(message)

    def _accept(self, part: Part) -> bool:
        had_part, self._has_part = self._has_part, True
        if not self._position.accept(part):
            return False
        # The first part of a stream does not reset the count of failures: a server may fail right after it each time.
        if part.seq > 0 or had_part:
            self._failures = 0
        if self._one_run and isinstance(part.payload, End):
            self._done, self._call = True, None
        return True

    async def _wait(self, error: RunloomError) -> None:
        """Waits before the stream is opened again, or raises an error that cannot be retried."""
        self._call = None
        self._failures += 1
        delay = self._caller.options.retry.delay(self._failures, error)
        remaining = self._remaining()
        if delay is None or remaining is not None and remaining <= delay:
            self._done = True
            raise error
        await _aio.sleep(delay)

    def _remaining(self) -> float | None:
        if self._deadline is None:
            return None
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            self._done = True
            raise DeadlineExceeded("the stream did not end within its timeout", "DEADLINE_EXCEEDED")
        return remaining
