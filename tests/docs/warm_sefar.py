"""A process that has imported `sefar` already and forks for each command: starting up costs seconds, forking none.

`python warm_sefar.py SOCKET` listens. `python warm_sefar.py SOCKET sefar ARGUMENTS…` hands a command over, with its
folder, environment and streams, and ends as the command does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from typing import NoReturn

STATUS = struct.Struct("i")
LONGEST = 1 << 20
"""Bytes of a request; the environment is most of it."""


def listen(address: str) -> NoReturn:
    """Import everything, then serve commands until killed."""
    import sefar_serve.cli.app
    import sefar_serve.engine.onnx
    import sefar_serve.mllm.generator  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks; their connections tell how they ended
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        while True:
            connection, _ = server.accept()
            with connection:
                request, streams, _, _ = socket.recv_fds(connection, LONGEST, 3)
                if request and os.fork() == 0:
                    server.close()
                    _run(connection, json.loads(request), streams)
                for stream in streams:
                    os.close(stream)


def _run(
    connection: socket.socket, request: dict[str, list[str] | str | dict[str, str]], streams: list[int]
) -> NoReturn:
    """Be the command, in a fork."""
    from sefar_serve.cli import main

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(str(request["folder"]))
    os.environ.clear()
    os.environ.update(dict(request["environment"]))  # type: ignore[arg-type]
    sys.argv = list(request["arguments"])
    connection.sendall(STATUS.pack(os.getpid()))
    status = 1
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(STATUS.pack(status))
        os._exit(status)


def hand_over(address: str, arguments: list[str]) -> int:
    """Run one command in a fork of the listening process; its exit status."""
    request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
        child: int = STATUS.unpack(connection.recv(STATUS.size, socket.MSG_WAITALL))[0]
        for ending in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ending, lambda number, _: os.kill(child, number))
        told = connection.recv(STATUS.size, socket.MSG_WAITALL)
    return int(STATUS.unpack(told)[0]) if told else 1


if __name__ == "__main__":
    if len(sys.argv) > 2:
        raise SystemExit(hand_over(sys.argv[1], sys.argv[2:]))
    listen(sys.argv[1])
