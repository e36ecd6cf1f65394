"""What the async client needs of gRPC and of the event loop."""
from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from .options import Options, Tls, target

sleep = asyncio.sleep


def channel(address: str, options: Options) -> Any:
    """A channel. It connects at the first call."""
    host, is_tls = target(address)
    arguments = options.channel_arguments()
    if not (options.tls or is_tls):
        return grpc.aio.insecure_channel(host, arguments)
    tls = options.tls if isinstance(options.tls, Tls) else Tls()
    return grpc.aio.secure_channel(host, grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate), arguments)


async def read(call: Any) -> Any:
    """The next message of a stream; None at its end."""
    message = await call.read()
    return None if message is grpc.aio.EOF else message
