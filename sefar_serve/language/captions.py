"""Captions of clips, as users see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sefar_serve.language.replies import Reply
from sefar_serve.metadata import ModelMetadata
from sefar_serve.recognition import Window
from sefar_serve.reliability import reliability
from sefar_serve.schemas.chat import Caption, WindowCaption
from sefar_serve.schemas.render import best_window, clip_info, top_labels


@dataclass(frozen=True, eq=False)
class Captioned:
    """A clip and its caption.

    Attributes:
        window: the clip.
        reply: the caption.
        clip_id: id for asking about the clip again; None if that is not possible.
    """

    window: Window
    reply: Reply
    clip_id: str | None = None


def render_caption(
    captioned: Sequence[Captioned], meta: ModelMetadata, *, index: int, name: str, top_k: int = 5
) -> Caption:
    """The caption of one video, and the classifier's labels.

    Args:
        captioned: the clip, or several windows of a video in order of time.
        meta: description of the classifier.
        index: position of the video in its request.
        name: name of the video.
        top_k: number of labels, capped at the number of classes.
    """

    def window(one: Captioned) -> WindowCaption:
        outputs, reply = one.window.prediction.outputs, one.reply
        return WindowCaption(
            start=one.window.start,
            end=one.window.end,
            clip_id=one.clip_id,
            caption=reply.text,
            finish_reason=reply.finish_reason,
            agreement=reply.agreement,
            named_label=reply.named_label,
            notice=reply.notice,
            abstained=reply.abstained,
            labels=top_labels(outputs.logits, meta, top_k, True, False),
            reliability=reliability(outputs.mc_logits),
            familiarity=one.window.familiarity,
            unfamiliar=one.window.unfamiliar,
            warnings=list(one.window.clip.warnings),
        )

    timeline = [window(one) for one in captioned]
    best = best_window([one.window for one in captioned])
    return Caption(
        index=index,
        name=name,
        clip=clip_info(captioned[best].window.clip, meta),
        timeline=timeline if len(timeline) > 1 else None,
        **timeline[best].model_dump(exclude={"start", "end", "warnings"}),
    )
