"""Checks the files under deploy/ against the package and against each other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml

from sefar_serve.api.metrics import Metrics
from sefar_serve.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "sefar-serve"
PAGE = ROOT / "docs" / "how-to" / "kubernetes.md"
GATEWAY_IMAGE = ROOT / "Dockerfile"
TRITON_IMAGE = DEPLOY / "triton" / "Dockerfile"
COMPOSE = [DEPLOY / f"compose{part}.yaml" for part in ("", ".gpu", ".jobs")]
TEXTS = [GATEWAY_IMAGE, PAGE, *(file for file in sorted(DEPLOY.rglob("*")) if file.is_file())]

TRITON_METRICS = {
    "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_utilization",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_output_duration_us",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_pending_request_count",
    "nv_inference_queue_duration_us",
    "nv_inference_request_failure",
    "nv_inference_request_success",
}


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def lines(dockerfile: Path) -> list[str]:
    """Instructions, each on one line."""
    kept = [line for line in dockerfile.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    return [line for line in "\n".join(kept).replace("\\\n", " ").splitlines() if line.strip()]


def instruction(dockerfile: Path, name: str) -> str:
    """Arguments of the last instruction with this name."""
    return [line.removeprefix(name).strip() for line in lines(dockerfile) if line.startswith(f"{name} ")][-1]


def copied(dockerfile: Path) -> list[str]:
    """Paths that a Dockerfile copies from the checkout."""
    found = [line.split()[1:-1] for line in lines(dockerfile) if line.startswith("COPY ") and "--from" not in line]
    return [source for sources in found for source in sources]


def services() -> list[tuple[str, dict[str, Any]]]:
    return [(name, service) for file in COMPOSE for name, service in load(file)["services"].items()]


def documents(file: Path) -> list[Any]:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.S)]
    return [json.loads(text)] if file.suffix == ".json" else list(yaml.safe_load_all(text))


@pytest.mark.parametrize(
    "file",
    [f for f in TEXTS if f.suffix in {".yaml", ".yml", ".json", ".md"} and "templates" not in f.parts],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_files_parse(file: Path) -> None:
    assert documents(file)


# --- images ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dockerfile", [GATEWAY_IMAGE, TRITON_IMAGE], ids=["gateway", "triton"])
def test_images_copy_existing_paths_that_are_not_ignored(dockerfile: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    for source in copied(dockerfile):
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source


def test_gateway_image_has_everything_the_wheel_is_built_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [*wheel["packages"], *wheel["force-include"], project["project"]["readme"], "pyproject.toml"]
    sources = copied(GATEWAY_IMAGE)
    assert not [path for path in needed if path.partition("/")[0] not in sources]


def test_gateway_image_installs_an_extra_that_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [default] = [line.partition("=")[2] for line in lines(GATEWAY_IMAGE) if line.startswith("ARG EXTRA=")]
    assert default in project["project"]["optional-dependencies"]


def test_both_images_and_the_chart_run_as_the_same_user() -> None:
    # Shared memory is readable only by its owner.
    user = instruction(GATEWAY_IMAGE, "USER")
    assert user == instruction(TRITON_IMAGE, "USER")
    helpers = (CHART / "templates" / "_helpers.tpl").read_text(encoding="utf-8")
    assert [f"{uid}:{uid}" for uid in re.findall(r"runAs(?:User|Group): (\d+)", helpers)] == [user, user]


def test_chart_starts_triton_with_the_flags_of_its_image() -> None:
    image = json.loads(instruction(TRITON_IMAGE, "ENTRYPOINT"))
    chart = (CHART / "templates" / "triton.yaml").read_text(encoding="utf-8")
    flags = re.findall(r"^ +- (--[a-z0-9-]+=[^{\s]+)$", chart, re.M)
    assert ["tritonserver", *flags] == image


@pytest.fixture(params=[200, 503])
def answering(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Run a server; yields its port and its status for /healthz."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, request.param
        server.shutdown()
        thread.join()


def test_healthcheck_reports_health(answering: tuple[int, int]) -> None:
    port, status = answering
    command = json.loads(instruction(GATEWAY_IMAGE, "HEALTHCHECK").partition("CMD")[2])
    # A proxy in the environment must not be used.
    environment = {"SEFAR_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, *command[1:]], env=environment, timeout=20, check=False)
    assert (done.returncode == 0) == (status == 200)


# --- settings and metrics -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_named_settings_exist(file: Path) -> None:
    named = set(re.findall(r"\bSEFAR_([A-Z][A-Z_]*[A-Z])", file.read_text(encoding="utf-8")))
    assert named <= {field.upper() for field in Settings.model_fields}


def test_compose_sets_valid_settings_for_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    service = load(COMPOSE[0])["services"]["gateway"]
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value))
    settings = Settings()
    assert settings.triton_url == "triton:8001"
    assert settings.triton_shared_memory
    assert not settings.api_keys
    assert int(service["stop_grace_period"].removesuffix("s")) > settings.shutdown_grace + settings.triton_timeout


def test_compose_mounts_jobs_on_a_folder_of_the_image() -> None:
    gateway = load(COMPOSE[2])["services"]["gateway"]
    targets = {volume["type"]: volume["target"] for volume in gateway["volumes"]}
    assert targets["volume"] == gateway["environment"]["SEFAR_JOBS_DIR"]
    assert targets["bind"] == gateway["environment"]["SEFAR_JOB_ROOTS"]
    [made] = [line for line in lines(GATEWAY_IMAGE) if line.startswith("RUN install -d")]
    uid, _, gid = instruction(GATEWAY_IMAGE, "USER").partition(":")
    assert made == f"RUN install -d -o {uid} -g {gid} {targets['volume']}"
    extras = set(gateway["build"]["args"]["EXTRA"].split(","))
    assert extras == {load(COMPOSE[0])["services"]["gateway"]["build"]["args"]["EXTRA"], "batch"}


def test_chart_accepts_existing_settings() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    names = schema["properties"]["gateway"]["properties"]["settings"]["propertyNames"]["enum"]
    assert set(names) <= set(Settings.model_fields)


def gateway_metrics() -> set[str]:
    """All series that the gateway may expose."""
    idle = SimpleNamespace(engine=SimpleNamespace(queue_depth=0), decoding=0, decoded_bytes=0)
    endings = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
    families = Metrics(idle).registry.collect()  # type: ignore[arg-type]
    return {family.name + ending for family in families for ending in endings[family.type]}


def test_dashboard_uses_existing_metrics() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "sefar.json").read_text(encoding="utf-8"))
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert targets
    known = gateway_metrics() | TRITON_METRICS
    for target in targets:
        named = set(re.findall(r"\b(?:sefar|nv)_[a-z0-9_]+", target["expr"]))
        assert named
        assert named <= known, target["expr"]


def test_chart_and_docs_use_the_same_autoscaling_metric() -> None:
    chart = (CHART / "templates" / "triton.yaml").read_text(encoding="utf-8")
    [scaled] = re.findall(r"metric: \{name: (nv_\w+)\}", chart)
    assert scaled in TRITON_METRICS
    rules = [rule for page in documents(PAGE) for rule in page.get("rules", {}).get("custom", [])]
    assert scaled in {re.match(r"\w+", rule["seriesQuery"]).group() for rule in rules}  # type: ignore[union-attr]
    named = {re.match(r"\w+", rule["seriesQuery"]).group() for rule in rules}  # type: ignore[union-attr]
    assert named <= gateway_metrics() | TRITON_METRICS


# --- compose --------------------------------------------------------------------------------------------------------


def test_compose_refers_to_existing_files() -> None:
    for name, service in services():
        if build := service.get("build"):
            context = DEPLOY / build["context"]
            assert (context / build.get("dockerfile", "Dockerfile")).is_file(), name
        for volume in service.get("volumes", []):
            if isinstance(volume, str) and volume.startswith("."):
                assert (DEPLOY / volume.partition(":")[0]).exists(), volume


def test_compose_defines_the_volumes_and_networks_that_it_uses() -> None:
    made = [load(file) for file in COMPOSE]
    for name, service in services():
        for volume in service.get("volumes", []):
            if isinstance(volume, dict) and volume["type"] == "bind":
                continue
            source = volume["source"] if isinstance(volume, dict) else volume.partition(":")[0]
            assert source.startswith(".") or any(source in file.get("volumes", {}) for file in made), (name, source)
        assert set(service.get("networks", [])) <= set(made[0]["networks"]), name


def test_compose_services_are_hardened() -> None:
    published = []
    for name, service in load(COMPOSE[0])["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        assert re.search(r":v?\d", service["image"]), f"{name}: the image tag has no version"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
            published.append(name)
    assert published == ["gateway", "grafana"]


def test_prometheus_scrapes_services_of_compose() -> None:
    config = load(DEPLOY / "prometheus" / "prometheus.yml")
    targets = [t for job in config["scrape_configs"] for static in job["static_configs"] for t in static["targets"]]
    assert {target.partition(":")[0] for target in targets} <= set(load(COMPOSE[0])["services"])


# --- chart ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft7Validator:
    """The schema with which Helm validates values."""
    found = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(found)
    return jsonschema.Draft7Validator(found)


def test_chart_values_match_their_schema(schema: jsonschema.Draft7Validator) -> None:
    schema.validate(load(CHART / "values.yaml"))


@pytest.mark.parametrize(
    ("part", "wrong"),
    [("gateway", {"settings": {"max_que": 1}}), ("gateway", {"replicas": "2"}), ("triton", {"gpu": 1})],
)
def test_chart_schema_rejects_mistakes(schema: jsonschema.Draft7Validator, part: str, wrong: dict[str, Any]) -> None:
    values = load(CHART / "values.yaml")
    values[part] |= wrong
    assert not schema.is_valid(values)


def test_chart_uses_existing_values() -> None:
    values = load(CHART / "values.yaml")
    for template in sorted((CHART / "templates").iterdir()):
        for path in re.findall(r"\.Values((?:\.\w+)+)", template.read_text(encoding="utf-8")):
            found = values
            for key in path.split(".")[1:]:
                assert key in found, f"{template.name}: .Values{path}"
                found = found[key]


def test_chart_has_the_version_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    version = project["project"]["version"]
    assert load(CHART / "Chart.yaml")["appVersion"] == version
    images = [service["image"] for name, service in services() if service.get("build")]
    assert {image.rpartition(":")[2] for image in images} == {version}
