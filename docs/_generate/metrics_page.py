"""reference/metrics.md: what `/metrics` exposes, read from the gateway's own registry."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tables import code, sentence, table

from sefar_serve.api.metrics import Metrics
from sefar_serve.decoding import ProcessDecoders
from sefar_serve.engine.fake import FakeEngine
from sefar_serve.jobs.store import JobStore
from sefar_serve.language.fake import FakeGenerator
from sefar_serve.pose import Estimators
from sefar_serve.recognition import Recognizer

INTRO = """# Metrics

`GET /metrics` returns these in the Prometheus text format. Times are in seconds. Each gateway process counts for
itself; add the series up in Prometheus. A histogram has the series `…_bucket`, `…_sum` and `…_count`.
`sefar_generating` exists only when a language model is loaded, `sefar_jobs` only when batch jobs are enabled, and
`sefar_decode_…` about processes only if videos are decoded in processes.
"""


def render() -> str:
    """The page as Markdown."""
    return f"{INTRO}\n{table(['Metric', 'Type', 'Labels', 'Meaning'], rows())}"


def rows() -> list[list[str]]:
    """A row for every metric of a gateway with captions and batch jobs."""
    metrics = Metrics(Recognizer(FakeEngine()), FakeGenerator())
    metrics.watch_processes(ProcessDecoders(1, Estimators()))  # none is started
    with tempfile.TemporaryDirectory() as folder:
        store = JobStore(Path(folder) / "jobs.sqlite")
        metrics.watch_jobs(store)
        # Labels of a metric without samples are known to its collector alone, and collectors have no public list.
        labels = {
            names[0]: getattr(collector, "_labelnames", ())
            for collector, names in metrics.registry._collector_to_names.items()
        }
        families = list(metrics.registry.collect())
        store.close()
    return [
        [
            code(family.name + "_total" * (family.type == "counter")),
            family.type,
            ", ".join(map(code, labels[family.name])),
            sentence(family.documentation),
        ]
        for family in families
    ]
