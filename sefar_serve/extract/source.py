"""What a source is, and which clips it has: a folder, a glob, a list, a manifest or one video, here or elsewhere."""

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

from sefar_serve.extract.clips import ClipRef, SourceError, check_text
from sefar_serve.extract.manifests import SUFFIXES, NamedClip, read_manifest
from sefar_serve.lists import replaced_prefix

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".flv", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".3gp", ".ogv"),
)
"""Of the files of a folder that are taken for videos."""

_KINDS = (
    "a source is a folder of videos, a video, a glob (videos/**/*.mp4), a list file (`path label` a line: .txt, .csv) "
    "or a manifest with a column path (.csv, .jsonl, .parquet)"
)


def read_source(
    source: str, *, root: str | Path | None = None, remap: Mapping[str, str] | None = None
) -> Iterator[ClipRef]:
    """Name the clips of a source, one at a time.

    The id of a clip is the one its manifest gives. Otherwise it is the path as the source names it, of a folder or glob
    the part below the folder, with `#t=start,end` where it is a span of the video (W3C Media Fragments 1.0, 4.2.1). So
    it stays the same when the source grows. Files that are not there are for the decoder to find.

    Args:
        source: path, or URL of an fsspec file system: a folder, glob, list file, manifest or video.
        root: folder or URL that relative paths of a list or manifest start from; where the file is, if None.
        remap: prefix replacements for the paths of a list or manifest, e.g. ``{"/root/video/": "videos/"}``.

    Raises:
        SourceError: the source is none of these, names no clip, or has a malformed line.
    """
    clips = _elsewhere(source, root, remap or {}) if "://" in source else _here(source, root, remap or {})
    return _checked(clips, source)


def _checked(clips: Iterable[ClipRef], source: str) -> Iterator[ClipRef]:
    found = False
    for clip in clips:
        found = True
        check_text(clip)
        yield clip
    if not found:
        if source.lower().endswith(SUFFIXES):
            raise SourceError(f"{source} names no videos; it has no rows")
        raise SourceError(
            f"{source} names no videos; of a folder, files ending in {' '.join(VIDEO_SUFFIXES)} are taken"
        )


def _here(source: str, root: str | Path | None, remap: Mapping[str, str]) -> Iterator[ClipRef]:
    path = Path(source).absolute()
    if path.is_dir():
        return _folder(str(path))
    if path.is_file():
        if path.name.lower().endswith(SUFFIXES):
            return _placed(read_manifest(lambda: path.open("rb"), str(path)), root or path.parent, remap)
        return iter([_video(str(path), path.name, source, _size(path))])
    if glob.has_magic(source):
        pattern = Path(source)
        # The folder that we are in may have marks of a glob in its name.
        absolute = pattern if pattern.is_absolute() else Path(glob.escape(str(Path.cwd())), pattern)
        return _matches(LocalFileSystem(), str(absolute), str(Path(_unmagic(str(pattern))).absolute()))
    raise SourceError(f"{source} is not there; {_KINDS}")


def _folder(folder: str) -> Iterator[ClipRef]:
    def refuse(error: OSError) -> None:
        raise SourceError(f"{error.filename}: {error.strerror}; may you read it?") from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if _is_video(name):
                path = f"{parent}/{name}"
                yield ClipRef(os.path.relpath(path, folder), path, cost=_size(path))


def _elsewhere(source: str, root: str | Path | None, remap: Mapping[str, str]) -> Iterator[ClipRef]:
    if "::" in source:
        raise SourceError(f"{source} is a chain of file systems; unpack it and name the folder")
    # The libraries behind the file systems raise what they like; what they say is the best there is to say.
    try:
        files, path = url_to_fs(source)
        # Of a bucket's object the name may hold marks of a glob.
        if glob.has_magic(path) and not files.isfile(path):
            return _matches(files, path, _unmagic(path))
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
    raise SourceError(f"{source} is not there; {_KINDS}")


def _matches(files: AbstractFileSystem, pattern: str, folder: str) -> Iterator[ClipRef]:
    return _listed(files, files.glob(pattern, detail=True), folder)


def _unmagic(pattern: str) -> str:
    """The folder above everything that a glob can match."""
    parts = pattern.split("/")
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return "/".join(parts[:first]) or ("/" if pattern.startswith("/") else ".")


def _listed(files: AbstractFileSystem, found: Mapping[str, Mapping[str, Any]], folder: str) -> Iterator[ClipRef]:
    """What a file system lists below a folder, in order: it decides which clips share a shard."""
    for path, info in sorted(found.items()):
        name = posixpath.relpath(path, folder)
        # A link may lead to a file or to a folder.
        is_file = info["type"] == "file" or (info.get("islink") and files.isfile(path))
        if is_file and not _is_hidden(name):
            here = isinstance(files, LocalFileSystem)
            yield ClipRef(name, path if here else files.unstrip_protocol(path), cost=info.get("size") or 0)


def _placed(named: Iterable[NamedClip], base: str | Path, remap: Mapping[str, str]) -> Iterator[ClipRef]:
    """The clips of a manifest, where they are."""
    folder = str(base) if "://" in str(base) else str(Path(base).absolute())
    known: set[str] = set()
    for clip in named:
        where = replaced_prefix(clip.name, remap)
        path = where if "://" in where else posixpath.join(folder, where)
        if "://" in path and (scheme := path.partition("://")[0]) not in known:
            known.add(scheme)
            _check_scheme(scheme, clip.name)
        yield ClipRef(clip.clip_id, path, clip.start, clip.end, 0 if "://" in path else _size(path))


def _check_scheme(scheme: str, name: str) -> None:
    """See whether there is a file system behind a URL, before a million of them fail."""
    try:
        get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        raise SourceError(f"{name} cannot be opened: {error}") from error


def _video(path: str, name: str, source: str, size: int) -> ClipRef:
    if not _is_video(name):
        raise SourceError(f"{source} is neither a video nor a list by its name; {_KINDS}")
    return ClipRef(name, path, cost=size)


def _is_video(path: str) -> bool:
    return not _is_hidden(path) and path.lower().endswith(VIDEO_SUFFIXES)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _size(path: str | Path) -> int:
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):
        # Not there, or no name a file can have: for the decoder to find.
        return 0
