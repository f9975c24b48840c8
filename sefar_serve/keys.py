"""API keys: their names and scopes, in a file that holds only their hashes and is read again when it changes."""

from __future__ import annotations

import hmac
import logging
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from sefar_serve.atomic import atomic_file
from sefar_serve.errors import SefarError

log = logging.getLogger(__name__)

INFER, JOBS, ADMIN = "infer", "jobs", "admin"

SCOPES = (INFER, JOBS, ADMIN)
"""`infer` is for videos, texts and models, `jobs` for batch jobs, `admin` for everything, metrics included."""

RELOAD_SECONDS = 1.0
"""A change of the file is seen after at most this time."""

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")

_HEADER = "# Keys of a sefar-serve gateway: name, scopes, SHA-256 of the key. Made by `sefar keys`.\n"


class KeysError(SefarError, ValueError):
    """The file of keys cannot be read, or a key cannot be added or removed."""

    code = "invalid_keys"


@dataclass(frozen=True)
class Key:
    """An API key, without the key itself.

    Attributes:
        name: shown in logs.
        scopes: what it may do.
        digest: SHA-256 of the key. Keys are long and random, so a slow hash would protect them no better.
    """

    name: str
    scopes: frozenset[str]
    digest: str

    def may(self, scope: str) -> bool:
        """Whether the key has a scope."""
        return scope in self.scopes or ADMIN in self.scopes


class KeyRing:
    """The keys of a gateway.

    Args:
        plain: keys from the settings; they may do everything.
        file: file of keys; None for none.

    Raises:
        KeysError: the file cannot be read.
    """

    def __init__(self, plain: Sequence[str] = (), file: Path | None = None) -> None:
        self._plain = tuple(
            Key(f"setting-{number}", frozenset({ADMIN}), _digest(key)) for number, key in enumerate(plain, start=1)
        )
        self._file = file
        self._seen = _stamp(file)
        self._listed = () if file is None else read_keys(file)
        self._next_look = time.monotonic() + RELOAD_SECONDS

    @property
    def keys(self) -> tuple[Key, ...]:
        """All keys; the file is read again if it has changed."""
        if self._file is not None and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + RELOAD_SECONDS
            self._reload(self._file)
        return self._plain + self._listed

    def find(self, secret: str) -> Key | None:
        """The key with this secret; None if there is none.

        It is compared with every key, in constant time, so that response times reveal nothing about the keys.
        """
        digest = _digest(secret)
        matches = [key for key in self.keys if hmac.compare_digest(key.digest, digest)]
        return matches[0] if matches else None

    def _reload(self, file: Path) -> None:
        stamp = _stamp(file)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._listed = read_keys(file)
        except KeysError as error:
            log.error("the keys stay as they were: %s", error)
        else:
            log.info("read %s again: %d keys", file, len(self._listed))


def read_keys(file: Path) -> tuple[Key, ...]:
    """Read a file of keys.

    Raises:
        KeysError: it does not exist or has an invalid line.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KeysError(f"{file} cannot be read ({error}); make it with `sefar keys add`") from error
    keys: dict[str, Key] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = line.split()
        scopes = frozenset(fields[1].split(",")) if len(fields) == 3 else frozenset()
        if not scopes or scopes - set(SCOPES) or not _NAME.fullmatch(fields[0]) or not _HASH.fullmatch(fields[2]):
            # Without the line: it may be a key that was written here by mistake.
            raise KeysError(f"{file}, line {number} must be: NAME SCOPES SHA256, with scopes of {','.join(SCOPES)}")
        if fields[0] in keys:
            raise KeysError(f"{file}, line {number}: the name {fields[0]} is used twice")
        keys[fields[0]] = Key(fields[0], scopes, fields[2])
    return tuple(keys.values())


def add_key(file: Path, name: str, scopes: Sequence[str]) -> str:
    """Make a key and add its hash to a file, which is created if missing.

    Returns:
        The key. It is stored nowhere.

    Raises:
        KeysError: the name or a scope is invalid, or the name is used.
    """
    known = read_keys(file) if file.exists() else ()
    if not _NAME.fullmatch(name):
        raise KeysError(f"{name!r} is not a name of a key; use up to 64 letters, digits and ._@-")
    if unknown := set(scopes) - set(SCOPES) or (not scopes and {""}):
        raise KeysError(f"unknown scope {sorted(unknown)[0]!r}; the scopes are {', '.join(SCOPES)}")
    if name in {key.name for key in known}:
        raise KeysError(f"{file} already has a key {name}; remove it first, or choose another name")
    secret = f"sefar_{secrets.token_urlsafe(32)}"
    _write(file, (*known, Key(name, frozenset(scopes), _digest(secret))))
    return secret


def remove_key(file: Path, name: str) -> None:
    """Remove a key from a file.

    Raises:
        KeysError: the file has no such key.
    """
    known = read_keys(file)
    left = tuple(key for key in known if key.name != name)
    if len(left) == len(known):
        raise KeysError(f"{file} has no key {name}; `sefar keys list` shows all")
    _write(file, left)


def _write(file: Path, keys: Sequence[Key]) -> None:
    rows = [f"{key.name} {','.join(scope for scope in SCOPES if scope in key.scopes)} {key.digest}\n" for key in keys]
    with atomic_file(file) as new:
        new.touch(0o600)
        new.write_text(_HEADER + "".join(rows), encoding="utf-8")


def _digest(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _stamp(file: Path | None) -> tuple[int, int, int] | None:
    """Changes whenever the file does."""
    try:
        found = file.stat() if file is not None else None
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)
