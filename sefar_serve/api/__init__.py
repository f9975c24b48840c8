"""The HTTP gateway: `create_app` builds the application, `sefar_serve.api.server` runs it."""

from sefar_serve.api.app import create_app

__all__ = ["create_app"]
