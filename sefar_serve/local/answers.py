"""The asynchronous part of `sefar_serve.Model`: answers about one video, in the types of the HTTP client."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from sefar_client import Caption, ChatCompletion, Classification, Embedding
from sefar_serve.assemble import bounds_of, make_decoders
from sefar_serve.engine import Engine, Model, ModelNotFoundError
from sefar_serve.engine.patient import PatientModel
from sefar_serve.fetch import RemoteVideos, UrlFetcher
from sefar_serve.fetch.pool import FETCH_THREADS
from sefar_serve.language import ClipFeatures, GenerationOptions, Generator, Message
from sefar_serve.language.captions import Captioned, render_caption
from sefar_serve.language.choices import join_choices, split_choices
from sefar_serve.language.completion import Envelope, total_usage
from sefar_serve.language.fitting import encoder_of
from sefar_serve.language.questions import check_question
from sefar_serve.language.replies import Reply, Verdict, answer, choose
from sefar_serve.local.videos import GivenVideo
from sefar_serve.metadata import ModelMetadata
from sefar_serve.options import CaptionOptions, ClassifyOptions, ClipOptions, EmbedOptions, PoseOptions
from sefar_serve.pose import Estimators, check_sees_joints
from sefar_serve.recognition import Recognised, Recognizer, Span, Window
from sefar_serve.schemas import render
from sefar_serve.schemas.chat import ChatRequest, TextPart
from sefar_serve.settings import Settings, shipped_captioner

T = TypeVar("T")


def videos_at_once(settings: Settings) -> int:
    """How many videos to process at a time: a thread decodes the next one while the model runs on the last."""
    return 2 * settings.decode_threads


class Answers:
    """Classifies, embeds, captions and answers, with a limit on how many videos are processed at a time.

    A server's limits on queues and file sizes do not apply. Callers wait instead of being refused, and the files are
    their own.

    Args:
        settings: names the model and the captioner.
        engine: runs the model; `opened` starts and closes it.
        make_generator: makes the language model; called at the first caption or question.
        estimators: find the joints for models that see them.
    """

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        make_generator: Callable[[Settings], Generator | None],
        estimators: Estimators,
    ) -> None:
        self.engine = engine
        self.fetcher = UrlFetcher(settings.url_hosts, max_bytes=settings.max_body_bytes, timeout=settings.url_timeout)
        self._settings = settings
        self._make_generator = make_generator
        at_once, bounds = videos_at_once(settings), bounds_of(settings)
        # After a cancelled call its video is decoded to the end, at the same time as those of later calls.
        bounds = replace(bounds, max_decoding=2 * at_once, limits=replace(bounds.limits, max_bytes=sys.maxsize))
        self._recognizer = Recognizer(engine, bounds, decoders=make_decoders(settings, estimators, serving=False))
        self._remote = RemoteVideos(self.fetcher, at_once + FETCH_THREADS)
        self._looking = asyncio.Semaphore(at_once)
        self._inferring = asyncio.Semaphore(settings.max_queue)
        self._writing = asyncio.Semaphore(min(2 * settings.generation_batch, settings.max_generating))
        self._generator: asyncio.Task[Generator] | None = None

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        settings: Settings,
        engine: Engine,
        make_generator: Callable[[Settings], Generator | None],
        estimators: Estimators,
    ) -> AsyncGenerator[Answers, None]:
        """Start the engine, and close everything at the end.

        Raises:
            EngineError: the engine cannot start, or its server cannot be reached.
            PoseError: the model sees joints that cannot be found here.
        """
        answers = cls(settings, engine, make_generator, estimators)
        async with AsyncExitStack() as running:
            await running.enter_async_context(answers._recognizer)
            engine.model(None)
            running.push_async_callback(answers._remote.close)
            running.push_async_callback(answers._close_generator)
            yield answers

    async def classify(self, video: GivenVideo, asked: ClassifyOptions) -> Classification:
        """Classify a video.

        Raises:
            SefarError, OSError: as `sefar_serve.Model.classify`.
        """
        model = self._model(asked)
        merging = asked.merging(model.metadata.labels)
        found = await self._look(video, model, asked.span)
        entry = render.classification(
            found,
            model.metadata,
            index=0,
            top_k=asked.top_k,
            attributes=asked.attributes,
            raw_scores=asked.raw_scores,
            poses=asked.poses,
            merging=merging,
        )
        return Classification.model_validate(entry.model_dump() | _around(video, found, model.metadata))

    async def embed(self, video: GivenVideo, asked: EmbedOptions) -> Embedding:
        """Embed a video.

        Raises:
            SefarError, OSError: as `sefar_serve.Model.embed`.
        """
        model = self._model(asked)
        found = await self._look(video, model, asked.span)
        entry = render.embedding(
            found, model.metadata, index=0, include=asked.include, as_base64=True, poses=asked.poses
        )
        return Embedding.model_validate(entry.model_dump() | _around(video, found, model.metadata))

    async def generator(self, name: str | None) -> Generator:
        """Return the language model. The first call loads it.

        Args:
            name: required name; None for any.

        Raises:
            ModelNotFoundError: it has another name.
            GenerationError: it cannot be loaded.
            ModuleNotFoundError: its packages are not installed.
            ValueError: captions are turned off in the settings.
        """
        if self._generator is None or (self._generator.done() and not _succeeded(self._generator)):
            self._generator = asyncio.create_task(self._load_generator())
        # A cancelled call must not cancel the loading for other calls.
        generator = await asyncio.shield(self._generator)
        if name not in (None, generator.info.name):
            raise ModelNotFoundError(f"there is no captioner {name!r}; the loaded one is {generator.info.name!r}")
        return generator

    async def caption(self, video: GivenVideo, asked: CaptionOptions) -> Caption:
        """Caption a video, or each of its windows.

        Raises:
            SefarError, OSError: as `sefar_serve.Model.caption`.
        """
        generator = await self.generator(asked.model)
        model = encoder_of(generator, self.engine)
        meta = model.metadata
        found = await self._look(video, model, asked.span)
        options = GenerationOptions(asked.max_tokens, asked.temperature, seed=asked.seed)

        async def reply(window: Window) -> Reply:
            messages = [Message("user", (_features(window), asked.prompt))]
            async with self._writing:
                return await answer(generator, messages, options, _verdict(window, meta), self._threshold(asked))

        replies = await _together(reply(window) for window in found.windows)
        captioned = [Captioned(window, one) for window, one in zip(found.windows, replies, strict=True)]
        entry = render_caption(captioned, meta, index=0, name=video.name, top_k=asked.top_k)
        around = _around(video, found, meta)
        about = {"model": generator.info.name, "usage": total_usage(replies).model_dump()}
        return Caption.model_validate(entry.model_dump() | around | about)

    async def ask(self, video: GivenVideo, part: ClipOptions, asked: ChatRequest) -> ChatCompletion:
        """Answer a question about a video.

        Args:
            video: the video.
            part: which part of it to use.
            asked: the question, as a chat with one message.

        Raises:
            SefarError, OSError: as `sefar_serve.Model.ask`.
        """
        generator = await self.generator(asked.model)
        model = encoder_of(generator, self.engine)
        meta = model.metadata
        question, choices = posed(asked)
        [window] = (await self._look(video, model, part.span)).windows
        messages = [Message("user", (_features(window), question))]
        verdict, threshold = _verdict(window, meta), self._threshold(asked)
        async with self._writing:
            if choices:
                letters = asked.answer_mode == "letter"
                reply = await choose(generator, messages, choices, verdict, threshold, letters=letters)
            else:
                stop = tuple(filter(None, asked.stop))
                options = GenerationOptions(asked.max_tokens, asked.temperature, asked.top_p, asked.seed, stop)
                reply = await answer(generator, messages, options, verdict, threshold)
        seen = render.seen_clip(window, meta, name=video.name, clip_id=None)
        entry = Envelope("answer", generator.info.name, [seen]).completion(reply)
        return ChatCompletion.model_validate(entry.model_dump())

    def _model(self, asked: PoseOptions) -> Model:
        """The model that a call names.

        Raises:
            ModelNotFoundError: there is no such model.
            NoJointsError: joints are requested, and it sees none.
        """
        model = self.engine.model(asked.model)
        if asked.poses:
            check_sees_joints(model.metadata)
        return model

    async def _look(self, video: GivenVideo, model: Model, span: Span) -> Recognised:
        """Decode a video and run the model on it.

        Raises:
            SefarError, OSError: decoding or inference failed.
        """
        async with self._looking:
            inputs = await self._remote.arrived([video.clip])
            [found] = await self._recognizer.recognise(inputs, PatientModel(model, self._inferring), span)
        if not isinstance(found, Recognised):
            raise found
        return found

    def _threshold(self, asked: CaptionOptions | ChatRequest) -> float:
        return self._settings.abstain_below if asked.abstain_below is None else asked.abstain_below

    async def _load_generator(self) -> Generator:
        settings = self._settings
        if settings.captioner == "auto":  # named explicitly, so that a missing package is an error
            settings = settings.model_copy(update={"captioner": str(shipped_captioner())})
        generator = await asyncio.to_thread(self._make_generator, settings)
        if generator is None:
            raise ValueError(
                "captions are disabled; set `captioner` (--captioner, SEFAR_CAPTIONER) to an adapter instead of `none`"
            )
        await generator.start()
        return generator

    async def _close_generator(self) -> None:
        if self._generator is None:
            return
        self._generator.cancel()
        await asyncio.wait([self._generator])
        if _succeeded(self._generator):
            await self._generator.result().close()


def posed(asked: ChatRequest) -> tuple[str, tuple[str, ...]]:
    """Return the question as the language model reads it, and the options to judge, which may be none.

    Raises:
        PromptError: the question is empty.
        ValueError: the answer mode needs options, and there are none.
    """
    [part] = asked.messages[0].content
    assert isinstance(part, TextPart)
    check_question([part.text, *(asked.options or ())])
    listed = split_choices(part.text)
    choices = tuple(asked.options or ()) or (listed[1] if listed else ())
    if not choices and asked.answer_mode in ("loglik", "letter"):
        raise ValueError(
            f"answer_mode {asked.answer_mode!r} needs options; pass `options`, or end the question with A.… B.… C.… D.…"
        )
    text = join_choices(part.text, choices) if choices and listed is None else part.text
    return text, () if asked.answer_mode == "generate" else choices


def _around(video: GivenVideo, found: Recognised, meta: ModelMetadata) -> dict[str, Any]:
    """The fields of an HTTP response outside its `data`, and the name."""
    return {
        "name": video.name,
        "model": meta.name,
        "version": found.windows[0].prediction.version,
        "usage": render.usage([found], meta).model_dump(),
    }


def _features(window: Window) -> ClipFeatures:
    return ClipFeatures(window.prediction.outputs.embedding, window.prediction.outputs.tokens)


def _verdict(window: Window, meta: ModelMetadata) -> Verdict:
    return Verdict.of(window, meta)


def _succeeded(task: asyncio.Task[Any]) -> bool:
    return not task.cancelled() and task.exception() is None


async def _together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at the same time. If one fails, the others are cancelled."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
