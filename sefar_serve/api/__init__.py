"""The HTTP gateway: `create_app` makes the application, `sefar_serve.api.server` runs it."""

from sefar_serve.api.app import create_app

__all__ = ["create_app"]
