"""The methods of the Python API: their options, and that their results equal the HTTP client's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import fake_model
from fastapi.testclient import TestClient

from sefar_client import Caption, ChatCompletion, Classification, Client, Embedding, calls
from sefar_client.base import Result
from sefar_serve.api import create_app
from sefar_serve.clip import ClipSpanError, NotAVideoError
from sefar_serve.engine import FAKE_METADATA, FakeEngine, ModelNotFoundError
from sefar_serve.language import AdapterMismatchError, FakeGenerator, GenerationFailedError, PromptError
from sefar_serve.metadata import ModelMetadata
from sefar_serve.model import Model
from sefar_serve.options import CaptionOptions, ClassifyOptions, EmbedOptions
from sefar_serve.segments import UnknownLabelError
from sefar_serve.settings import Settings


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with fake_model() as model:
        yield model


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """The HTTP client of a gateway with the same engine and generator."""
    app = create_app(Settings(decode_threads=2), FakeEngine(), FakeGenerator())
    with TestClient(app) as http, Client("http://gateway", patience=0) as client:
        client._http = http
        yield client


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, bright_clip: bytes) -> Path:
    path = tmp_path_factory.mktemp("videos") / "bright.mp4"
    path.write_bytes(bright_clip)
    return path


def without_ids(result: Result) -> dict[str, Any]:
    """A result as lists and dictionaries, without the ids that only a gateway assigns."""

    def stripped(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: stripped(item) for key, item in value.items() if key not in ("clip_id", "id", "created")}
        return [stripped(item) for item in value] if isinstance(value, list) else value

    stripped_result: dict[str, Any] = stripped(result.model_dump())
    return stripped_result


Call = Callable[[Any, Any], Result]
CALLS: dict[str, Call] = {
    "classify": lambda to, video: to.classify(video),
    "classify, other options": lambda to, video: to.classify(video, top_k=2, attributes=False, raw_scores=True),
    "classify, a part": lambda to, video: to.classify(video, start=0.2, end=0.7),
    "classify, windows": lambda to, video: to.classify(video, start=0.1, window=0.4, stride=0.1),
    "classify, segments": lambda to, video: to.classify(
        video, window=(0.2, 0.4), smoothing=0.2, min_segment=0.3, background="giant circle forward"
    ),
    "classify, a named model": lambda to, video: to.classify(video, model="fake:0"),
    "embed": lambda to, video: to.embed(video),
    "embed, tokens": lambda to, video: to.embed(video, include=["tokens"]),
    "embed, windows": lambda to, video: to.embed(video, include=("embedding", "tokens"), window=0.5),
    "caption": lambda to, video: to.caption(video),
    "caption, other options": lambda to, video: to.caption(video, prompt="Say it.", max_tokens=2, seed=1, top_k=1),
    "caption, windows": lambda to, video: to.caption(video, window=0.5),
    "ask": lambda to, video: to.ask(video, "In which direction?"),
    "ask, other options": lambda to, video: to.ask(video, "Which?", max_tokens=3, temperature=0.5, top_p=0.5, stop="h"),
    "ask, options": lambda to, video: to.ask(video, "Which?", options=["salto forward tucked", "something else"]),
    "ask, its own options": lambda to, video: to.ask(video, "Which? A.one B.two C.three D.four", answer_mode="letter"),
    "ask, in free text": lambda to, video: to.ask(video, "Which?", options=["a", "b"], answer_mode="generate", end=0.5),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_results_equal_those_of_the_http_client(model: Model, client: Client, path: Path, call: Call) -> None:
    here, there = call(model, path), call(client, path)
    assert type(here) is type(there)
    expected = without_ids(there)
    if isinstance(there, ChatCompletion):
        expected["sefar"]["clips"][0]["name"] = "bright.mp4"  # a gateway receives only the bytes
    assert without_ids(here) == expected
    assert repr(here).startswith(type(there).__name__)
    if not isinstance(here, ChatCompletion):
        assert (str(here), here._repr_html_()) == (str(there), there._repr_html_())  # type: ignore[attr-defined]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_many_videos_give_the_same_results_as_one(model: Model, path: Path, call: Call) -> None:
    one = without_ids(call(model, path))
    several: Any = call(model, [path, path])
    assert [without_ids(result) for result in several] == [one, one]


def test_the_types(model: Model, path: Path) -> None:
    assert isinstance(model.classify(path), Classification)
    assert isinstance(model.caption(path), Caption)
    assert isinstance(model.ask(path, "What?"), ChatCompletion)
    vectors = model.embed(path, include=["embedding", "tokens"])
    assert isinstance(vectors, Embedding)
    assert vectors.embedding is not None
    assert vectors.tokens is not None
    assert (vectors.embedding.shape, vectors.embedding.dtype) == ((8,), np.float32)
    assert (vectors.tokens.shape, vectors.tokens.dtype) == ((3, 4), np.float32)
    assert vectors.embedding.flags.writeable


@pytest.mark.parametrize(
    ("known", "kind"),
    [
        (calls.ClassifyOptions, ClassifyOptions),
        (calls.EmbedOptions, EmbedOptions),
        (calls.CaptionOptions, CaptionOptions),
    ],
)
def test_every_client_option_exists_here(known: Any, kind: Any) -> None:
    assert known.__optional_keys__ <= kind.model_fields.keys()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"topk": 3}, TypeError, r"unknown option 'topk'; did you mean top_k\?"),
        (
            {"zoom": 3},
            TypeError,
            "unknown option 'zoom'; the options are attributes, background, end, min_segment, model, poses, raw_scores",
        ),
        ({"stride": 1}, ClipSpanError, "stride: needs `window`"),
        ({"top_k": 0}, ValueError, "top_k: must be at least 1, not 0"),
        ({"top_k": "many"}, ValueError, "top_k"),
        ({"encoding_format": "float"}, TypeError, "unknown option"),
        ({"window": 0}, ClipSpanError, "window: must be greater than 0"),
        ({"window": [0.5, -1]}, ClipSpanError, "window: must be greater than 0, not -1"),
        ({"window": []}, ClipSpanError, "window: send at least one length"),
        ({"window": {"a": 1}}, ClipSpanError, "window: must be a number of seconds or a list of them"),
        ({"smoothing": 0.1}, ValueError, "smoothing: needs `window`"),
        ({"window": 1, "min_segment": float("inf")}, ValueError, "min_segment: inf is not a finite number"),
        ({"window": 1, "background": "none"}, UnknownLabelError, "background: 'none' is not a label of this model"),
        ({"start": -1}, ClipSpanError, "start: "),
        ({"start": 2, "end": 1}, ClipSpanError, "0 <= start < end"),
        ({"start": 100}, ClipSpanError, r"bright\.mp4 lasts 0\.960 s; choose an earlier start"),
        ({"model": "other"}, ModelNotFoundError, "there is no model 'other'"),
    ],
)
def test_invalid_options(model: Model, path: Path, options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        model.classify(path, **options)


def test_options_are_checked_before_a_video_is_taken(model: Model) -> None:
    videos = iter([b""])
    with pytest.raises(ValueError, match="include"):
        model.embed(videos, include=["vectors"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="temperature"):
        model.caption(videos, temperature=3)
    with pytest.raises(ValueError, match="needs options"):
        model.ask(videos, "Which?", answer_mode="letter")
    with pytest.raises(ValueError, match="end"):
        model.ask(videos, "Which?", end=0)
    for empty in ("", " \n"):
        with pytest.raises(PromptError, match="the last message is empty; ask something"):
            model.ask(videos, empty)
        with pytest.raises(ValueError, match="prompt: "):
            model.caption(videos, prompt=empty)
    with pytest.raises(TypeError, match="a question must be a str, not int"):
        model.ask(videos, 3)  # type: ignore[call-overload]
    with pytest.raises(ModelNotFoundError, match="no captioner 'other'; the loaded one is 'fake-captioner'"):
        model.ask(videos, "Which?", model="other")
    assert list(videos) == [b""]


def test_an_option_that_is_none_counts_as_omitted(model: Model, path: Path) -> None:
    assert model.caption(path, max_tokens=None, seed=None, start=None, abstain_below=None) == model.caption(path)


def test_a_text_that_contradicts_the_classifier_is_withheld(path: Path) -> None:
    generator = FakeGenerator("a salto backward tucked")
    with fake_model(generator=generator) as model:
        found = model.caption(path)
        assert (found.agreement, found.abstained) == ("disagree", False)
        assert model.caption(path, abstain_below=1).abstained
    with fake_model(generator=generator, abstain_below=1.0) as strict:
        assert strict.caption(path).abstained
        assert not strict.caption(path, abstain_below=0).abstained


def test_the_language_model_is_loaded_once_at_the_first_text(path: Path) -> None:
    made: list[FakeGenerator] = []

    def make(_: Settings) -> FakeGenerator:
        made.append(FakeGenerator())
        return made[-1]

    with Model(Settings(decode_threads=2), engine=lambda _: FakeEngine(), generator=make) as model:
        model.classify(path)
        assert not made
        list(model.caption([path] * 5))
        model.ask(path, "What?")
        assert len(made) == 1
        assert made[0].started
    assert not made[0].started


def test_loading_the_language_model_is_retried_after_a_failure(path: Path) -> None:
    outcomes: list[Any] = [AdapterMismatchError("of another model"), ModuleNotFoundError("no torch"), FakeGenerator()]

    def make(_: Settings) -> FakeGenerator:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        assert isinstance(outcome, FakeGenerator)
        return outcome

    with Model(Settings(), engine=lambda _: FakeEngine(), generator=make) as model:
        with pytest.raises(AdapterMismatchError, match="of another model"):
            model.caption(path)
        with pytest.raises(ModuleNotFoundError, match="no torch"):
            model.caption([path])
        assert model.caption(path).caption


def test_a_captioner_that_reads_another_model(path: Path) -> None:
    class Picky(FakeGenerator):
        def fits(self, metadata: ModelMetadata) -> None:
            raise AdapterMismatchError(f"reads another model than {metadata.name}")

    with fake_model(generator=Picky()) as model:
        with pytest.raises(AdapterMismatchError, match="another model than fake"):
            model.caption(path)
        with pytest.raises(AdapterMismatchError, match="another model than fake"):
            list(model.caption([path] * 20))


def test_no_captioner(path: Path) -> None:
    with (
        Model(Settings(captioner="none"), engine=lambda _: FakeEngine()) as model,
        pytest.raises(ValueError, match="captions are disabled; set `captioner`"),
    ):
        model.caption(path)


def test_a_failing_language_model(path: Path) -> None:
    with fake_model(generator=FakeGenerator(failure=GenerationFailedError("out of memory"), fail_after=1)) as model:
        assert [str(result) for result in model.caption([path] * 2)] == ["out of memory"] * 2
        with pytest.raises(GenerationFailedError):
            model.ask(path, "What?")


def test_an_invalid_prompt_is_raised_and_not_a_failure_per_video(model: Model, path: Path) -> None:
    with pytest.raises(PromptError, match="reserved for clips"):
        list(model.caption([path] * 20, prompt="Look: <sefar>"))


def test_metadata_and_repr(model: Model) -> None:
    assert model.metadata == FAKE_METADATA
    assert model.labels == FAKE_METADATA.labels
    assert repr(model).startswith("<sefar_serve.Model fake, version 0, 3 labels, /")


def test_videos_can_be_decoded_in_processes(model: Model, path: Path) -> None:
    with fake_model(decode_in="processes", decode_threads=1) as careful:
        assert without_ids(careful.classify(path)) == without_ids(model.classify(path))
        assert without_ids(careful.embed(path, window=0.4)) == without_ids(model.embed(path, window=0.4))
        with pytest.raises(NotAVideoError):
            careful.classify(b"no video" * 99)
