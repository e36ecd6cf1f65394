"""What the sync client needs of gRPC."""
from __future__ import annotations

import time
from typing import Any

import grpc

from .options import Options, Tls, target

sleep = time.sleep


def channel(address: str, options: Options) -> Any:
    """A channel. It connects at the first call."""
    host, is_tls = target(address)
    arguments = options.channel_arguments()
    if not (options.tls or is_tls):
        return grpc.insecure_channel(host, arguments)
    tls = options.tls if isinstance(options.tls, Tls) else Tls()
    return grpc.secure_channel(host, grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate), arguments)


def read(call: Any) -> Any:
    """The next message of a stream; None at its end."""
    return next(call, None)
