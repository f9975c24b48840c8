"""A small typed client of a sefar-serve gateway; it needs httpx and nothing else.

from sefar_client import Client

with Client("http://127.0.0.1:8000") as sefar:
    for clip in sefar.classify(["vault.mp4", "beam.mp4"])["data"]:
        print(clip)
"""

from sefar_client.client import AsyncClient, Client
from sefar_client.errors import GatewayError
from sefar_client.types import (
    Caption,
    CaptionsResponse,
    ChatCompletion,
    Classification,
    ClassifyResponse,
    Embedding,
    EmbeddingsResponse,
    ItemError,
    Label,
    SourceFrame,
)

__all__ = [
    "AsyncClient",
    "Caption",
    "CaptionsResponse",
    "ChatCompletion",
    "Classification",
    "ClassifyResponse",
    "Client",
    "Embedding",
    "EmbeddingsResponse",
    "GatewayError",
    "ItemError",
    "Label",
    "SourceFrame",
]
