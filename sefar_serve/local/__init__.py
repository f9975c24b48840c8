"""Blocking calls over the asynchronous recognizer and generator; `sefar_serve.model` is built on it."""
