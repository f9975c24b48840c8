"""Batch jobs of the gateway: kept in SQLite, done by `sefar_serve.extract`, continued after any end of the process.

`store` and `errors` need no extra; `service` and what it imports need `sefar-serve[batch]`.
"""
