"""Errors of the client: what they keep of an answer, and that they can be pickled and copied."""

from __future__ import annotations

import copy
import pickle

import httpx
import pytest
from client_answers import in_turn, make

from sefar_client import Failure, GatewayError, GatewayUnreachableError

REFUSED = GatewayError("busy", status=429, code="overloaded", param="input", request_id="r", retry_after=3.0)


def test_errors_can_be_pickled_and_copied() -> None:
    away = GatewayUnreachableError("away")
    failure = Failure("a.mp4", REFUSED)
    for again in (
        pickle.loads(pickle.dumps(failure)).error,
        pickle.loads(pickle.dumps(REFUSED)),
        copy.copy(REFUSED),
        copy.deepcopy(REFUSED),
    ):
        assert type(again) is GatewayError
        assert str(again) == "busy"
        assert vars(again) == vars(REFUSED)
    for unreachable in (pickle.loads(pickle.dumps(away)), copy.copy(away), copy.deepcopy(away)):
        assert type(unreachable) is GatewayUnreachableError
        assert str(unreachable) == "away"


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({"error": "bad thing"}, "bad thing", "unknown"),
        ({"error": {"message": "bad thing", "code": 42}}, "bad thing", "42"),
        ({"error": {"message": {"a": 1}}}, "{'a': 1}", "unknown"),
        ({"error": None}, "answered 400", "unknown"),
        ([], "answered 400", "unknown"),
    ],
)
def test_messages_of_other_servers_are_kept(body: object, message: str, code: str) -> None:
    with pytest.raises(GatewayError) as raised:
        make(in_turn(httpx.Response(400, json=body))).models()
    assert message in str(raised.value)
    assert raised.value.code == code
    assert raised.value.status == 400


def test_deeply_nested_json_is_an_error_answer() -> None:
    with pytest.raises(GatewayError, match="answered 400"):
        make(in_turn(httpx.Response(400, text="[" * 100_000))).models()


def test_the_timeout_message_gives_the_timeout() -> None:
    client = make(in_turn(httpx.ReadTimeout("")))
    client._http.timeout = httpx.Timeout(7)
    with pytest.raises(GatewayUnreachableError, match="sent nothing for 7 s; increase the client's timeout"):
        client.models()
