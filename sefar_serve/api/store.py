"""Clips already looked at, held so that they can be asked about again without being sent again.

Only what the model said of a clip is held, some kilobytes each, the longest unused dropped first. It is this process's
memory: behind several gateways, a client's requests have to reach the same one.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np

from sefar_serve.errors import SefarError
from sefar_serve.language import ClipFeatures
from sefar_serve.language.replies import Verdict
from sefar_serve.metadata import ModelMetadata
from sefar_serve.recognition import Window


class ClipNotFoundError(SefarError, LookupError):
    """A clip is not held, or not any more."""

    status = 404
    param = "messages"
    code = "clip_not_found"


@dataclass(frozen=True, eq=False)
class StoredClip:
    """What was found in one clip.

    Attributes:
        clip_id: the same for the same frames seen by the same model.
        name: of the video in the request that showed it.
        window: the clip without its frames, and its prediction.
        metadata: of the model that saw it.
    """

    clip_id: str
    name: str
    window: Window
    metadata: ModelMetadata

    @property
    def features(self) -> ClipFeatures:
        """What a language model reads of it."""
        outputs = self.window.prediction.outputs
        return ClipFeatures(outputs.embedding, outputs.tokens)

    @property
    def verdict(self) -> Verdict:
        """What the classifier says of it."""
        return Verdict.of(self.window.prediction.outputs, self.metadata)


class ClipStore:
    """The clips of one application.

    Args:
        max_clips: how many are held at most; 0 holds none.
    """

    def __init__(self, max_clips: int) -> None:
        self._max = max_clips
        self._clips: OrderedDict[str, StoredClip] = OrderedDict()

    def put(self, name: str, window: Window, metadata: ModelMetadata) -> StoredClip:
        """Hold a clip.

        Args:
            name: of its video.
            window: the clip with its prediction.
            metadata: of the model that saw it.
        """
        outputs = window.prediction.outputs
        digest = hashlib.sha256(f"{metadata.name}:{window.prediction.version}".encode())
        for array in (outputs.embedding, outputs.tokens, window.clip.indices):
            digest.update(array.tobytes())
        # Not a slice: that would keep all the pixels it was cut from, of every window of a long video.
        frames = np.empty((0, *window.clip.frames.shape[1:]), np.uint8)
        clip = replace(window.clip, frames=frames)
        stored = StoredClip(f"clip_{digest.hexdigest()[:24]}", name, replace(window, clip=clip), metadata)
        self._clips[stored.clip_id] = stored
        self._clips.move_to_end(stored.clip_id)
        while len(self._clips) > self._max:
            self._clips.popitem(last=False)
        return stored

    def get(self, clip_id: str) -> StoredClip:
        """A clip that is held.

        Raises:
            ClipNotFoundError: it is not, or not any more.
        """
        if clip_id not in self._clips:
            raise ClipNotFoundError(f"{clip_id} is not held, or not any more; send the video again")
        self._clips.move_to_end(clip_id)
        return self._clips[clip_id]
