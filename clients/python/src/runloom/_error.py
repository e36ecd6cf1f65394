"""The base of all errors, and how they are read from a status."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import grpc
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "runloom.dev"
_BROKEN = ("UNKNOWN", "INTERNAL", "CANCELLED")
_CODES: dict[int, str] = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A missing or invalid field of the request, by its path."""

    field: str
    description: str


class RunloomError(Exception):
    """The error of a call or of a run.

    A reason has a class of its own (`ThreadNotFound`), which derives from that of its status code (`NotFound`).
    """

    # ErrorInfo.reason, for a class of one reason.
    reason: ClassVar[str | None] = None
    _by_reason: ClassVar[dict[str, type[RunloomError]]] = {}
    _by_code: ClassVar[dict[str, type[RunloomError]]] = {}

    code: str
    """The gRPC status code: `NOT_FOUND`."""
    message: str
    reason_name: str | None
    """The reason; None if the error does not come from the server. A reason that this version does not know has no class."""
    metadata: dict[str, str]
    """The details of the reason."""
    violations: list[FieldViolation]
    """All missing or invalid fields."""
    retry_after: float | None
    """The delay in seconds that the server names for a retry."""

    def __init_subclass__(cls, code: str | None = None) -> None:
        if cls.reason is not None:
            RunloomError._by_reason[cls.reason] = cls
        elif code is not None:
            RunloomError._by_code[code] = cls

    def __init__(self, message: str, code: str = "UNKNOWN") -> None:
        self.message, self.code = message, code
        self.reason_name, self.metadata, self.violations, self.retry_after = self.reason, {}, [], None
        super().__init__(message)

    def __str__(self) -> str:
        fields = "".join(f"; {v.field}: {v.description}" for v in self.violations)
        return f"{self.message} ({self.reason_name or self.code}){fields}"

    @property
    def cursor(self) -> str | None:
        """The cursor to join again, if the error ended a stream."""
        return self.metadata.get("cursor")

    @property
    def oldest_cursor(self) -> str | None:
        """The oldest cursor of the log, for CursorExpired."""
        return self.metadata.get("oldest_cursor")

    @property
    def is_transient(self) -> bool:
        """Whether the failure is temporary: the server named a delay, or the connection broke."""
        broken = self.reason_name is None and self.code in _BROKEN
        return broken or self.code == "UNAVAILABLE" or self.retry_after is not None


def from_status(status: Any) -> RunloomError:
    """The error of a google.rpc.Status."""
    info, violations, retry_after = None, [], None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            found = error_details_pb2.ErrorInfo()
            detail.Unpack(found)
            info = found if found.domain == DOMAIN else info
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            violations = [FieldViolation(v.field, v.description) for v in bad.field_violations]
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    code = _CODES.get(status.code, "UNKNOWN")
    by_code = RunloomError._by_code.get(code, RunloomError)
    cls = RunloomError._by_reason.get(info.reason, by_code) if info is not None else by_code
    error = cls(status.message, code)
    if info is not None:
        error.reason_name, error.metadata = info.reason, dict(info.metadata)
    error.violations, error.retry_after = violations, retry_after
    return error


def from_rpc(error: Any) -> RunloomError:
    """The error of a failed call, sync or async."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status()
            status.ParseFromString(value)
            return from_status(status)
    code = error.code()
    return from_status(status_pb2.Status(code=code.value[0], message=error.details() or code.name))
