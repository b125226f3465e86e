"""The demo image's server for the process runtime: run by path, it answers as the image does."""

from __future__ import annotations

import os
import signal
import socket
import threading
from types import FrameType


def page() -> bytes:
    """Who answers, and its environment."""
    env = os.environ
    lines = [
        f"service: {env.get('SWARM_SERVICE', '')}",
        f"slot: {env.get('SWARM_SLOT', '')}",
        f"node: {env.get('SWARM_NODE', '')}",
        f"task: {env.get('SWARM_TASK_ID', '')}",
        f"hostname: {socket.gethostname()}",
        "",
        *(f"{key}={value}" for key, value in env.items()),
        "",
    ]
    return "\n".join(lines).encode(errors="surrogateescape")


def answer(connection: socket.socket) -> None:
    with connection:
        connection.settimeout(10)
        try:
            request = b""
            while b"\r\n\r\n" not in request and len(request) < 65536:
                data = connection.recv(4096)
                if not data:
                    return
                request += data
            path = request.split(b" ", 2)[1:2]
            status, body = b"200 OK", page()
            if path == [b"/healthz"]:
                body = b"ok\n"
            elif path != [b"/"]:
                status, body = b"404 Not Found", b"not found\n"
            head = b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
            connection.sendall((head + b"Connection: close\r\n\r\n") % (status, len(body)) + body)
            print(request.split(b"\r", 1)[0].decode(errors="replace"), flush=True)  # noqa: T201
        except OSError:
            return


def end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


def main() -> None:
    signal.signal(signal.SIGTERM, end)
    port = int(os.environ.get("PORT", "8000"))
    with socket.create_server(("", port), backlog=128) as server:
        print(f"demo listens on port {port}", flush=True)  # noqa: T201
        while True:
            connection, _ = server.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
