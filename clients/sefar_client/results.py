"""The gateway's labels and features of clips, as frozen objects. Vectors are numpy arrays, and notebooks show HTML."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sefar_client import notebook
from sefar_client.base import Result, Vector, Vectors, present
from sefar_client.clips import ClipInfo, Label, Usage, mark, notes, with_notes
from sefar_client.poses import PoseInfo
from sefar_client.warned import warning_lines


class WindowLabels(Result):
    """The labels of one sliding window, from `start` to `end` seconds."""

    start: float
    end: float
    labels: list[Label]
    reliability: float
    familiarity: float | None = None
    unfamiliar: bool = False
    pose: PoseInfo | None = None
    warnings: list[str] = Field(default_factory=list)

    def _shown(self) -> dict[str, Any]:
        best = self.labels[0]
        return present(
            start=self.start,
            end=self.end,
            label=best.label,
            score=best.score,
            reliability=self.reliability,
            unfamiliar=self.unfamiliar or None,
            warnings=self.warnings or None,
        )

    def __str__(self) -> str:
        best = self.labels[0]
        text = f"{self.start:.1f}–{self.end:.1f} s: {best.label} ({best.score:.0%}), η {self.reliability:.2f}"
        text += mark(self.unfamiliar)
        return with_notes(text, warning_lines(self))


class Segment(Result):
    """A stretch of a video with one label, from `start` to `end` seconds, merged from sliding windows.

    `score` is the mean probability of the label over it, in [0, 1].
    """

    start: float
    end: float
    label: str
    index: int
    score: float

    def __str__(self) -> str:
        return f"{self.start:.1f}–{self.end:.1f} s: {self.label} ({self.score:.0%})"


class Classification(Result):
    """The answer of `classify`: the classes, best first, and their reliability.

    Attributes:
        clip_id: pass ``sefar://CLIP_ID`` to `ask` to ask about the clip.
        reliability: η in (0, 1], near 1 if the model's Monte-Carlo samples are confident and agree.
        familiarity: share of held-out clips that were less typical of what the model knows; None if the model does not
            measure it.
        unfamiliar: whether familiarity is below the server's setting: the labels then mean little.
        timeline: one entry per sliding window, if windows were requested.
        segments: the windows merged to stretches with one label, in order of time; None without windows. Write them
            to files of other programs with `format_segments`.
    """

    object: Literal["classification"]
    index: int
    name: str
    clip_id: str | None
    labels: list[Label]
    reliability: float
    familiarity: float | None = None
    unfamiliar: bool = False
    clip: ClipInfo
    timeline: list[WindowLabels] | None
    segments: list[Segment] | None = None
    model: str
    version: str
    usage: Usage

    @property
    def best(self) -> Label:
        """The most likely class."""
        return self.labels[0]

    def _shown(self) -> dict[str, Any]:
        best = self.best
        return present(
            name=self.name,
            label=best.label,
            score=best.score,
            reliability=self.reliability,
            unfamiliar=self.unfamiliar or None,
            windows=self.timeline and len(self.timeline),
            segments=self.segments and len(self.segments),
            warnings=self.clip.warnings or None,
        )

    def __str__(self) -> str:
        text = f"{self.name}: {self.best.label} ({self.best.score:.0%}), η {self.reliability:.2f}"
        text += mark(self.unfamiliar)
        return with_notes(text, warning_lines(self.clip, self.timeline))

    def _repr_html_(self) -> str:
        scores = [(one.label, one.score) for one in self.labels]
        segments = "".join(notebook.text(str(one)) for one in self.segments or ())
        head = notebook.labels(self.name, scores, self.reliability, self.unfamiliar)
        return head + notes(self.clip, self.timeline) + segments


class WindowEmbedding(Result):
    """The vectors of one sliding window, from `start` to `end` seconds."""

    start: float
    end: float
    embedding: Vector
    tokens: Vectors
    pose: PoseInfo | None = None
    warnings: list[str] = Field(default_factory=list)

    def _shown(self) -> dict[str, Any]:
        return present(
            start=self.start,
            end=self.end,
            embedding=self.embedding,
            tokens=self.tokens,
            pose=self.pose,
            warnings=self.warnings or None,
        )


class Embedding(Result):
    """The answer of `embed`.

    Attributes:
        clip_id: pass ``sefar://CLIP_ID`` to `ask` to ask about the clip.
        embedding: (D,) float32; None if only tokens were requested. With windows, the mean over them.
        tokens: (T, D') float32, one per temporal element, the context last; None unless requested.
        timeline: one entry per sliding window, if windows were requested.
    """

    object: Literal["embedding"]
    index: int
    name: str
    clip_id: str | None
    embedding: Vector
    tokens: Vectors
    clip: ClipInfo
    timeline: list[WindowEmbedding] | None
    model: str
    version: str
    usage: Usage

    def _shown(self) -> dict[str, Any]:
        windows = self.timeline and len(self.timeline)
        warnings = self.clip.warnings or None
        return present(name=self.name, embedding=self.embedding, tokens=self.tokens, windows=windows, warnings=warnings)

    @property
    def _line(self) -> str:
        arrays = {"embedding": self.embedding, "tokens": self.tokens}
        shapes = [f"{name} {array.shape}" for name, array in arrays.items() if array is not None]
        return f"{self.name}: {', '.join(shapes)} float32"

    def __str__(self) -> str:
        return with_notes(self._line, warning_lines(self.clip, self.timeline))

    def _repr_html_(self) -> str:
        return notebook.text(self._line) + notes(self.clip, self.timeline)
