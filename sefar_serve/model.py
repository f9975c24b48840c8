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
from sefar_serve.assemble import make_engine, make_estimators, make_generator
from sefar_serve.clip import ClipSpanError
from sefar_serve.engine import Engine, EngineError
from sefar_serve.local import many
from sefar_serve.local.answers import Answers, posed, videos_at_once
from sefar_serve.local.background import Background, ModelClosedError
from sefar_serve.local.videos import GivenVideo, is_one, read_video
from sefar_serve.metadata import ModelMetadata
from sefar_serve.options import CaptionOptions, ClassifyOptions, ClipOptions, EmbedOptions
from sefar_serve.pose import Estimators
from sefar_serve.schemas.chat import ChatRequest
from sefar_serve.settings import Settings, nearest, read_settings
from sefar_serve.validation import explain

T = TypeVar("T")
Asked = TypeVar("Asked", bound=BaseModel)

Results = Generator[T | Failure, None, None]
"""Results of many videos, in their order. `close()` cancels what is in progress."""

AHEAD = 2
"""How many videos to read before the oldest has its result, as a multiple of those processed at a time. With more, a
slow video holds up the others less, and more of them are in memory."""

# mypy reports the overloads below: a str is a video, and also an iterable of str. At run time it is one video.


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    captioner: str | None = None,
    device: str | None = None,
    **settings: Any,
) -> Model:
    """Load a model into this process, or connect to one on a Triton server.

        model = sefar.load()                             # the shipped model, or the one in SEFAR_MODEL
        model = sefar.load("model.onnx", device="cpu", decode_threads=4)
        model = sefar.load("triton://127.0.0.1:8001")    # the gRPC port; needs sefar-serve[triton]

    The settings are those of the server and the command line. They are read from the environment (``SEFAR_MODEL``,
    ``SEFAR_DECODE_THREADS`` …) and from the file in ``SEFAR_CONFIG``. Arguments override both.

    Args:
        model: an ONNX file written by `sefar export`, or the ``triton://host:port`` or ``grpc://host:port`` of a Triton
            server. None takes the model from the settings, by default the shipped one.
        captioner: the adapter for `Model.caption` and `Model.ask`: a folder or hub id, ``auto`` for the shipped one, or
            ``none``. The first such call loads it; this needs ``sefar-serve[mllm]``.
        device: ``auto``, ``cpu`` or ``cuda``.
        settings: any other field of `sefar_serve.settings.Settings`, such as ``decode_threads``,
            ``inference_threads``, ``max_batch``, ``abstain_below``, ``url_hosts`` or ``max_duration``.

    Raises:
        ModelLoadError: the file does not exist, or is not an ONNX file of a SeFAR model.
        EngineUnavailableError: the Triton server cannot be reached, or serves no SeFAR model.
        PoseError: the model sees joints, and its pose estimator is missing or another one is installed.
        ModuleNotFoundError: a package is missing; the message names the extra to install.
        SettingsError: a setting has an invalid value; it is a `ValueError`.
        TypeError: unknown setting, or `model` is neither a path nor a URL.
        ValueError: `model` is empty, or a URL of another kind.
    """
    given: dict[str, Any] = {"captioner": captioner, "device": device, **settings}
    named = place_of(model) | {name: value for name, value in given.items() if value is not None}
    if unknown := sorted(named.keys() - Settings.model_fields.keys()):
        hint = nearest(unknown[0], Settings.model_fields)
        known = f"; the settings are {', '.join(sorted(Settings.model_fields))}"
        raise TypeError(f"unknown setting {unknown[0]!r}{hint or known}")
    loaded = Model(read_settings(**named))
    loaded._ready()
    return loaded


