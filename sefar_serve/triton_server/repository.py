"""A Triton model repository: putting versions of models in, so that a server can pick them up.

    repository/sefar_encoder/config.pbtxt           how NVIDIA's container serves it, on GPUs
                             configs/cpu.pbtxt …    other ways, see `sefar_serve.triton_server.config`
                             1/model.onnx           version 1
                             1/model.py             runs the same file under the Python backend

A version is put there whole or not at all. All versions of a model share labels, sampling and sizes, since
Triton has one configuration for all of them; a model that differs there is another model.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from sefar_serve.errors import SefarError
from sefar_serve.metadata import PREFIX, ModelMetadata
from sefar_serve.triton_server.config import FLAVOURS, VERSIONS_KEPT, Flavour, config_text, interface, model_config

DEFAULT_NAME = "sefar_encoder"
PYTHON_MODEL = Path(__file__).with_name("model.py")
_USABLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class RepositoryError(SefarError, ValueError):
    """A model cannot be put into a repository as asked."""

    code = "repository_error"


@dataclass(frozen=True)
class Published:
    """A version that is in the repository now."""

    folder: Path
    metadata: ModelMetadata

    def __str__(self) -> str:
        return f"{self.folder}: {self.metadata.name}, version {self.metadata.version}"


def versions(repository: Path, name: str = DEFAULT_NAME) -> list[int]:
    """Versions of a model in a repository, oldest first; empty where there is no such model."""
    folder = repository / name
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal())


def publish(file: Path, repository: Path, name: str = DEFAULT_NAME) -> Published:
    """Put an exported model into a repository, as the version that it says it is.

    Args:
        file: the ONNX file.
        repository: folder of models; made where there is none.
        name: Triton's name of the model.

    Raises:
        ModelLoadError: the file is no SeFAR model.
        RepositoryError: name or version cannot be used, the version is there already, or the model differs from
            the versions that are there.
    """
    if not _USABLE_NAME.fullmatch(name):
        raise RepositoryError(f"{name!r} cannot name a folder of models; use letters, digits, '_', '-' and '.'")
    # Only whoever puts a model in runs it: a machine that serves through Triton alone has no onnxruntime.
    from sefar_serve.engine.onnx import OnnxModel

    metadata = OnnxModel(file, device="cpu").metadata
    if not metadata.version.isdecimal() or int(metadata.version) < 1:
        raise RepositoryError(
            f"{file} says it is version {metadata.version!r}, but Triton's versions are numbers from 1; "
            "export it with --version 1"
        )
    folder = repository / name
    version = folder / str(int(metadata.version))
    if version.exists():
        newest = versions(repository, name)[-1]
        raise RepositoryError(f"{version} is there already; export the model with --version {newest + 1}")
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
    """Where a model's configuration for one way of running it is."""
    return folder / "config.pbtxt" if flavour == "cuda" else folder / "configs" / f"{flavour}.pbtxt"


def write_configs(metadata: ModelMetadata, folder: Path) -> None:
    """Write every configuration of a model, each whole or not at all.

    Args:
        metadata: of the model.
        folder: of the model; its name is Triton's name of it.
    """
    for flavour in FLAVOURS:
        file = config_file(folder, flavour)
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(file.name + ".new")
        new.write_text(config_text(model_config(metadata, folder.name, flavour)), encoding="utf-8")
        new.replace(file)


def older_versions_only(folder: Path, broken: set[int]) -> pb.ModelConfig | None:
    """The wheel's configuration of a model, without versions that do not load; None if no other is there.

    Args:
        folder: of the model.
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
        if ours.get(key) != (there[key].string_value if key in there else None)
    ]
    if different:
        raise RepositoryError(
            f"the model differs from the versions in {folder} in {', '.join(different)}; versions share these, "
            "so publish it as a model of its own, with another --triton-name"
        )
