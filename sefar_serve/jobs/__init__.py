"""Batch jobs of the gateway: stored in SQLite, run by `sefar_serve.extract`, resumed after a restart or a crash.

`store` and `errors` need no extra; `service` and its imports need `sefar-serve[batch]`.
"""
