"""What all parts of a recipe are."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(ge=0, lt=1)]


class Strict(BaseModel):
    """Cannot be changed, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
