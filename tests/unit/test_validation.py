"""Validation errors are explained in plain words, with the name of the input."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sefar_serve.schemas.chat import ChatRequest
from sefar_serve.schemas.jobs import JobInput
from sefar_serve.validation import explain


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: int = Field(1, ge=1, lt=10)
    ratio: float = Field(0.5, gt=0, le=1, allow_inf_nan=False)
    flag: bool = False
    name: Annotated[str, Field(min_length=1, max_length=3)] = "a"
    code: Annotated[str, Field(min_length=2)] = "ab"
    kind: Literal["float", "base64", "hex"] = "float"
    only: Literal[1] = 1
    tags: tuple[str, ...] = Field(("a",), min_length=1, max_length=2)
    pair: list[int] = Field([1, 2], min_length=2)
    even: int = Field(2, multiple_of=2)
    word: str = "x"

    @field_validator("word")
    @classmethod
    def _is_x(cls, value: str) -> str:
        if value != "x":
            raise ValueError("must be x")
        return value


def explained(kind: type[BaseModel], fields: object) -> str:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(fields)
    return explain(caught.value.errors()[0])


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"count": "abc"}, "count: 'abc' is not a whole number"),
        ({"count": 1.5}, "count: 1.5 is not a whole number"),
        ({"count": None}, "count: null is not a whole number"),
        ({"count": [1]}, "count: a list is not a whole number"),
        ({"count": {"a": 1}}, "count: an object is not a whole number"),
        ({"count": b"\xff"}, "count: a bytes value is not a whole number"),
        ({"count": "x" * 99}, f"count: '{'x' * 60}…' is not a whole number"),
        ({"count": "9" * 5000}, "count: the number has too many digits"),
        ({"count": 0}, "count: must be at least 1, not 0"),
        ({"count": "0"}, "count: must be at least 1, not 0"),
        ({"count": 10}, "count: must be less than 10, not 10"),
        ({"ratio": "soon"}, "ratio: 'soon' is not a number"),
        ({"ratio": "nan"}, "ratio: 'nan' is not a finite number"),
        ({"ratio": 0}, "ratio: must be greater than 0, not 0"),
        ({"ratio": 2}, "ratio: must be at most 1, not 2"),
        ({"flag": "perhaps"}, "flag: 'perhaps' is not a boolean; use true or false"),
        ({"name": 5}, "name: must be text"),
        ({"name": ""}, "name: must not be empty"),
        ({"name": "abcd"}, "name: must have at most 3 characters"),
        ({"code": "a"}, "code: must have at least 2 characters"),
        ({"kind": "raw"}, "kind: 'raw' is not supported; use float, base64 or hex"),
        ({"only": 2}, "only: 2 is not supported; use 1"),
        ({"tags": "a"}, "tags: must be a list"),
        ({"tags": []}, "tags: send at least one"),
        ({"tags": ["a"] * 3}, "tags: send at most 2, not 3"),
        ({"tags": [1]}, "tags.0: must be text"),
        ({"pair": [1]}, "pair: send at least 2, not 1"),
        ({"even": 3}, "even: must be a multiple of 2"),
        ({"word": "y"}, "word: must be x"),
        ({"sped": "x"}, "sped: unknown parameter"),
        ([1], "must be an object with named fields"),
    ],
)
def test_each_kind_of_error(fields: object, sentence: str) -> None:
    assert explained(Form, fields) == sentence


def part(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [fields]}]}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "messages: is required"),
        ({"messages": []}, "messages: send at least one"),
        (
            part(type="image_url", image_url={"url": "x"}),
            "messages.0.content.0: part type 'image_url' is not supported; use text or video_url",
        ),
        (part(text="x"), "messages.0.content.0: the part has no type; add the field 'type'"),
        (part(type="text"), "messages.0.content.0.text: is required"),
        (part(type="video_url", video_url={}), "messages.0.content.0.video_url.url: is required"),
    ],
)
def test_the_parts_of_a_conversation(fields: object, sentence: str) -> None:
    assert explained(ChatRequest, fields) == sentence


def test_the_members_of_a_union_are_not_named() -> None:
    assert explained(JobInput, {"path": "a.mp4", "id": [1]}) == "id: must be text"
