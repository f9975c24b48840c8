"""The command `sefar extract`: batch feature extraction that can be killed and resumed."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Literal, Self

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBars

from sefar_serve.assemble import bounds_of, make_engine, make_estimators
from sefar_serve.cli import console
from sefar_serve.cli.options import AnonymousOption, ModelOption, needs_engine, path_prefixes, settings_for
from sefar_serve.clip import ClipLimits
from sefar_serve.cores import available_cores
from sefar_serve.optional import needs_extra
from sefar_serve.quantity import quantity
from sefar_serve.settings import Settings

if TYPE_CHECKING:  # their packages are an extra
    from sefar_serve.extract.rows import RowOptions
    from sefar_serve.extract.run import Backend, Progress

PLAIN_SECONDS = 30.0
"""Seconds between progress lines if stderr is not a terminal."""

MAX_WAIT_MS = 20.0
"""Longer than when serving, because full batches matter more here than latency."""


def extract(
    source: Annotated[
        str,
        typer.Argument(
            help="folder of videos; glob; list file (one `path label` per line); or CSV, JSONL or Parquet manifest "
            "(column path, optional start, end and id); local or remote (s3://…)",
            show_default=False,
        ),
    ],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FOLDER", help="output folder; run again to resume")],
    form: Annotated[
        Literal["parquet", "npy", "webdataset"],
        typer.Option("--format", help="where to store vectors: in the Parquet files, or next to them"),
    ] = "parquet",
    tokens: Annotated[bool, typer.Option("--tokens", help="also store one token per temporal element")] = False,
    poses: Annotated[
        bool, typer.Option("--poses", help="also store the joints that the model saw; only for models of joints")
    ] = False,
    dtype: Annotated[Literal["float32", "float16"], typer.Option("--dtype", help="dtype of the vectors")] = "float32",
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="labels per clip")] = 5,
    root: Annotated[
        str | None, typer.Option("--root", help="folder or URL that relative paths in a list or manifest start from")
    ] = None,
    remap: Annotated[
        list[str] | None,
        typer.Option("--remap", metavar="OLD=NEW", help="replace a prefix of the paths in a list or manifest"),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="process clips again that failed before")
    ] = False,
    moved: Annotated[
        bool, typer.Option("--moved", help="the videos have new paths: keep the rows of their ids")
    ] = False,
    shard_rows: Annotated[
        int, typer.Option("--shard-rows", min=1, help="clips per shard; a killed run loses its unfinished shards")
    ] = 512,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="decode processes (default: one per core; with --ray, of the cluster)"),
    ] = None,
    clip_timeout: Annotated[
        float, typer.Option("--clip-timeout", min=0.1, help="seconds that decoding a clip may take")
    ] = 60.0,
    model: ModelOption = None,
    triton_url: Annotated[
        str | None, typer.Option("--triton-url", help="host:port of a Triton server to run the model on")
    ] = None,
    ray: Annotated[
        str | None, typer.Option("--ray", metavar="ADDRESS", help="run on a Ray cluster: host:port, auto, or local")
    ] = None,
    gpus: Annotated[float, typer.Option("--ray-gpus", min=0, help="GPUs per inference actor on Ray")] = 0.0,
    anonymous: AnonymousOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the run's counts as one JSON object")] = False,
) -> None:
    """Extract features of many videos: embeddings, labels and η in Parquet shards, one row per clip.

    A run can be killed at any time; run it again to resume. A video that cannot be read gets a row with the reason.
    """
    if "://" in out:
        raise typer.BadParameter(f"--out {out} is not a local folder. Write to a local folder, then upload it")
    if not source:
        raise typer.BadParameter("SOURCE is empty; give a folder, list, manifest or glob")
    with needs_extra("batch"):
        from sefar_serve.extract.rows import RowOptions
        from sefar_serve.extract.run import extract as run
        from sefar_serve.extract.shards import saved_clips
        from sefar_serve.extract.source import read_source
    settings = settings_for(model, anonymous=anonymous)
    if triton_url is not None:
        settings = settings.model_copy(update={"triton_url": triton_url})
    if ray is not None and settings.triton_url is not None:
        raise typer.BadParameter("--ray runs the model file on the cluster's nodes; remove --triton-url")
    options = RowOptions(tokens=tokens, poses=poses, dtype=dtype, top_k=top_k, format=form)
    clips = read_source(source, root=root, remap=path_prefixes(remap))
    # Local files may be of any size; the limit on bytes protects servers from uploads.
    limits = replace(bounds_of(settings).limits, max_bytes=sys.maxsize)

    with _Reporter(f"features of {Path(source).name or source}") as reporter:  # a bar has no room for the whole path

        async def work(backend: Backend) -> Progress:
            # Schedulers end a run with SIGTERM.
            if (task := asyncio.current_task()) is not None:
                asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
            return await run(
                clips,
                Path(out),
                backend,
                options,
                shard_rows=shard_rows,
                retry_failed=retry_failed,
                moved=moved,
                source=source,
                on_progress=reporter.show,
            )

        try:
            if ray is None:
                progress = asyncio.run(
                    _locally(settings, options, workers or available_cores(), limits, clip_timeout, work)
                )
            else:
                needs_engine(settings)
                with needs_extra("ray"):
                    from sefar_serve.extract.distributed import RayBackend
                with RayBackend(
                    settings.model,
                    options,
                    address=ray,
                    decoders=workers,
                    gpus=gpus,
                    limits=limits,
                    timeout=clip_timeout,
                    estimators=make_estimators(settings),
                ) as backend:
                    progress = asyncio.run(work(backend))
        except (KeyboardInterrupt, asyncio.CancelledError) as stop:
            reporter.stop()
            saved = quantity(saved_clips(Path(out)), "clip")
            typer.echo(f"stopped; {saved} saved in {out}. Run the same command again to resume", err=True)
            by = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGTERM
            raise typer.Exit(128 + by) from None
    _print_summary(out, progress, as_json, settings.anonymous)


async def _locally(
    settings: Settings,
    options: RowOptions,
    workers: int,
    limits: ClipLimits,
    timeout: float,
    work: Callable[[Backend], Awaitable[Progress]],
) -> Progress:
    """Run with decode processes on this machine and an engine here or on a Triton server."""
    with needs_extra("batch"):
        from sefar_serve.extract.decoders import DecoderPool
        from sefar_serve.extract.local import LocalBackend, clips_at_once
        from sefar_serve.extract.shards import model_sha256
    needs_engine(settings)
    engine = make_engine(settings.model_copy(update={"max_wait_ms": MAX_WAIT_MS}))
    await engine.start()
    try:
        model = engine.model(None)
        at_once = clips_at_once(settings.max_batch, workers)
        with DecoderPool(
            model.metadata,
            workers=workers,
            slots=at_once,
            limits=limits,
            timeout=timeout,
            memory=settings.decode_memory,
            estimators=make_estimators(settings),
            remote=True,
        ) as pool:
            sha256 = None if settings.triton_url is not None else model_sha256(settings.model)
            return await work(LocalBackend(model, pool, options, sha256=sha256, at_once=at_once))
    finally:
        await engine.close()


class _Reporter:
    """Shows a progress bar, or prints a line periodically if stderr is not a terminal.

    Args:
        task: what is made, and of which clips.
    """

    def __init__(self, task: str) -> None:
        self._task = task
        self._bars = ProgressBars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("[red]{task.fields[failures]}[/]"),
            console=console.err,
            disable=not console.err.is_terminal,
        )
        self._bar = self._bars.add_task(f"looking for clips: {escape(task)}", total=None, rate="", failures="")
        self._began = self._printed = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop drawing."""
        self._bars.stop()

    def show(self, progress: Progress) -> None:
        """Show the progress of the run.

        Args:
            progress: progress of the run.
        """
        now = time.monotonic()
        if self._began == 0.0:
            self._began = self._printed = now
            self._bars.reset(self._bar, total=progress.total, description=escape(self._task))
        rate = f"{progress.done / max(now - self._began, 1e-9):.1f} clips/s" if progress.done else ""
        failures = f"{progress.failed} failed" if progress.failed else ""
        finished = progress.skipped + progress.done
        self._bars.update(self._bar, completed=finished, rate=rate, failures=failures)
        if not console.err.is_terminal and now - self._printed > PLAIN_SECONDS:
            self._printed = now
            clips = f"{finished} of {quantity(progress.total, 'clip')}"
            typer.echo(f"{self._task}: {clips}, {rate}, {progress.failed} failed", err=True)


def _print_summary(out: str, progress: Progress, as_json: bool, anonymous: bool) -> None:
    """Print the result of the run.

    Raises:
        typer.Exit: with status 1 if clips failed.
    """
    if as_json:
        typer.echo(json.dumps({**asdict(progress), "failed": progress.failed, "out": out, "anonymous": anonymous}))
    else:
        repeats = f" ({quantity(progress.repeats, 'duplicate')} skipped)" if progress.repeats else ""
        before = f", {progress.skipped} already done" if progress.skipped else ""
        kept = "; anonymous: nothing of the videos was kept but joints" if anonymous else ""
        clips = quantity(progress.total, "clip")
        typer.echo(f"{out}: {clips}{repeats}, {progress.done} processed{before}{kept}")
    if progress.failed:
        reasons = ", ".join(f"{count} {code}" for code, count in progress.failures.items())
        console.err.print(
            f"[red]{progress.failed} of {quantity(progress.total, 'clip')} failed[/] ({reasons}): see the columns "
            "error_code and error; use --retry-failed to process them again",
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(1)
