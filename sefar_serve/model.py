"""The Python API: a model in this process, from videos to the typed results of the HTTP client."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, Unpack, cast, overload

from pydantic import BaseModel, ValidationError

from sefar_client import Caption, ChatCompletion, Classification, Embedding, Failure, Video, calls
from sefar_serve import language
from sefar_serve.assemble import make_engine, make_generator
from sefar_serve.clip import ClipSpanError
from sefar_serve.engine import Engine, EngineError
from sefar_serve.local import many
from sefar_serve.local.answers import Answers, posed, videos_at_once
from sefar_serve.local.background import Background, ModelClosedError
from sefar_serve.local.videos import GivenVideo, is_one, read_video
from sefar_serve.metadata import ModelMetadata
from sefar_serve.options import CaptionOptions, ClassifyOptions, ClipOptions, EmbedOptions
from sefar_serve.schemas.chat import ChatRequest
from sefar_serve.settings import Settings

# `Video` and an iterable of them overlap for mypy, as a str is an iterable of str; at run time it is one video.

T = TypeVar("T")
Asked = TypeVar("Asked", bound=BaseModel)

Results = Generator[T | Failure, None, None]
"""Results of many videos in their order, one each; `close()` ends the work early."""

AHEAD = 2
"""Videos taken before the oldest has its result, as a multiple of those looked at at a time: a slow one holds up what
comes after it only when this many are waiting."""


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    captioner: str | None = None,
    device: str | None = None,
    **settings: Any,
) -> Model:
    """Load a model into this process, or connect to one on a Triton server.

        model = sefar.load()                             # the model that ships, or SEFAR_MODEL
        model = sefar.load("model.onnx", device="cpu", decode_threads=4)
        model = sefar.load("triton://127.0.0.1:8001")    # its gRPC port; needs sefar-serve[triton]

    Settings are those of the server and the command line. They are read from the environment (``SEFAR_MODEL``,
    ``SEFAR_DECODE_THREADS`` …) and from the file that ``SEFAR_CONFIG`` names. Arguments override both.

    Args:
        model: ONNX file that `sefar export` wrote, or ``triton://host:port`` (``grpc://host:port``) of a Triton server;
            None for the one that the settings name, by default the shipped one.
        captioner: adapter for `Model.caption` and `Model.ask`: a folder or hub id, ``auto`` for the shipped one,
            ``none`` for none. It is loaded at the first such call and needs ``sefar-serve[mllm]``.
        device: ``auto``, ``cpu`` or ``cuda``.
        settings: any other field of `sefar_serve.settings.Settings`: ``decode_threads``, ``inference_threads``,
            ``max_batch``, ``abstain_below``, ``url_hosts``, ``max_duration`` …

    Raises:
        ModelLoadError: there is no such file, or it is not an ONNX file of a SeFAR model.
        EngineUnavailableError: the Triton server cannot be reached, or serves no SeFAR model.
        ModuleNotFoundError: a package is missing; the message names the extra to install.
        TypeError: there is no such setting.
        ValueError: a setting has a value that is not allowed.
    """
    given: dict[str, Any] = {"captioner": captioner, "device": device, **settings}
    named = {name: value for name, value in given.items() if value is not None} | _place(model)
    if unknown := sorted(named.keys() - Settings.model_fields.keys()):
        raise TypeError(f"unknown setting {unknown[0]!r}; there are {', '.join(sorted(Settings.model_fields))}")
    loaded = Model(Settings(**named))
    loaded._ready()
    return loaded


class Model:
    """A loaded model; `load` makes it.

    Each call takes one video and returns its result, or takes an iterable of videos and returns a generator of results:
    in the order of the videos, one each. Videos are taken from the iterable as they are needed, so it may be endless,
    and decoded on every core (the setting `decode_threads`). Closing the generator cancels what is under way.

    A video is a path, the bytes of a file, or a file opened with mode ``rb``. An ``http(s)://`` URL is fetched if the
    setting `url_hosts` has its host. The error of one video is raised. Among many videos it becomes a
    `sefar_client.Failure` in the place of the result, and only errors that every video would meet are raised, as are
    errors of the iterable, after the results before them.

    Calls block, and may come from several threads; in asynchronous code, use `asyncio.to_thread`. A model can be
    pickled: a worker process loads it at the first call, once for all copies. After a fork it is loaded again.
    It is closed by `close`, at the end of a `with` block, or when the program ends.

    Args:
        settings: of the model and the captioner.
        engine: makes the engine.
        generator: makes the language model, at the first text.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        engine: Callable[[Settings], Engine] = make_engine,
        generator: Callable[[Settings], language.Generator | None] = make_generator,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._generator = generator
        self._background: Background[Answers] | None = None
        self._closed = False
        self._lock = threading.Lock()
        _models.add(self)

    @property
    def metadata(self) -> ModelMetadata:
        """What the model says of itself: name, version, labels, sampling. On a Triton server, the default model.

        Raises:
            EngineUnavailableError: the Triton server has no model any more.
            ModelClosedError: the model is closed.
        """
        return self._ready().parts.engine.model(None).metadata

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order that `Label.index` counts."""
        return self.metadata.labels

    @overload
    def classify(self, video: Video, **options: Unpack[calls.ClassifyOptions]) -> Classification: ...  # type: ignore[overload-overlap]
    @overload
    def classify(self, video: Iterable[Video], **options: Unpack[calls.ClassifyOptions]) -> Results[Classification]: ...
    def classify(
        self, video: Video | Iterable[Video], **options: Unpack[calls.ClassifyOptions]
    ) -> Classification | Results[Classification]:
        """Fine-grained labels of a video, and how far to trust them (η).

            result = model.classify("vault.mp4", top_k=3)
            print(result.best.label, result.best.score, result.reliability)
            timeline = model.classify("meet.mp4", start=10, end=70, window=2, stride=1).timeline

        Args:
            video: one video, or an iterable of videos.
            options: `top_k` labels (5); `attributes`, whether labels have theirs (True); `raw_scores`, whether labels
                have logits (False); `start` and `end` in seconds; `window` and `stride` in seconds, for sliding
                windows over a long video; `model`, the name of one of several on a Triton server.

        Returns:
            The labels, best first, with scores in [0, 1] and η in (0, 1]. With windows, those of the most reliable
            window, and `timeline` has all. For an iterable, a generator of such results.

        Raises:
            ClipError: it is not a video or cannot be decoded; subclasses say which.
            ClipSpanError: the video has no such part.
            OSError: the file cannot be read, e.g. `FileNotFoundError`.
            UrlError: the URL is not allowed, or cannot be fetched.
            EngineError: the model failed, or its server is away.
            ModelClosedError: the model is closed.
            TypeError: unknown option, or something that cannot be a video.
            ValueError: an option has a value that is not allowed.
        """
        asked = _checked(ClassifyOptions, options, calls.ClassifyOptions)
        return self._answer(video, lambda answers, one: answers.classify(one, asked))

    @overload
    def embed(self, video: Video, **options: Unpack[calls.EmbedOptions]) -> Embedding: ...  # type: ignore[overload-overlap]
    @overload
    def embed(self, video: Iterable[Video], **options: Unpack[calls.EmbedOptions]) -> Results[Embedding]: ...
    def embed(
        self, video: Video | Iterable[Video], **options: Unpack[calls.EmbedOptions]
    ) -> Embedding | Results[Embedding]:
        """Vectors of a video.

            vectors = model.embed("vault.mp4", include=["embedding", "tokens"])
            print(vectors.embedding.shape, vectors.tokens.shape)  # (256,) (3, 128)

        Args:
            video: one video, or an iterable of videos.
            options: `include`, any of ``embedding`` and ``tokens`` (the embedding alone); `start`, `end`, `window`,
                `stride` and `model` as for `classify`.

        Returns:
            `embedding`, float32 (D,), and `tokens`, float32 (T, D'), one for each temporal element, the context last.
            With windows their means, and `timeline` has each window's. For an iterable, a generator of such results.

        Raises:
            Exception: as `classify`.
        """
        asked = _checked(EmbedOptions, options, calls.EmbedOptions)
        return self._answer(video, lambda answers, one: answers.embed(one, asked))

    @overload
    def caption(self, video: Video, **options: Unpack[calls.CaptionOptions]) -> Caption: ...  # type: ignore[overload-overlap]
    @overload
    def caption(self, video: Iterable[Video], **options: Unpack[calls.CaptionOptions]) -> Results[Caption]: ...
    def caption(
        self, video: Video | Iterable[Video], **options: Unpack[calls.CaptionOptions]
    ) -> Caption | Results[Caption]:
        """A sentence about a video, and what the classifier says of it.

        The first text loads the language model, which takes seconds.

            caption = model.caption("vault.mp4")
            print(caption.caption, caption.notice)

        Args:
            video: one video, or an iterable of videos.
            options: `prompt`, what the language model is asked; `max_tokens`, the longest caption (128);
                `temperature` (0, the likeliest token each time) and `seed`, which makes a caption at a higher
                temperature repeatable; `abstain_below`, η under which a text that contradicts the classifier is
                withheld; `top_k` labels (5); `start`, `end`, `window` and `stride` as for `classify`.

        Returns:
            The caption, where it contradicts the classifier a `notice`, and the classifier's labels. With windows,
            those of the most reliable window, and `timeline` has all. For an iterable, a generator of such results.

        Raises:
            GenerationError: the language model cannot be loaded, was trained for another model, or failed.
            ModuleNotFoundError: its packages are missing; the message names the extra to install.
            Exception: as `classify`; ValueError also where the captioner is set to ``none``.
        """
        asked = _checked(CaptionOptions, options, calls.CaptionOptions)
        self._load_captioner(asked.model)
        return self._answer(video, lambda answers, one: answers.caption(one, asked))

    @overload
    def ask(self, video: Video, question: str, **options: Unpack[calls.AskOptions]) -> ChatCompletion: ...  # type: ignore[overload-overlap]
    @overload
    def ask(
        self, video: Iterable[Video], question: str, **options: Unpack[calls.AskOptions]
    ) -> Results[ChatCompletion]: ...
    def ask(
        self, video: Video | Iterable[Video], question: str, **options: Unpack[calls.AskOptions]
    ) -> ChatCompletion | Results[ChatCompletion]:
        """Ask a question about a video.

            print(model.ask("vault.mp4", "How many turns are there?").text)
            chosen = model.ask("vault.mp4", "Which is it?", options=["salto forward", "salto backward"])
            print(chosen.text, [option.probability for option in chosen.sefar.options])

        Args:
            video: one video, or an iterable of videos.
            question: in words; it may end with its own options ``A.… B.… C.… D.…``.
            options: `options` to choose from; `answer_mode`, how: by the likelihood of each (``loglik``, the default
                where there are options), of their letters (``letter``), or in free text (``generate``);
                `max_tokens`, `temperature`, `top_p`, `seed` and `stop` for free text; `abstain_below` as for
                `caption`; `start` and `end` as for `classify`.

        Returns:
            The answer in the shape of OpenAI's chat completions: `text` is what was answered, `sefar` says what the
            classifier finds and whether the answer agrees. For an iterable, a generator of such results.

        Raises:
            Exception: as `caption`.
        """
        if not isinstance(question, str):
            raise TypeError(f"a question is a text, not {type(question).__name__}")
        chat = {name: value for name, value in options.items() if name not in ("start", "end")}
        part = _checked(ClipOptions, {name: options.get(name) for name in ("start", "end")}, calls.AskOptions)
        messages = [{"role": "user", "content": question}]
        asked = _checked(ChatRequest, chat, calls.AskOptions, messages=messages)
        posed(asked)
        self._load_captioner(asked.model)
        return self._answer(video, lambda answers, one: answers.ask(one, part, asked))

    def close(self) -> None:
        """Cancel what is under way and free the model; videos in the middle of decoding are waited for."""
        with self._lock:
            self._closed = True
            background, self._background = self._background, None
        if background is not None:
            background.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        place = self._settings.triton_url or self._settings.model
        if self._background is None:
            return f"<sefar_serve.Model {place}, {'closed' if self._closed else 'not loaded yet'}>"
        try:
            meta = self.metadata
        except EngineError as error:
            return f"<sefar_serve.Model {place}: {error}>"
        return f"<sefar_serve.Model {meta.name}, version {meta.version}, {len(meta.labels)} labels, {place}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process may run in another folder.
        settings = self._settings.model_copy(update={"model": self._settings.model.absolute()})
        return _copy_of, (settings, self._engine, self._generator)

    def _ready(self) -> Background[Answers]:
        """What answers, started if need be.

        Raises:
            ModelClosedError: the model is closed.
            Exception: as `load`.
        """
        if (background := self._background) is not None:
            return background
        with self._lock:
            if self._closed:
                raise ModelClosedError("this model is closed; load it again")
            if self._background is None:
                engine = self._engine(self._settings)
                background = Background(partial(Answers.opened, self._settings, engine, self._generator))
                weakref.finalize(self, background.close, wait=False).atexit = False
                self._background = background
            return self._background

    def _load_captioner(self, name: str | None) -> None:
        background = self._ready()
        background.result(background.submit(partial(background.parts.generator, name)))

    def _answer(
        self, video: Video | Iterable[Video], call: Callable[[Answers, GivenVideo], Awaitable[T]]
    ) -> T | Results[T]:
        one = is_one(video)
        background = self._ready()
        # Bound to the model, so that it is not closed as long as its results are taken: load().classify(videos).
        begin = partial(self._begin, background, call)
        if one:
            return background.result(begin(cast(Video, video)))
        videos = cast(Iterable[Video], video)
        return many.each(videos, begin, background.result, AHEAD * videos_at_once(self._settings))

    def _begin(
        self, background: Background[Answers], call: Callable[[Answers, GivenVideo], Awaitable[T]], video: Video
    ) -> Future[T]:
        answers = background.parts
        given = read_video(video, answers.fetcher)
        return background.submit(lambda: call(answers, given))


def _place(model: str | os.PathLike[str] | None) -> dict[str, Any]:
    """The settings that say where a model is."""
    if model is None:
        return {}
    if not isinstance(model, str) or "://" not in model:
        return {"model": Path(model), "triton_url": None}
    scheme, _, address = model.partition("://")
    if scheme in ("triton", "grpc"):
        return {"triton_url": address.rstrip("/")}
    if scheme in ("http", "https"):
        raise ValueError(
            f"{model} cannot be loaded. To use a gateway, make a sefar_client.Client({model!r}); to use a Triton "
            "server, give its gRPC address: triton://host:8001"
        )
    raise ValueError(f"{model!r} is neither a path nor triton://host:port")


def _checked(kind: type[Asked], options: Mapping[str, Any], known: type, **more: Any) -> Asked:
    """What is asked for, with the defaults and limits of the HTTP API.

    Args:
        kind: of request.
        options: of the call; None counts as left out.
        known: the client's options of this call.
        more: fields of the request besides.

    Raises:
        TypeError: unknown option.
        ClipSpanError: an impossible part of a video.
        ValueError: another value that is not allowed.
    """
    names: frozenset[str] = known.__optional_keys__  # type: ignore[attr-defined]  # every TypedDict has it
    if unknown := sorted(options.keys() - names):
        raise TypeError(f"unknown option {unknown[0]!r}; there are {', '.join(sorted(names))}")
    try:
        return kind.model_validate({**{name: value for name, value in options.items() if value is not None}, **more})
    except ValidationError as error:
        first = error.errors()[0]
        message = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        if first["loc"][0] in ("start", "end", "window", "stride"):
            raise ClipSpanError(message) from error
        raise ValueError(message) from error


_models: weakref.WeakSet[Model] = weakref.WeakSet()
_copies: dict[tuple[object, ...], Model] = {}


def _copy_of(
    settings: Settings,
    engine: Callable[[Settings], Engine],
    generator: Callable[[Settings], language.Generator | None],
) -> Model:
    """An unpickled model: one for all copies in a process, as each task of a pool unpickles its own."""
    key = (settings, engine, generator)
    model = _copies.get(key)
    if model is None or model._closed:
        model = _copies[key] = Model(settings, engine=engine, generator=generator)
    return model


def _forget_threads() -> None:
    """In a forked process: its models are loaded again, as the threads stayed behind."""
    for model in _models:
        model._lock = threading.Lock()
        model._background = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
