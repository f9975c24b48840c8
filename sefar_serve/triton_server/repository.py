"""A Triton model repository: publishing versions of models, so that a server can load them.

    repository/sefar_encoder/config.pbtxt           how NVIDIA's container serves it, on GPUs
                             configs/cpu.pbtxt …    other ways, see `sefar_serve.triton_server.config`
                             1/model.onnx           version 1
                             1/model.py             runs the same file under the Python backend

Versions are published atomically. All versions of a model share labels, sampling and sizes, because
Triton has one configuration for all of them; a model that differs in these needs another name.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from sefar_serve.errors import SefarError
from sefar_serve.metadata import FAMILIARITY, PREFIX, ModelMetadata
from sefar_serve.triton_server.config import FLAVOURS, VERSIONS_KEPT, Flavour, config_text, interface, model_config

DEFAULT_NAME = "sefar_encoder"
PYTHON_MODEL = Path(__file__).with_name("model.py")
_FAMILIARITY = f"{PREFIX}{FAMILIARITY}"
_OF_VERSIONS = {_FAMILIARITY, f"{PREFIX}temperature"}
"""What may differ from version to version."""
_USABLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class RepositoryError(SefarError, ValueError):
    """The model cannot be published in the model repository as requested."""

    code = "repository_error"


@dataclass(frozen=True)
class Published:
    """A version that was published."""

    folder: Path
    metadata: ModelMetadata

    def __str__(self) -> str:
        return f"{self.folder}: {self.metadata.name}, version {self.metadata.version}"


def versions(repository: Path, name: str = DEFAULT_NAME) -> list[int]:
    """Versions of a model in a repository, oldest first; empty if there is no such model."""
    folder = repository / name
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal())


def publish(file: Path, repository: Path, name: str = DEFAULT_NAME) -> Published:
    """Publish an exported model in a repository, under the version in its metadata.

    Args:
        file: the ONNX file.
        repository: folder of models; created if it does not exist.
        name: Triton's name of the model.

    Raises:
        ModelLoadError: the file is not a SeFAR model.
        RepositoryError: the name or the version cannot be used, the version exists already, or the model differs
            from the versions that exist.
    """
    if not _USABLE_NAME.fullmatch(name):
        raise RepositoryError(
            f"{name!r} is not a valid model name; use letters, digits, '_', '-' and '.', and start with a letter or "
            "digit"
        )
    # Only publishing runs the model here: a machine that only serves through Triton has no onnxruntime.
    from sefar_serve.engine.onnx import OnnxModel

    metadata = OnnxModel(file, device="cpu").metadata
    if not metadata.version.isdecimal() or int(metadata.version) < 1:
        raise RepositoryError(
            f"{file} has version {metadata.version!r}, but Triton's versions are whole numbers from 1; "
            "export it with --version 1"
        )
    folder = repository / name
    version = folder / str(int(metadata.version))
    if version.exists():
        newest = versions(repository, name)[-1]
        raise RepositoryError(f"{version} exists already; export the model with --version {newest + 1}")
    _check_same_interface(metadata, folder)
    new = folder / f".{version.name}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    shutil.copyfile(file, new / "model.onnx")
    shutil.copyfile(PYTHON_MODEL, new / PYTHON_MODEL.name)
    write_configs(metadata, folder)
    new.rename(version)
    return Published(version, metadata)


def config_file(folder: Path, flavour: Flavour) -> Path:
    """The path of a model's configuration for one flavour."""
    return folder / "config.pbtxt" if flavour == "cuda" else folder / "configs" / f"{flavour}.pbtxt"


def write_configs(metadata: ModelMetadata, folder: Path) -> None:
    """Write every configuration of a model, each atomically.

    Args:
        metadata: description of the model.
        folder: the model's folder; its name is Triton's name of the model.
    """
    for flavour in FLAVOURS:
        file = config_file(folder, flavour)
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(file.name + ".new")
        new.write_text(config_text(model_config(metadata, folder.name, flavour)), encoding="utf-8")
        new.replace(file)


def older_versions_only(folder: Path, broken: set[int]) -> pb.ModelConfig | None:
    """A model's configuration for the wheel's server, without versions that do not load; None if none is left.

    Args:
        folder: the model's folder.
        broken: the versions to leave out.
    """
    sound = [version for version in versions(folder.parent, folder.name) if version not in broken]
    if not sound:
        return None
    config = text_format.Parse(config_file(folder, "python").read_text(encoding="utf-8"), pb.ModelConfig())
    config.version_policy.specific.versions[:] = sound[-VERSIONS_KEPT:]
    return config


def _check_same_interface(metadata: ModelMetadata, folder: Path) -> None:
    file = config_file(folder, "cuda")
    if not file.is_file():
        return
    there = text_format.Parse(file.read_text(encoding="utf-8"), pb.ModelConfig()).parameters
    ours = interface(metadata)
    different = [
        key.removeprefix(PREFIX)
        for key in sorted(ours.keys() | there.keys())
        if (ours.get(key) != (there[key].string_value if key in there else None) and key not in _OF_VERSIONS)
        # Whether there is the output must be the same, not how many clips it was made from.
        or (key == _FAMILIARITY and (key in ours) != (key in there))
    ]
    if different:
        raise RepositoryError(
            f"the model differs from the versions in {folder} in {', '.join(different)}; all versions must share "
            "these, so publish it as a separate model with another --triton-name"
        )
