"""Where videos are decoded: in processes that may crash, hang or be attacked, or in threads of this process.

A `ProcessDecoders` starts a fork server, which starts the processes. Each decodes one video at a time under limits on
time and memory, without network and without files that it could open or write. Threads are for one's own files.
"""

from sefar_serve.decoding.errors import (
    DecoderCrashedError,
    DecodersUnavailableError,
    DecoderTimeoutError,
    UnexpectedDecodeError,
    UnreadableFileError,
)
from sefar_serve.decoding.lanes import RemoteVideo
from sefar_serve.decoding.pool import END_REASONS, ProcessDecoders, ProcessLimits
from sefar_serve.decoding.task import Decoded, Decoders, DecodeTask
from sefar_serve.decoding.threads import ThreadDecoders

__all__ = [
    "END_REASONS",
    "DecodeTask",
    "Decoded",
    "DecoderCrashedError",
    "DecoderTimeoutError",
    "Decoders",
    "DecodersUnavailableError",
    "ProcessDecoders",
    "ProcessLimits",
    "RemoteVideo",
    "ThreadDecoders",
    "UnexpectedDecodeError",
    "UnreadableFileError",
]
