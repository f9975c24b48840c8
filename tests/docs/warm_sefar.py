"""A process that has imported everything already and forks for each command: importing costs seconds, forking none.

`python warm_sefar.py SOCKET` listens. `python warm_sefar.py SOCKET sefar ARGUMENTS…` runs `sefar` in a fork of it, with
its own folder, environment and streams, and ends as the command does. `python warm_sefar.py SOCKET blocks` runs Python
source: a JSON string on each line of its input, answered with an empty line when it has run.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import traceback
import warnings
from typing import Any, NoReturn

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
                    _be(connection, json.loads(request), streams)
                for stream in streams:
                    os.close(stream)


def _be(connection: socket.socket, request: dict[str, Any], streams: list[int]) -> NoReturn:
    """Be the command, in a fork."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["arguments"]
    connection.sendall(STATUS.pack(os.getpid()))
    status = 1
    try:
        if sys.argv == ["blocks"]:
            _run_blocks()
        else:
            from sefar_serve.cli import main

            main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(STATUS.pack(status))
        os._exit(status)


def _run_blocks() -> None:
    """Run the blocks of one page, which share their names."""
    names: dict[str, object] = {"__name__": "__main__"}
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the blocks print is for people
    warnings.simplefilter("default")
    for line in sys.stdin:
        page, source = json.loads(line)
        exec(compile(source, page, "exec"), names)
        print(file=answers, flush=True)


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
