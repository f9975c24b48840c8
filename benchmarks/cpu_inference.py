"""Inference on a CPU: the released model in eager torch, ONNX Runtime and OpenVINO at several precisions.

All have the same weights and take turns in every round. Reported is the median over rounds of the ratio of times within
a round, and how far the embeddings are from float32. Weights are random unless --model is given, so accuracy at int8
says nothing here; `sefar quantize` measures it on real clips.

Run: python benchmarks/cpu_inference.py [--variant NAME] [--batch N] [--threads N] [--rounds N] [--cpu] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn
from train_step import SAMPLE_FRAMES, by_element

from sefar_serve.engine.choose import load_model
from sefar_serve.engine.errors import ModelLoadError
from sefar_serve.engine.loaded import Precision, Runtime
from sefar_serve.quantity import quantity
from sefar_training.config import ModelConfig
from sefar_training.export import CheckpointInfo, export_metadata, export_model
from sefar_training.model import FrameNormalizer, SefarModel, create_model
from sefar_training.model.sefar import VARIANTS
from sefar_training.quantize import write_int8

CLASSES, SEED, CALIBRATION = 99, 0, 4

Frames = NDArray[np.uint8]
Run = Callable[[Frames], NDArray[np.float32]]
"""Frames uint8 (B,F,H,W,3) to embeddings float32 (B,256)."""


def make_model(variant: str) -> SefarModel:
    torch.manual_seed(SEED)
    model = create_model(variant, CLASSES, SAMPLE_FRAMES).eval()  # type: ignore[arg-type]
    for block in model.backbone.blocks:  # type: ignore[union-attr]  # a trained model's temporal attention is not zero
        nn.init.trunc_normal_(block.temporal_fc.weight, std=0.02)
    return model


def released(model: SefarModel) -> Run:
    """Eager torch as the release runs it: element by element, every layer for every token."""
    normalizer = FrameNormalizer((0.45,) * 3, (0.225,) * 3)

    def run(frames: Frames) -> NDArray[np.float32]:
        with torch.inference_mode():
            embedding: NDArray[np.float32] = model.head(by_element(model, normalizer(torch.from_numpy(frames))))[
                0
            ].numpy()
        return embedding

    return run


def served(file: Path, runtime: Runtime, precision: Precision, threads: int) -> Run:
    model = load_model(file, device="cpu", runtime=runtime, precision=precision, threads=threads)
    return lambda frames: model.run({"frames": frames}).embedding


def make_runs(variant: str, threads: int, folder: Path) -> tuple[dict[str, Run], dict[str, float], tuple[int, ...]]:
    """What to measure, megabytes of each file, and the shape of a clip."""
    model = make_model(variant)
    side = VARIANTS[variant].size  # type: ignore[index]
    info = CheckpointInfo(
        model=ModelConfig(variant=variant, sample_frames=SAMPLE_FRAMES, size=side, resize=side),  # type: ignore[arg-type]
        dataset="none",
        labels=tuple(f"class {n}" for n in range(CLASSES)),
    )
    plain, folded, dynamic, static = (folder / f"{name}.onnx" for name in ("plain", "folded", "dynamic", "static"))
    about = export_metadata(info, "benchmark", "1", model.backbone.dim)
    export_model(model, about, plain)
    quant_pre_process(plain, folded, skip_symbolic_shape=True)  # folds weights that the graph transposes
    quantize_dynamic(folded, dynamic, weight_type=QuantType.QInt8, per_channel=True)
    shape = about.inputs["frames"].shape
    rng = np.random.default_rng(SEED)
    write_int8(plain, ({"frames": rng.integers(0, 256, (1, *shape), np.uint8)} for _ in range(CALIBRATION)), static)
    runs = {
        "ONNX Runtime, fp32": served(plain, "onnxruntime", "fp32", threads),
        "released model, eager torch, fp32": released(model),
        "ONNX Runtime, dynamic int8": served(dynamic, "onnxruntime", "fp32", threads),
        "ONNX Runtime, static int8": served(static, "onnxruntime", "fp32", threads),
        "OpenVINO, fp32": served(plain, "openvino", "fp32", threads),
        "OpenVINO, static int8": served(static, "openvino", "fp32", threads),
    }
    try:
        runs["OpenVINO, bf16"] = served(plain, "openvino", "bf16", threads)
    except ModelLoadError as error:
        Console(stderr=True).print(f"left out: OpenVINO, bf16: {error}")
    sizes = {"fp32": plain, "dynamic int8": dynamic, "static int8": static}
    return runs, {name: file.stat().st_size / 1e6 for name, file in sizes.items()}, shape


def cosine(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / lengths).min())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="small", choices=("tiny", "small", "base"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cpu", action="store_true", help="CPU time of all threads instead of wall time")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)  # the quantiser's advice
    clock = time.process_time if options.cpu else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        runs, sizes, shape = make_runs(options.variant, options.threads, Path(folder))
        frames = np.random.default_rng(SEED + 1).integers(0, 256, (options.batch, *shape), np.uint8)
        base, *_ = runs
        exact = runs[base](frames)
        agreement = {name: cosine(run(frames), exact) for name, run in runs.items()}
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in track(range(options.rounds), "measuring", console=Console(stderr=True)):
            for name, run in runs.items():
                start = clock()
                run(frames)
                seconds[name].append(clock() - start)
    rows = {
        name: {
            "ms": 1000 * statistics.median(times) / options.batch,
            "times_faster": statistics.median(b / t for b, t in zip(seconds[base], times, strict=True)),
            "cosine": agreement[name],
        }
        for name, times in seconds.items()
    }
    given = f"{options.variant}, batch {options.batch}, {quantity(options.threads, 'thread')}"
    table = Table("how", "ms a clip", "times faster", "cosine to fp32", title=f"Inference on the CPU: {given}")
    for name, row in sorted(rows.items(), key=lambda item: item[1]["times_faster"]):
        table.add_row(name, f"{row['ms']:.0f}", f"{row['times_faster']:.2f}", f"{row['cosine']:.5f}")
    Console().print(table)
    print("files:", ", ".join(f"{name} {size:.1f} MB" for name, size in sizes.items()))
    if options.json:
        options.json.write_text(json.dumps({"given": given, "rows": rows, "megabytes": sizes}, indent=1))


if __name__ == "__main__":
    main()
