"""A web page that calls the gateway from another origin, and the /docs page, in a real browser."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from e2e_gateway import GatewayProcess, start_gateway
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

CALL = """
async ([url, key, video]) => {
  const body = Uint8Array.from(atob(video), character => character.charCodeAt(0));
  const headers = {"content-type": "video/mp4", ...(key && {authorization: `Bearer ${key}`})};
  try {
    const answer = await fetch(`${url}/v1/classify`, {method: "POST", headers, body});
    return {status: answer.status, body: await answer.json(), headers: Object.fromEntries(answer.headers)};
  } catch (error) {
    return {refused: String(error)};
  }
}
"""


@pytest.fixture(scope="module")
def pages() -> Iterator[int]:
    """The port of a server that serves empty pages."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>a page</title>")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def gateway(pages: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with a key, which pages of `localhost` may call and pages of `127.0.0.1` may not."""
    log = tmp_path_factory.mktemp("gateway") / "log"
    env = {"SEFAR_API_KEYS": "secret", "SEFAR_CORS_ORIGINS": f"http://localhost:{pages}"}
    running = start_gateway(log, env=env)
    yield running
    running.process.terminate()
    running.process.wait(30)


def called(browser: Browser, page_url: str, gateway: GatewayProcess, key: str | None, video: bytes) -> dict[str, Any]:
    """The response that a page's script gets from the gateway."""
    page: Page = browser.new_page()
    try:
        page.goto(page_url)
        found: dict[str, Any] = page.evaluate(CALL, [gateway.url, key, base64.b64encode(video).decode()])
        return found
    finally:
        page.close()


def test_a_page_of_an_allowed_origin(browser: Browser, pages: int, gateway: GatewayProcess, bright_clip: bytes) -> None:
    found = called(browser, f"http://localhost:{pages}/", gateway, "secret", bright_clip)
    assert found["status"] == 200, found
    assert found["body"]["data"][0]["labels"]
    assert found["headers"]["x-request-id"]
    assert float(found["headers"]["x-inference-time"]) > 0


def test_a_page_can_read_errors_too(browser: Browser, pages: int, gateway: GatewayProcess, bright_clip: bytes) -> None:
    page = f"http://localhost:{pages}/"
    for key, video, status, code in (
        (None, bright_clip, 401, "invalid_api_key"),
        ("wrong", bright_clip, 401, "invalid_api_key"),
        ("secret", b"no video", 415, "not_a_video"),
    ):
        found = called(browser, page, gateway, key, video)
        assert (found["status"], found["body"]["error"]["code"]) == (status, code)
        assert found["headers"]["x-request-id"]


def test_a_page_of_another_origin(browser: Browser, pages: int, gateway: GatewayProcess, bright_clip: bytes) -> None:
    found = called(browser, f"http://127.0.0.1:{pages}/", gateway, "secret", bright_clip)
    assert "Failed to fetch" in found["refused"]


def test_a_key_can_be_entered_on_the_docs_page(browser: Browser, gateway: GatewayProcess) -> None:
    page = browser.new_page()
    try:
        page.goto(f"{gateway.url}/docs")

        def tried() -> int:
            """The status of a request that is sent from the page."""
            with page.expect_response(f"{gateway.url}/v1/models") as answer:
                page.get_by_role("button", name="Execute").click()
            return answer.value.status

        page.locator("#operations-models-models_v1_models_get").get_by_role("button").first.click()
        page.get_by_role("button", name="Try it out").click()
        assert tried() == 401
        page.locator(".auth-wrapper").get_by_role("button", name="Authorize").click()
        page.locator(".auth-container input").fill("secret")
        page.locator(".auth-container").get_by_role("button", name="Apply").click()
        page.locator(".auth-container").get_by_role("button", name="Close").click()
        assert tried() == 200
    finally:
        page.close()
