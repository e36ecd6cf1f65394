"""A proxy that cuts a connection in the middle of a message, after so many messages of the server."""
import socket
import threading

HEAD = 9  # of an HTTP/2 frame: length, kind, flags, stream
DATA = 0


class Cutter:
    """Forwards to a server. Of the first connection it lets `messages` gRPC messages through, then half of the next frame.

    A server puts as many messages into a frame as it has: they are taken apart, so that the cut is between any two of them.
    """

    def __init__(self, server, messages=1 << 60, has_ended=lambda message: False):
        host, port = server.rsplit(":", 1)
        self.server, self.messages, self.has_ended = (host, int(port)), messages, has_ended
        self.connections, self.cut, self.ended = 0, False, False
        self.sockets = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(self.server)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets += [client, server]
            threading.Thread(target=self._copy, args=(client, server), daemon=True).start()
            down = self._cut if self.connections == 1 else self._copy
            threading.Thread(target=down, args=(server, client), daemon=True).start()

    def sever(self):
        """Breaks the present connections."""
        close(*self.sockets)
        self.sockets = []

    @staticmethod
    def _copy(source, target):
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
        except OSError:
            pass
        close(source, target)

    def _cut(self, server, client):
        left, unfinished = self.messages, b""
        try:
            while frame := read_frame(server):
                frames, unfinished = split(frame, unfinished)
                for one in frames:
                    if left == 0:
                        self.cut = True
                        client.sendall(one[:4])
                        return
                    left -= one[3] == DATA
                    self.ended |= one[3] == DATA and self.has_ended(one[HEAD + 5:])
                    client.sendall(one)
        except OSError:
            pass
        finally:
            close(server, client)


def close(*sockets):
    for one in sockets:
        try:
            one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        one.close()


def read_exactly(source, size):
    data = b""
    while len(data) < size:
        more = source.recv(size - len(data))
        if not more:
            return None
        data += more
    return data


def read_frame(source):
    head = read_exactly(source, HEAD)
    if head is None:
        return None
    body = read_exactly(source, int.from_bytes(head[:3], "big"))
    return None if body is None else head + body


def split(frame, unfinished):
    """A frame for each gRPC message that is whole; other frames as they are."""
    if frame[3] != DATA:
        return [frame], unfinished
    assert frame[4] & ~1 == 0, "padded data"
    unfinished += frame[HEAD:]
    frames = []
    while len(unfinished) >= 5:
        size = 5 + int.from_bytes(unfinished[1:5], "big")
        if len(unfinished) < size:
            break
        frames.append(size.to_bytes(3, "big") + bytes([DATA, 0]) + frame[5:HEAD] + unfinished[:size])
        unfinished = unfinished[size:]
    return frames, unfinished
