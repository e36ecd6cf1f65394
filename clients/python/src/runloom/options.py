"""How a client connects, retries and authenticates; and the options of a run."""
from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypedDict, Union
from urllib.parse import urlsplit

from .errors import RunloomError
from .types import Durability, EventKind, MultitaskStrategy, StreamMode

Seconds = Union[float, timedelta]


@dataclass(frozen=True)
class Retry:
    """The number and the delays of retries after temporary failures; see `RunloomError.is_transient`.

    Delays double, with jitter in their upper half, and are not shorter than a delay that the server names.
    """

    max_retries: int = 15
    """Maximum number of consecutive retries, more than a minute in all. A stream resets the count with each new part. 0: none."""
    initial_delay: float = 0.1
    """The first delay in seconds."""
    max_delay: float = 8.0
    """The longest delay in seconds, unless the server names a longer one."""

    def delay(self, failures: int, error: RunloomError) -> float | None:
        """The delay after this many consecutive failures, the last of them `error`. None: no retry."""
        if failures > self.max_retries or not error.is_transient:
            return None
        return self.backoff(failures, error.retry_after)

    def backoff(self, failures: int, retry_after: float | None = None) -> float:
        """The delay after this many consecutive failures."""
        delay: float = min(self.initial_delay * 2.0 ** min(failures - 1, 32), self.max_delay) * (0.5 + random.random() / 2)
        if retry_after is None:
            return delay
        # The jitter is added to the server's delay, so that clients still spread.
        return max(retry_after, delay) + self.initial_delay * random.random()


@dataclass(frozen=True)
class Tls:
    """TLS. All files are in PEM."""

    ca: bytes | None = None
    """Certificates of the authorities to trust. None: those of the system."""
    certificate: bytes | None = None
    """The client's certificate chain, for mutual TLS."""
    key: bytes | None = None
    """The client's private key."""
    server_name: str | None = None
    """The name in the server's certificate, if it differs from the address."""


@dataclass(frozen=True)
class Options:
    """How a client connects."""

    tls: Tls | bool = False
    """TLS. True: with the system's authorities. An address with https:// has it as well."""
    api_key: str | None = None
    """Sent as `authorization: Bearer` with each call."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Metadata to send with each call."""
    timeout: float = 60.0
    """Timeout in seconds of each try of a call without a timeout of its own. Streams and waits have none by default."""
    max_message_bytes: int = 64 << 20
    """Maximum size of a message; larger parts of a stream arrive without their data, with `omitted`."""
    keepalive: float = 30.0
    """Interval in seconds of pings on a silent connection."""
    retry: Retry = Retry()
    """Retries."""

    def call_metadata(self) -> tuple[tuple[str, str], ...]:
        key = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return tuple({**self.metadata, **key}.items())

    def channel_arguments(self) -> list[tuple[str, Any]]:
        made: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.keepalive_time_ms", int(self.keepalive * 1000)),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.max_pings_without_data", 0),
            # Failed connections are tried again by the retry policy, not later than it says.
            ("grpc.initial_reconnect_backoff_ms", int(self.retry.initial_delay * 1000)),
            # Timeout of a connection attempt.
            ("grpc.min_reconnect_backoff_ms", 10_000),
            ("grpc.max_reconnect_backoff_ms", int(self.retry.max_delay * 1000)),
            # Two clients in one process have a connection each.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if isinstance(self.tls, Tls) and self.tls.server_name:
            made.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return made


def target(address: str) -> tuple[str, bool]:
    """`host:port` and whether the address names TLS. Takes `host:port`, `http://host:port` or `https://host:port`."""
    if "://" not in address:
        return address, False
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
        raise ValueError(f"invalid address {address!r}: expected host:port, http://host:port or https://host:port")
    port = "" if parts.port else ":443" if parts.scheme == "https" else ":80"
    return parts.netloc + port, parts.scheme == "https"


class EventSelector(TypedDict, total=False):
    """Selects events. Strings are globs."""

    kinds: list[EventKind]
    names: list[str]
    nodes: list[str]
    tags: list[str]
    namespaces: list[str]


class EventFilter(TypedDict, total=False):
    """A filter of events and message chunks."""

    include: EventSelector
    exclude: EventSelector
    skip_empty_chunks: bool


class Goto(TypedDict, total=False):
    """A node to run next, with an input of its own if it has `input`."""

    node: str
    input: Any


class Command(TypedDict, total=False):
    """Answers, updates and targets that a run starts with. `runloom.NULL` is the JSON null."""

    resume: Any
    resume_by_id: dict[str, Any]
    update: Any
    goto: list[Goto]
    expected_checkpoint_id: str


class Config(TypedDict, total=False):
    """The configuration of a run."""

    recursion_limit: int
    tags: list[str]
    configurable: dict[str, Any]
    max_concurrency: int


class StateUpdate(TypedDict, total=False):
    """An update of a thread's state, in the name of a node."""

    values: Any
    as_node: str


class StateSuperstep(TypedDict):
    """Updates that are applied together, as if nodes had run in parallel."""

    updates: list[StateUpdate]


class RunOptions(TypedDict, total=False):
    """The fields of a run's specification beside its target and its start: `RunSpec` in proto/."""

    thread_id: str | None
    assistant_id: str | None
    context: dict[str, Any] | None
    config: Config | None
    metadata: dict[str, Any] | None
    stream_modes: list[StreamMode]
    stream_subgraphs: bool
    event_filter: EventFilter | None
    interrupt_before: list[str]
    interrupt_after: list[str]
    checkpoint_id: str | None
    checkpoint_namespace: list[str]
    durability: Durability | None
    multitask_strategy: MultitaskStrategy | None
    on_disconnect: str | None
    disconnect_grace_duration: Seconds | None
    if_not_exists: str | None
    start_time: datetime | None
    run_timeout: Seconds | None
    webhook: dict[str, str] | None
    token_coalescing: dict[str, Any] | None
    request_id: str | None