class Model:
    """A loaded model. Create it with `load`.

    Each method takes one video and returns its result, or takes an iterable of videos and returns a generator of
    results, one for each video and in the same order. Videos are read from the iterable as they are needed, so it may
    be endless. They are decoded on all cores (set `decode_threads` to change that). Closing the generator cancels what
    is in progress.

    A video is a path, the bytes of a file, or a file opened with mode ``rb``. An ``http(s)://`` URL is fetched if its
    host is in the setting `url_hosts`.

    With one video, an error is raised. With many, an error that concerns one video is a `sefar_client.Failure` in the
    place of its result. Errors that every video would meet are raised, and so are errors of the iterable itself, after
    the results before them.

    Calls block and can come from several threads. In asynchronous code, use `asyncio.to_thread`. A model can be
    pickled; a worker process loads it once, at the first call. A forked process loads it again. The model is closed by
    `close`, at the end of a `with` block, or when the program exits.

    Args:
        settings: names the model and the captioner.
        engine: makes the engine.
        generator: makes the language model; called at the first caption or question.
        estimators: makes what finds the joints for a model that sees them.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        engine: Callable[[Settings], Engine] = make_engine,
        generator: Callable[[Settings], language.Generator | None] = make_generator,
        estimators: Callable[[Settings], Estimators] = make_estimators,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._generator = generator
        self._estimators = estimators
        self._background: Background[Answers] | None = None
        self._finalizer: weakref.finalize[[], Model] | None = None
        self._closed = False
        self._lock = threading.Lock()
        _models.add(self)

    @property
    def metadata(self) -> ModelMetadata:
        """The model's description: name, version, labels, sampling. For a Triton server, that of its default model.

        Raises:
            EngineUnavailableError: the Triton server no longer serves a model.
            ModelClosedError: the model is closed.
        """
        return self._ready().parts.engine.model(None).metadata

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; `Label.index` is the position in it."""
        return self.metadata.labels

    @overload
    def classify(self, video: Video, **options: Unpack[calls.ClassifyOptions]) -> Classification: ...  # type: ignore[overload-overlap]
    @overload
    def classify(self, video: Iterable[Video], **options: Unpack[calls.ClassifyOptions]) -> Results[Classification]: ...
    def classify(
        self, video: Video | Iterable[Video], **options: Unpack[calls.ClassifyOptions]
    ) -> Classification | Results[Classification]:
        """Classify a video: fine-grained labels, and how far to trust them (η).

            result = model.classify("vault.mp4", top_k=3)
            print(result.best.label, result.best.score, result.reliability)
            timeline = model.classify("meet.mp4", start=10, end=70, window=2, stride=1).timeline

        Args:
            video: one video, or an iterable of videos.
            options: `top_k`, the number of labels (5); `attributes`, include the labels' attributes (True);
                `raw_scores`, include logits (False); `start` and `end` in seconds, to use a part of the video;
                `window` and `stride` in seconds, for sliding windows; `model`, one of several on a Triton server;
                `poses`, include the joints that a model of joints saw (False), as `result.clip.pose.joints`;
                with windows, `smoothing`, `min_segment` in seconds and `background`, a label that is left out, change
                how they are merged to segments.

        Returns:
            The labels, best first, with scores in [0, 1] and η in (0, 1]. With windows, `timeline` has an entry for
            each, `segments` has the stretches with one label that they are merged to, and the labels are those of the
            most reliable window. For an iterable, a generator of results.

        Raises:
            ClipError: it is not a video, or cannot be decoded; each case has its own subclass.
            ClipSpanError: the video has no such part.
            OSError: the file cannot be read, e.g. `FileNotFoundError`.
            UrlError: the URL is not allowed, or cannot be fetched.
            EngineError: the model failed, or its server cannot be reached.
            NoJointsError: `poses` is set, and the model sees no joints.
            UnknownLabelError: `background` is not one of the model's labels.
            ModelClosedError: the model is closed.
            TypeError: unknown option, or not a video.
            ValueError: an option has an invalid value.
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
        """Embed a video: a vector for the clip, and one for each temporal element.

            vectors = model.embed("vault.mp4", include=["embedding", "tokens"])
            print(vectors)  # vault.mp4: embedding (256,), tokens (3, 128) float32

        Args:
            video: one video, or an iterable of videos.
            options: `include`, ``embedding`` (the default), ``tokens`` or both; `start`, `end`, `window`, `stride` and
                `model`, `poses` as in `classify`.

        Returns:
            `embedding`, float32 (D,), and `tokens`, float32 (T, D'), one for each temporal element, the context last.
            With windows, `timeline` has an entry for each, and the vectors are the means. For an iterable, a generator
            of results.

        Raises:
            Exception: the same as `classify`.
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
        """Describe a video in a sentence, and compare it with the classifier.

        The first call loads the language model, which takes seconds.

            caption = model.caption("vault.mp4")
            print(caption.caption, caption.notice)

        Args:
            video: one video, or an iterable of videos.
            options: `prompt`, what to ask the language model; `max_tokens`, the limit of a caption (128);
                `temperature` (0: always the most likely token) and `seed`, for repeatable sampling; `abstain_below`,
                withhold a caption that contradicts the classifier if η is below this; `top_k`, the number of labels
                (5); `start`, `end`, `window` and `stride` as in `classify`.

        Returns:
            The caption, a `notice` if it contradicts the classifier, and the classifier's labels. With windows,
            `timeline` has an entry for each, and the caption is that of the most reliable one. For an iterable, a
            generator of results.

        Raises:
            GenerationError: the language model cannot be loaded, was trained for another model, or failed.
            ModuleNotFoundError: its packages are missing; the message names the extra to install.
            ValueError: an option has an invalid value, or the captioner is ``none``.
            Exception: the same as `classify`.
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
            print(chosen.text, [option.probability for option in chosen.sefar.options or ()])

        Args:
            video: one video, or an iterable of videos.
            question: it may end with its own options ``A.… B.… C.… D.…``.
            options: `options`, the choices; `answer_mode`, how to choose: by the likelihood of each option
                (``loglik``, the default with options), by that of its letter (``letter``), or in free text
                (``generate``); `max_tokens`, `temperature`, `top_p`, `seed` and `stop` for free text; `abstain_below`
                as in `caption`; `start` and `end` as in `classify`.

        Returns:
            The answer in the format of OpenAI's chat completions. `text` is the answer; `sefar` has the classifier's
            labels and whether the answer agrees. For an iterable, a generator of results.

        Raises:
            Exception: the same as `caption`.
        """
        if not isinstance(question, str):
            raise TypeError(f"a question must be a str, not {type(question).__name__}")
        chat = {name: value for name, value in options.items() if name not in ("start", "end")}
        part = _checked(ClipOptions, {name: options.get(name) for name in ("start", "end")}, calls.AskOptions)
        messages = [{"role": "user", "content": question}]
        asked = _checked(ChatRequest, chat, calls.AskOptions, messages=messages)
        posed(asked)
        self._load_captioner(asked.model)
        return self._answer(video, lambda answers, one: answers.ask(one, part, asked))

    def close(self) -> None:
        """Cancel what is in progress and release the model. Waits for videos that are being decoded."""
        with self._lock:
            self._closed = True
            background, self._background = self._background, None
        if background is not None:
            background.close()
        if self._finalizer is not None:
            self._finalizer.detach()  # it refers to the engine, whose memory is to be freed now

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
        # The path must not depend on the working directory, which may differ in a worker process.
        settings = self._settings.model_copy(update={"model": self._settings.model.absolute()})
        return _copy_of, (settings, self._engine, self._generator, self._estimators)

    def _ready(self) -> Background[Answers]:
        """Return the running parts. The first call starts them.

        Raises:
            ModelClosedError: the model is closed.
            Exception: the same as `load`.
        """
        if (background := self._background) is not None:
            return background
        with self._lock:
            if self._closed:
                raise ModelClosedError("this model is closed; load it again")
            if self._background is None:
                engine = self._engine(self._settings)
                estimators = self._estimators(self._settings)
                background = Background(partial(Answers.opened, self._settings, engine, self._generator, estimators))
                self._finalizer = weakref.finalize(self, background.close, wait=False)
                self._finalizer.atexit = False
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
        # A bound method, so that the results keep the model alive: for result in load().classify(videos).
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


def place_of(model: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Return the settings for a model's location."""
    if model is None:
        return {}
    if not isinstance(model, str | os.PathLike):
        raise TypeError(f"a model must be the path of an ONNX file, or triton://host:port, not {type(model).__name__}")
    if model == "":
        raise ValueError("the path of the model is empty; pass the path of an ONNX file, or None for the default model")
    if not isinstance(model, str) or "://" not in model:
        return {"model": Path(model), "triton_url": None}
    scheme, _, address = model.partition("://")
    if scheme in ("triton", "grpc"):
        return {"triton_url": address.rstrip("/")}
    if scheme in ("http", "https"):
        raise ValueError(
            f"{model} is not a model; for a gateway use sefar_client.Client({model!r}), for a Triton server pass its "
            "gRPC address: triton://host:8001"
        )
    raise ValueError(f"{model!r} is not supported; pass the path of an ONNX file, or triton://host:port")


def _checked(kind: type[Asked], options: Mapping[str, Any], known: type, **more: Any) -> Asked:
    """Check options as the HTTP API does, with its defaults.

    Args:
        kind: the class of the request.
        options: passed by the caller; those that are None are ignored.
        known: the TypedDict with the names that this call accepts.
        more: other fields of the request.

    Raises:
        TypeError: unknown option.
        ClipSpanError: `start`, `end`, `window` or `stride` is invalid.
        ValueError: another option is invalid.
    """
    names: frozenset[str] = known.__optional_keys__  # type: ignore[attr-defined]  # every TypedDict has it
    if unknown := sorted(options.keys() - names):
        hint = nearest(unknown[0], names) or f"; the options are {', '.join(sorted(names))}"
        raise TypeError(f"unknown option {unknown[0]!r}{hint}")
    try:
        return kind.model_validate({**{name: value for name, value in options.items() if value is not None}, **more})
    except ValidationError as error:
        first = error.errors()[0]
        message = explain(first)
        if first["loc"] and first["loc"][0] in ("start", "end", "window", "stride"):
            raise ClipSpanError(message) from error
        raise ValueError(message) from error


_models: weakref.WeakSet[Model] = weakref.WeakSet()
_copies: dict[tuple[object, ...], Model] = {}


def _copy_of(
    settings: Settings,
    engine: Callable[[Settings], Engine],
    generator: Callable[[Settings], language.Generator | None],
    estimators: Callable[[Settings], Estimators],
) -> Model:
    """Unpickle a model. All copies in a process share one, because every task of a pool unpickles its own."""
    key = (settings, engine, generator, estimators)
    model = _copies.get(key)
    if model is None or model._closed:
        model = _copies[key] = Model(settings, engine=engine, generator=generator, estimators=estimators)
    return model


def _forget_threads() -> None:
    """In a forked process, make every model load again, because its threads exist only in the parent."""
    for model in _models:
        model._lock = threading.Lock()
        model._background = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
