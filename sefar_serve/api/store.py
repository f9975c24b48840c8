"""Keeps processed clips, so that users can ask about them again without sending the video again.

Only the model's outputs and the joints are kept, a few kilobytes for each clip. The least recently used clip is dropped
first. The store is in this process's memory: with several gateways, a client's requests must go to the same one.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace

from sefar_serve.errors import SefarError
from sefar_serve.language import ClipFeatures
from sefar_serve.language.replies import Verdict
from sefar_serve.metadata import ModelMetadata
from sefar_serve.recognition import Window


class ClipNotFoundError(SefarError, LookupError):
    """The store does not have the clip, or has dropped it."""

    status = 404
    param = "messages"
    code = "clip_not_found"


@dataclass(frozen=True, eq=False)
class StoredClip:
    """The model's outputs for one clip.

    Attributes:
        clip_id: depends only on what the frames show, their indices, the model's outputs, and its name and version.
        name: name of the video in the request that sent it.
        window: the clip, without the model's inputs, and its prediction.
        metadata: metadata of the model.
    """

    clip_id: str
    name: str
    window: Window
    metadata: ModelMetadata

    @property
    def features(self) -> ClipFeatures:
        """The features that a language model reads."""
        outputs = self.window.prediction.outputs
        return ClipFeatures(outputs.embedding, outputs.tokens)

    @property
    def verdict(self) -> Verdict:
        """The classifier's verdict on the clip."""
        return Verdict.of(self.window, self.metadata)


class ClipStore:
    """The clips of one application.

    Args:
        max_clips: maximum number of clips to keep; 0 keeps none.
    """

    def __init__(self, max_clips: int) -> None:
        self._max = max_clips
        self._clips: OrderedDict[str, StoredClip] = OrderedDict()

    def put(self, name: str, window: Window, metadata: ModelMetadata) -> StoredClip:
        """Store a clip and return it.

        Args:
            name: name of its video.
            window: the clip with its prediction.
            metadata: metadata of the model.
        """
        outputs = window.prediction.outputs
        # Outputs alone do not tell clips apart: a model of joints gives the same ones wherever nobody is.
        about = f"{metadata.name}:{window.prediction.version}:{window.clip.digest}"
        digest = hashlib.sha256(about.encode())
        for array in (outputs.embedding, outputs.tokens, window.clip.indices):
            digest.update(array.tobytes())
        window = replace(window, clip=window.clip.without_inputs())
        stored = StoredClip(f"clip_{digest.hexdigest()[:24]}", name, window, metadata)
        self._clips[stored.clip_id] = stored
        self._clips.move_to_end(stored.clip_id)
        while len(self._clips) > self._max:
            self._clips.popitem(last=False)
        return stored

    def get(self, clip_id: str) -> StoredClip:
        """Return a stored clip.

        Raises:
            ClipNotFoundError: the store does not have it, or has dropped it.
        """
        if clip_id not in self._clips:
            raise ClipNotFoundError(f"{clip_id} is unknown or no longer stored; send the video again")
        self._clips.move_to_end(clip_id)
        return self._clips[clip_id]
