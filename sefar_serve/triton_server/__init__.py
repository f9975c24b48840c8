"""Triton's side of serving: the model repository that it reads, and a server to run on this machine.

The gateway's side, which talks to a running server, is `sefar_serve.engine.triton`.
"""
