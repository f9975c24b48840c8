"""Blocking calls over asynchronous parts in this process: what `sefar_serve.model` is made of."""
