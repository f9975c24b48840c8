"""`sefar_serve` imports, serves and classifies where torch is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from grey_clips import encode_grey_clip

# Runs in a fresh interpreter in which importing torch or anything of its family fails.
SCRIPT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "timm", "accelerate", "onnx", "transformers"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())

from fastapi.testclient import TestClient
from sefar_serve.api import create_app
from sefar_serve.server import make_engine
from sefar_serve.settings import Settings
import sefar_client, sefar_serve.cli, sefar_training.synthgym

settings = Settings()
with TestClient(create_app(settings, make_engine(settings))) as client:
    answer = client.post("/v1/classify", content=open(sys.argv[1], "rb").read())
    assert answer.status_code == 200, answer.text
    assert client.post("/v1/embeddings", content=open(sys.argv[1], "rb").read()).status_code == 200
sys.argv = ["sefar", "train", "recipe.yaml"]
sefar_serve.cli.main()
"""


def test_serving_needs_no_torch_and_training_says_that_it_does(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(encode_grey_clip([90] * 10))
    done = subprocess.run([sys.executable, "-c", SCRIPT, clip], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "sefar-serve[train]" in done.stderr
    assert "Traceback" not in done.stderr
