"""`sefar_serve` imports, serves and classifies without torch, and in front of Triton without onnxruntime."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from grey_clips import encode_grey_clip

from sefar_serve.triton_server.server import TritonServer

# The scripts below run in a new interpreter in which importing these packages fails.
ABSENT = """
import sys
absent = {"torch", "torchvision", "timm", "accelerate", "onnx", "transformers", "tokenizers", "peft", "safetensors"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""

SERVE = """
from fastapi.testclient import TestClient
from sefar_serve.api import create_app
from sefar_serve.assemble import make_engine
from sefar_serve.settings import Settings
import sefar_client, sefar_serve.cli, sefar_training.synthgym
from sefar_serve.assemble import make_generator

settings = Settings()
with TestClient(create_app(settings, make_engine(settings), make_generator(settings))) as client:
    answer = client.post("/v1/classify", content=open(sys.argv[1], "rb").read())
    assert answer.status_code == 200, answer.text
    assert client.post("/v1/embeddings", content=open(sys.argv[1], "rb").read()).status_code == 200
    refused = client.post("/v1/captions", content=open(sys.argv[1], "rb").read())
    assert refused.status_code == 501, refused.text
"""

ASK = """
sys.argv = ["sefar", "ask", sys.argv[1], "What?"]
sefar_serve.cli.main()
"""

TRAIN = """
sys.argv = ["sefar", "train", "recipe.yaml"]
sefar_serve.cli.main()
"""


CALL = """
import sefar_serve as sefar
with sefar.load() as model:
    print(model.classify(sys.argv[1]).best.label)
    try:
        model.caption(sys.argv[1])
    except ModuleNotFoundError as error:
        print(error)
absent.add("onnxruntime")
for name in [name for name in sys.modules if name.startswith(("onnxruntime", "sefar_serve.engine.onnx"))]:
    del sys.modules[name]
sefar.load()
"""


def run(script: str, clip: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clip.write_bytes(encode_grey_clip([90] * 10))
    command = [sys.executable, "-c", ABSENT + script, str(clip)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | environment)


def test_serving_needs_no_torch_and_training_says_what_to_install(tmp_path: Path) -> None:
    done = run(SERVE + TRAIN, tmp_path / "clip.mp4")
    assert done.returncode == 1, done.stderr
    assert "sefar-serve[train]" in done.stderr
    assert "Traceback" not in done.stderr


def test_captions_say_what_to_install(tmp_path: Path) -> None:
    done = run("import sefar_serve.cli" + ASK, tmp_path / "clip.mp4")
    assert done.returncode == 1, done.stderr
    assert "sefar-serve[mllm]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_gateway_for_triton_needs_no_onnxruntime(tmp_path: Path, triton: TritonServer) -> None:
    # The demo starts the server on the same machine, so its modules must not need it either.
    server = "import sefar_serve.triton_server.repository, sefar_serve.triton_server.server"
    done = run(f'absent.add("onnxruntime")\n{server}{SERVE}', tmp_path / "clip.mp4", SEFAR_TRITON_URL=triton.url)
    assert done.returncode == 0, done.stderr


def test_calls_from_python_say_what_to_install(tmp_path: Path) -> None:
    done = run(CALL, tmp_path / "clip.mp4")
    label, captions = done.stdout.splitlines()
    assert label.startswith("(")
    assert captions.endswith("is not installed; install it with: pip install 'sefar-serve[mllm]'")
    told = "ModuleNotFoundError: onnxruntime is not installed; install it with: pip install 'sefar-serve[cpu]'"
    assert done.stderr.rstrip().endswith(told)
