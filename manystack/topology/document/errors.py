"""What is wrong with a topology: all of it at once, each mistake with its place."""

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from manystack.errors import UsageError

NOT_YET: Final = "not in this version"

# A file that is no topology at all has a mistake everywhere; nobody reads more than this.
_MOST_ERRORS = 1000
# Looking for similar names costs about 10 µs a name, for each mistake: a second is the most to spend on it.
_MOST_COMPARISONS = 100_000


@dataclass(frozen=True)
class PlacedError:
    """One mistake. `place` is a path such as `links[1].forward.loss`, empty for the document as a whole."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class TopologyError(UsageError):
    """Every mistake of a topology, in `errors`; as text, one a line, each behind the file it is in."""

    def __init__(self, errors: Sequence[PlacedError], file: Path | None = None) -> None:
        before = f"{file}: " if file else ""
        super().__init__("\n".join(f"{before}{error}" for error in errors))
        self.errors = list(errors)


@dataclass
class Problems:
    """Collects mistakes, so that a user hears of all of them in one go."""

    errors: list[PlacedError] = field(default_factory=list)

    def add(self, place: str, message: str) -> None:
        """Note a mistake. Raises TopologyError when there are so many that going on makes no sense."""
        if len(self.errors) == _MOST_ERRORS:
            raise TopologyError([*self.errors, PlacedError("", "there are more errors than these")])
        self.errors.append(PlacedError(place, message))

    def add_unknown(self, place: str, what: str, name: object, allowed: Collection[str]) -> None:
        """Note a key, kind or other word that is none of the `allowed`."""
        hint = self.similar(name, allowed) if isinstance(name, str) else ""
        self.add(place, f"unknown {what} {short(name)}{hint} (allowed: {', '.join(allowed)})")

    def similar(self, name: str, known: Collection[str]) -> str:
        """Return "; did you mean …?" if a known name looks like `name`, else nothing."""
        if len(name) > 100 or (len(self.errors) + 1) * len(known) > _MOST_COMPARISONS:
            return ""
        close = difflib.get_close_matches(name, known, n=1)
        return f"; did you mean {close[0]}?" if close else ""

    def check(self) -> None:
        """Raise TopologyError if there was any mistake."""
        if self.errors:
            raise TopologyError(self.errors)


def below(place: str, step: str | int) -> str:
    """Return the place of what is under `step`, a key or an index, in what is at `place`."""
    if isinstance(step, int):
        return f"{place}[{step}]"
    if not re.fullmatch(r"[\w.-]+", step):
        return f"{place}[{short(step)}]"
    return f"{place}.{step}" if place else step


def short(value: object) -> str:
    """Return a value as a message shows it: not longer than a line bears, whatever a document holds there."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value[:60]) if isinstance(value, str | bytes) else str(value)[:60]
    return text if not isinstance(value, str | bytes) or len(value) <= 60 else f"{text}…"
