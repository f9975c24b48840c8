"""Results for files, from a model in this process or from a gateway, in the order of the files."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import typer
from pydantic import BaseModel, TypeAdapter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sefar_client import Client, Failure, GatewayError, GatewayUnreachableError
from sefar_client import Model as ServedModel
from sefar_client.base import Result
from sefar_serve.cli import console
from sefar_serve.engine import EngineError
from sefar_serve.errors import SefarError
from sefar_serve.language import AdapterNotFoundError
from sefar_serve.model import Model, load
from sefar_serve.quantity import quantity
from sefar_serve.schemas.chat import ChatCompletion
from sefar_serve.schemas.problem import ErrorBody, ItemError, problem_of

Item = TypeVar("Item", bound=BaseModel)
Call = Literal["classify", "embed", "caption"]

DOING: dict[Call, str] = {"classify": "classifying videos", "embed": "embedding videos", "caption": "captioning videos"}
"""What the progress bar says."""

REQUESTS_AT_ONCE = 8


@dataclass(frozen=True)
class Place:
    """Where to process files: in this process, or on a gateway.

    Attributes:
        model: ONNX file, or triton://HOST:PORT; None for the one in the settings.
        captioner: adapter; None for the one in the settings.
        url: address of the gateway; None for this process.
        api_key: sent to the gateway as a bearer token.
        anonymous: the model may see only joints.
    """

    model: str | None = None
    captioner: str | None = None
    url: str | None = None
    api_key: str | None = None
    anonymous: bool = False

    @contextmanager
    def opened(self) -> Iterator[Model | Client]:
        """Load the model, or connect to the gateway.

        Raises:
            SefarError, ModuleNotFoundError: the model cannot be loaded.
        """
        if self.url is None:
            with load(self.model, captioner=self.captioner, anonymous=self.anonymous or None) as model:
                yield model
        else:
            with Client(self.url, api_key=self.api_key) as client:
                yield client


def process(
    files: Sequence[str],
    place: Place,
    call: Call,
    kind: TypeAdapter[Item | ItemError],
    options: dict[str, Any],
    *,
    joints_if_seen: bool = False,
) -> list[Item | ItemError]:
    """Process files and show a progress bar.

    Args:
        files: the videos: paths or URLs.
        place: where to process them.
        call: the method of the model or the client.
        kind: the type of the entries.
        options: for the call.
        joints_if_seen: request joints if the model sees them.

    Returns:
        An entry or an error for each file, in the order of the files.

    Raises:
        GatewayError: the gateway refuses all of them, for example because the key is wrong.
        GatewayUnreachableError: no gateway answers.
        AdapterNotFoundError: the captioner does not exist.
        typer.Exit: the user pressed Ctrl-C.
    """
    items: list[Item | ItemError] = []
    with place.opened() as answering, _progress(DOING[call], len(files)) as advance:
        if joints_if_seen and _sees_joints(answering):
            options = options | {"poses": True}
        while len(items) < len(files):
            try:
                for result in _results(answering, call, files[len(items) :], options):
                    name = files[len(items)]
                    if isinstance(result, Failure):
                        items.append(_item_error(len(items), name, result.error))
                    else:
                        items.append(kind.validate_python(result.model_dump() | {"index": len(items), "name": name}))
                    advance()
            except AdapterNotFoundError:
                raise
            except KeyboardInterrupt:
                console.err.print(
                    f"stopped after {len(items)} of {quantity(len(files), 'video')}; no results are kept. "
                    "`sefar extract` keeps those of many videos and can be resumed",
                    soft_wrap=True,
                    highlight=False,
                )
                raise typer.Exit(128 + signal.SIGINT) from None
            except SefarError as error:
                # Retrying an unavailable model took minutes already; do not repeat that for every remaining file.
                until = len(files) if isinstance(error, EngineError) else len(items) + 1
                items += [_item_error(index, files[index], error) for index in range(len(items), until)]
    return items


def ask(file: str, question: str, place: Place, options: dict[str, Any]) -> ChatCompletion | ItemError:
    """Ask a question about a file.

    Args:
        file: the video: a path or URL.
        question: the question.
        place: where to process it.
        options: for the call.

    Raises:
        GatewayUnreachableError: no gateway answers.
        AdapterNotFoundError: the captioner does not exist.
    """
    with place.opened() as answering:
        try:
            answer = ChatCompletion.model_validate(answering.ask(file, question, **options).model_dump())
        except (GatewayUnreachableError, AdapterNotFoundError):
            raise
        except (SefarError, GatewayError, OSError) as error:
            return _item_error(0, file, error)
    if place.url is None:
        answer.sefar.clips[0].name = file
    return answer


def _sees_joints(answering: Model | Client) -> bool:
    """Whether the default model sees joints."""
    if isinstance(answering, Model):
        return answering.metadata.sees_joints
    served = [model for model in answering.models() if isinstance(model, ServedModel)]
    return bool(served) and served[0].stream != "rgb"


def _results(
    answering: Model | Client, call: Call, files: Sequence[str], options: dict[str, Any]
) -> Iterator[Result | Failure]:
    if isinstance(answering, Client):
        return answering.each(partial(getattr(answering, call), **options), files, at_once=REQUESTS_AT_ONCE)
    return iter(getattr(answering, call)(files, **options))


@contextmanager
def _progress(task: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar; yields a function to call after each video."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console.err, transient=True, disable=total < 2) as progress:
        bar = progress.add_task(task, total=total)
        yield lambda: progress.advance(bar)


def _item_error(index: int, name: str, error: Exception) -> ItemError:
    if isinstance(error, GatewayError):
        body = ErrorBody(message=str(error), type="gateway_error", param=error.param, code=error.code)
    elif isinstance(error, OSError) and not isinstance(error, TimeoutError):
        code = "file_not_found" if isinstance(error, FileNotFoundError) else "unreadable_file"
        body = ErrorBody(message=f"{name}: {error.strerror or error}", type="file_error", param=None, code=code)
    else:
        body = problem_of(error).body
    return ItemError(index=index, name=name, error=body)
