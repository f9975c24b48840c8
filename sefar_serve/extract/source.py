"""Finds the clips of a source: a folder, glob, list, manifest or single video, local or remote."""

from __future__ import annotations

import glob
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem, get_filesystem_class
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from sefar_serve.clip import VIDEO_SUFFIXES
from sefar_serve.extract.clips import ClipRef, SourceError, check_text
from sefar_serve.extract.manifests import SUFFIXES, NamedClip, read_manifest
from sefar_serve.lists import existing, replaced_prefix

_KINDS = (
    "give a folder of videos, a video, a glob (videos/**/*.mp4), a list file (one `path label` per line: .txt, .csv) "
    "or a manifest with a column path (.csv, .jsonl, .parquet)"
)


def read_source(
    source: str, *, root: str | Path | None = None, remap: Mapping[str, str] | None = None
) -> Iterator[ClipRef]:
    """Yield the clips of a source, one at a time.

    The manifest may give a clip's id. Otherwise the id is the path as written in the source, or relative to its folder
    for a folder or glob, plus `#t=start,end` for a span of the video (W3C Media Fragments 1.0, 4.2.1). So ids stay the
    same when the source grows. Missing video files are not checked here; the decoder reports them.

    Args:
        source: path, or URL of an fsspec file system, of a folder, glob, list file, manifest or video.
        root: folder or URL that relative paths in a list or manifest start from; None for the folder of the file.
        remap: prefix replacements for the paths in a list or manifest, e.g. ``{"/root/video/": "videos/"}``.

    Raises:
        SourceError: the source is none of these, contains no clips, or has a malformed line.
    """
    clips = _remote(source, root, remap or {}) if "://" in source else _local(source, root, remap or {})
    return _checked(clips, source)


def _checked(clips: Iterable[ClipRef], source: str) -> Iterator[ClipRef]:
    found = False
    for clip in clips:
        found = True
        check_text(clip)
        yield clip
    if not found:
        if source.lower().endswith(SUFFIXES):
            raise SourceError(f"{source} contains no videos; add a row for each clip")
        raise SourceError(
            f"no videos found in {source}; in a folder, file names must end in {' '.join(VIDEO_SUFFIXES)}"
        )


def _local(source: str, root: str | Path | None, remap: Mapping[str, str]) -> Iterator[ClipRef]:
    path = Path(source).absolute()
    if path.is_dir():
        return _folder(str(path))
    if path.is_file():
        if path.name.lower().endswith(SUFFIXES):
            return _placed(read_manifest(lambda: path.open("rb"), str(path)), root or path.parent, remap)
        return iter([_video(str(path), path.name, source, _size(path))])
    if glob.has_magic(source):
        pattern = Path(source)
        # The name of the current folder may contain glob characters.
        absolute = pattern if pattern.is_absolute() else Path(glob.escape(str(Path.cwd())), pattern)
        return _matches(LocalFileSystem(), str(absolute), str(Path(_glob_folder(str(pattern))).absolute()))
    raise SourceError(f"{source} does not exist; {_KINDS}")


def _folder(folder: str) -> Iterator[ClipRef]:
    def refuse(error: OSError) -> None:
        raise SourceError(f"{error.filename}: {error.strerror}; get permission to read it") from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if _is_video(name):
                path = f"{parent}/{name}"
                yield ClipRef(os.path.relpath(path, folder), path, cost=_size(path))


def _remote(source: str, root: str | Path | None, remap: Mapping[str, str]) -> Iterator[ClipRef]:
    if "::" in source:
        raise SourceError(f"{source} chains file systems, which is not supported; unpack it and give the folder")
    # File system libraries raise exceptions of any type. Their messages are passed on.
    try:
        files, path = url_to_fs(source)
        # The name of an object in a bucket may contain glob characters.
        if glob.has_magic(path) and not files.isfile(path):
            return _matches(files, path, _glob_folder(path))
        if files.isdir(path):
            found = files.find(path, detail=True)
            videos = {name: info for name, info in found.items() if _is_video(posixpath.relpath(name, path))}
            return _listed(files, videos, path)
        if files.isfile(path):
            if not path.lower().endswith(SUFFIXES):
                return iter([_video(source, posixpath.basename(path), source, files.size(path) or 0)])
            named = read_manifest(lambda: files.open(path, "rb"), source)
            return _placed(named, root or posixpath.dirname(source), remap)
    except SourceError:
        raise
    except ImportError as error:
        raise SourceError(f"{source}: {error}") from error
    except Exception as error:
        raise SourceError(f"{source} cannot be read: {error or type(error).__name__}") from error
    raise SourceError(f"{source} does not exist; {_KINDS}")


def _matches(files: AbstractFileSystem, pattern: str, folder: str) -> Iterator[ClipRef]:
    return _listed(files, files.glob(pattern, detail=True), folder)


def _glob_folder(pattern: str) -> str:
    """The folder above everything that a glob can match."""
    parts = pattern.split("/")
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:first]) or ("/" if pattern.startswith("/") else ".")


def _listed(files: AbstractFileSystem, found: Mapping[str, Mapping[str, Any]], folder: str) -> Iterator[ClipRef]:
    """Yield the files listed below a folder, sorted, because the order decides which clips share a shard."""
    for path, info in sorted(found.items()):
        name = posixpath.relpath(path, folder)
        # A link may point to a file or to a folder.
        is_file = info["type"] == "file" or (info.get("islink") and files.isfile(path))
        if is_file and not _is_hidden(name):
            here = isinstance(files, LocalFileSystem)
            yield ClipRef(name, path if here else files.unstrip_protocol(path), cost=info.get("size") or 0)


def _placed(named: Iterable[NamedClip], base: str | Path, remap: Mapping[str, str]) -> Iterator[ClipRef]:
    """Resolve the paths of a manifest's clips."""
    folder = str(base) if "://" in str(base) else str(Path(base).absolute())
    known: set[str] = set()
    for clip in named:
        where = replaced_prefix(clip.name, remap)
        path = where if "://" in where else posixpath.join(folder, where)
        if "://" not in path:
            path = str(existing(Path(path)))
        if "://" in path and (scheme := path.partition("://")[0]) not in known:
            known.add(scheme)
            _check_scheme(scheme, clip.name)
        yield ClipRef(clip.clip_id, path, clip.start, clip.end, 0 if "://" in path else _size(path))


def _check_scheme(scheme: str, name: str) -> None:
    """Check that a URL's file system is installed, before a million clips fail."""
    try:
        get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        raise SourceError(f"{name} cannot be opened: {error}") from error


def _video(path: str, name: str, source: str, size: int) -> ClipRef:
    if not _is_video(name):
        raise SourceError(f"the suffix of {source} is not that of a video, list or manifest; {_KINDS}")
    return ClipRef(name, path, cost=size)


def _is_video(path: str) -> bool:
    return not _is_hidden(path) and path.lower().endswith(VIDEO_SUFFIXES)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _size(path: str | Path) -> int:
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):
        # The file is missing or its name is invalid. The decoder reports it.
        return 0
