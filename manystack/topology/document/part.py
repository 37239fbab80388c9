"""What all parts of a topology have in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict

Document = dict[str, Any]


class Part(BaseModel):
    """A part of a topology: typed, frozen, and with no other keys than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
