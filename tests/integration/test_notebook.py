"""The example notebook in a Jupyter kernel, which runs an event loop of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "python_api.ipynb"


def outputs(notebook: Any, cell: str) -> str:
    """What the cell with this text in it printed and shows, pictures as HTML."""
    [found] = [one for one in notebook.cells if one.cell_type == "code" and cell in one.source]
    shown = [
        one.text if one.output_type == "stream" else one.data.get("text/html", one.data.get("text/plain"))
        for one in found.outputs
    ]
    return "".join(shown)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def test_results_show_themselves(executed: Any) -> None:
    assert "sefar-synthgym-tiny, version 1, 36 labels" in outputs(executed, "sefar.load()")
    labels = outputs(executed, "top_k=3")
    assert len(re.findall(r"<tr>", labels)) == 3
    assert "reliability η" in labels
    caption = outputs(executed, "model.caption")
    assert "<b>clip_00.mp4</b>" in caption
    assert outputs(executed, "model.ask").count("<tr>") == 2


def test_many_in_order(executed: Any) -> None:
    lines = outputs(executed, "absent.mp4").splitlines()
    assert [line.split(":")[0] for line in lines[:4]] == [f"clip_{number:02d}.mp4" for number in (0, 9, 18, 27)]
    assert lines[4:] == ["[Errno 2] No such file or directory: 'absent.mp4'"]
    assert outputs(executed, "np.stack") == "(4, 256)"
    assert len(outputs(executed, "timeline").splitlines()) >= 3


def test_beside_the_kernels_event_loop(executed: Any) -> None:
    assert len(outputs(executed, "await asyncio").splitlines()) == 2
    told = [out.text for cell in executed.cells for out in cell.get("outputs", ()) if out.get("name") == "stderr"]
    assert [text for text in told if "IProgress not found" not in text] == []  # of tqdm, which transformers imports
