"""The server library's HTTP protocol, with a handle for cutting the connection, and without its pauses."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio


class CuttableProtocol(H11Protocol):
    """Applications find `cut` in `scope["state"]`: called, it drops the connection without a word."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, and hand its abort to the application."""
        connected = cast("asyncio.Transport", transport)
        super().connection_made(connected)
        self.app_state = {**self.app_state, "cut": connected.abort}

    def data_received(self, data: bytes) -> None:
        """Take bytes, and say so at once.

        Towards a proxy the clients' urllib3 keeps Nagle's algorithm on: a request's body waits until its head is
        acknowledged, which by default takes 40 ms. Systems without the option are that much slower.
        """
        if option := getattr(socket, "TCP_QUICKACK", None):
            self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, 1)
        super().data_received(data)
