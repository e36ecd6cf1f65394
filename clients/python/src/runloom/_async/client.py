"""The client."""
from __future__ import annotations

from types import TracebackType
from typing import Any

from ..options import Options
from .assistants import Assistants
from .caller import Caller
from .runs import Runs
from .services import Crons, Graphs, Store, Workers
from .threads import Threads


class Client:
    """A connection to a server, with a member for each service.

    It connects at the first call. Calls that are safe to repeat are retried if the server is temporarily unavailable. New runs
    get a request_id, and new threads, assistants and crons an id, so that creating them is safe to repeat.
    """

    def __init__(self, address: str = "localhost:50051", options: Options | None = None, **named: Any) -> None:
        """Takes `host:port`, `http://host:port` or `https://host:port`, and the fields of `Options` by name."""
        if options is not None and named:
            raise TypeError("give either options or its fields by name")
        self._caller = Caller(address, options or Options(**named))
        self.threads = Threads(self._caller)
        self.runs = Runs(self._caller)
        self.assistants = Assistants(self._caller)
        self.graphs = Graphs(self._caller)
        self.crons = Crons(self._caller)
        self.store = Store(self._caller)
        self.workers = Workers(self._caller)

    async def aclose(self) -> None:
        """Closes the connection, with its calls and streams."""
        await self._caller.channel.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        await self.aclose()
