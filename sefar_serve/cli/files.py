"""Many files through one model, in this process or behind a gateway: the same results, in the files' order."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, TypeAdapter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sefar_client import AsyncClient, Client, Failure, GatewayError, GatewayUnreachableError
from sefar_client.results import Result
from sefar_serve.cli import console
from sefar_serve.engine import Engine
from sefar_serve.language import GenerationError, Generator
from sefar_serve.metadata import ModelMetadata
from sefar_serve.recognition import Bounds, ClipInput, Recognised, Recognizer, Span
from sefar_serve.schemas.chat import ChatCompletion
from sefar_serve.schemas.problem import ErrorBody, ItemError, problem_of

Item = TypeVar("Item", bound=BaseModel)

REQUESTS_AT_ONCE = 8


def run_locally(
    files: Sequence[Path],
    engine: Engine,
    bounds: Bounds,
    span: Span,
    answer: Callable[[int, Recognised, ModelMetadata], Item | Awaitable[Item]],
    generator: Generator | None = None,
) -> list[Item | ItemError]:
    """Look at files with a model in this process.

    Args:
        files: the videos.
        engine: started and closed here.
        bounds: on threads and each video.
        span: which part of each video.
        answer: makes an entry of the file's position and what was found in it.
        generator: what `answer` needs besides, started and closed here.

    Returns:
        In the order of the files, the entry or what went wrong with this one.
    """

    async def run() -> list[Item | ItemError]:
        async with AsyncExitStack() as running:
            recognizer = await running.enter_async_context(Recognizer(engine, bounds))
            if generator is not None:
                running.push_async_callback(generator.close)
                await generator.start()
            model = engine.model(None)

            async def one(index: int, file: Path) -> Item | ItemError:
                [found] = await recognizer.recognise([ClipInput(str(file), lambda: file)], model, span)
                if not isinstance(found, Recognised):
                    return _item_error(index, str(file), found)
                try:
                    item = answer(index, found, model.metadata)
                    return await item if inspect.isawaitable(item) else item
                except GenerationError as error:
                    return _item_error(index, str(file), error)

            # Twice the threads: one decodes while another's clip is in the model.
            return await _each(files, one, at_once=min(2 * bounds.decode_threads, bounds.max_decoding))

    return asyncio.run(run())


def run_remotely(
    files: Sequence[Path],
    url: str,
    api_key: str | None,
    call: Literal["classify", "embed", "caption"],
    kind: TypeAdapter[Item | ItemError],
    options: dict[str, Any],
) -> list[Item | ItemError]:
    """Send files to a running gateway, a few at a time.

    Args:
        files: the videos.
        url: of the gateway.
        api_key: sent as bearer token when given.
        call: which of the client's calls.
        kind: of the entries.
        options: of the call.

    Returns:
        In the order of the files, the entry or what went wrong with this one.

    Raises:
        GatewayError: the gateway refuses all of them, for want of a key for example.
        GatewayUnreachableError: no gateway answers.
    """

    async def run() -> list[Item | ItemError]:
        async with AsyncClient(url, api_key=api_key) as client:
            calls: dict[str, Callable[[Path], Awaitable[Result]]] = {
                "classify": partial(client.classify, **options),
                "embed": partial(client.embed, **options),
                "caption": partial(client.caption, **options),
            }
            items: list[Item | ItemError] = []
            with _progress(len(files)) as advance:
                async for found in client.each(calls[call], files, at_once=REQUESTS_AT_ONCE):
                    index, name = len(items), str(files[len(items)])
                    if isinstance(found, Failure):
                        items.append(_item_error(index, name, found.error))
                    else:
                        items.append(kind.validate_python(found.model_dump() | {"index": index, "name": name}))
                    advance()
            return items

    return asyncio.run(run())


def ask_remotely(
    file: Path, question: str, url: str, api_key: str | None, options: dict[str, Any]
) -> ChatCompletion | ItemError:
    """Ask a running gateway about a file.

    Args:
        file: the video.
        question: about it.
        url: of the gateway.
        api_key: sent as bearer token when given.
        options: of the client's call.

    Raises:
        GatewayUnreachableError: no gateway answers.
    """
    with Client(url, api_key=api_key) as client:
        try:
            return ChatCompletion.model_validate(client.ask(file, question, **options).model_dump())
        except GatewayUnreachableError:
            raise
        except (GatewayError, OSError) as error:
            return _item_error(0, str(file), error)


async def _each(
    files: Sequence[Path], one: Callable[[int, Path], Awaitable[Item | ItemError]], *, at_once: int
) -> list[Item | ItemError]:
    """Apply `one` to all files, some at once, under a progress bar; results in the order of the files."""
    places = asyncio.Semaphore(at_once)
    with _progress(len(files)) as advance:

        async def bounded(index: int, file: Path) -> Item | ItemError:
            async with places:
                item = await one(index, file)
            advance()
            return item

        return list(await asyncio.gather(*(bounded(i, file) for i, file in enumerate(files))))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A progress bar; gives what to call after each video."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console.err, transient=True, disable=total < 2) as progress:
        bar = progress.add_task("videos", total=total)
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
