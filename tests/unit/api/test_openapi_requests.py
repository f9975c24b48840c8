"""Requests made from the OpenAPI document, valid and invalid: none fails the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import schemathesis
from gateway_thread import GatewayThread
from schemathesis.generation.modes import GenerationMode

from sefar_serve.api import create_app
from sefar_serve.engine import FakeEngine
from sefar_serve.language import FakeGenerator
from sefar_serve.settings import Settings

EXAMPLES = 8
"""Requests per operation and kind; `benchmarks/api_requests.py` makes many more."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("jobs")
    settings = Settings(jobs_dir=folder / "jobs", job_roots=str(folder), max_jobs=10**6, decode_threads=1)  # type: ignore[arg-type]
    with GatewayThread(create_app(settings, FakeEngine(), FakeGenerator())) as address:
        yield address


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_fails_the_server(url: str, mode: GenerationMode, tmp_path: Path) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    asked = set()
    for found in schema.get_all_operations():
        operation = found.ok()

        @hypothesis.seed(0)
        @hypothesis.settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.generate],
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def send(case: schemathesis.Case) -> None:
            answer = case.call(base_url=url)
            assert answer.status_code < 500, f"{case.as_curl_command()}\n{answer.text}"
            asked.add(case.path)

        try:
            send()
        except hypothesis.errors.Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # nothing about it can be invalid
    assert {"/v1/classify", "/v1/embeddings", "/v1/captions", "/v1/chat/completions", "/v1/jobs"} <= asked
