"""Typed Python client of a sefar-serve gateway, based on httpx, pydantic and numpy.

from sefar_client import Client

with Client("http://127.0.0.1:8000") as sefar:
    print(sefar.classify("vault.mp4"))
    for result in sefar.each(sefar.embed, ["vault.mp4", "beam.mp4"]):
        print(result)
"""

from sefar_client.calls import JobClip
from sefar_client.client import AsyncClient, Client
from sefar_client.clips import Label
from sefar_client.errors import GatewayError, GatewayUnreachableError
from sefar_client.poses import PoseInfo
from sefar_client.results import Classification, Embedding, Segment
from sefar_client.segment_formats import format_segments
from sefar_client.served import Job, LanguageModel, Model
from sefar_client.texts import Caption, ChatCompletion
from sefar_client.videos import Failure, Video

__all__ = [
    "AsyncClient",
    "Caption",
    "ChatCompletion",
    "Classification",
    "Client",
    "Embedding",
    "Failure",
    "GatewayError",
    "GatewayUnreachableError",
    "Job",
    "JobClip",
    "Label",
    "LanguageModel",
    "Model",
    "PoseInfo",
    "Segment",
    "Video",
    "format_segments",
]
