"""The figures of one bench run: held to their floors as they come in, then printed and saved together."""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

FLOORS = Path(__file__).with_name("floors.toml")
COLUMNS = ("suite", "case", "measured", "unit", "peer", "ratio", "floor")


@dataclass(frozen=True)
class Floor:
    """What a figure must keep: a least or a most, and a least ratio to its peer; None: anything goes."""

    least: float | None = None
    most: float | None = None
    ratio: float | None = None

    def __str__(self) -> str:
        parts = [
            f"≥ {self.least:,}" if self.least is not None else "",
            f"≤ {self.most:,}" if self.most is not None else "",
            f"≥ {self.ratio:g} x" if self.ratio is not None else "",
        ]
        return ", ".join(filter(None, parts))


@dataclass(frozen=True)
class Figure:
    """One measured value, and its peer's from the same run, if it has one."""

    suite: str
    case: str
    value: float
    unit: str
    peer: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the peer's value this is."""
        return self.value / self.peer if self.peer else None

    def keeps(self, floor: Floor) -> bool:
        """True if nothing of the floor is missed; a ratio that could not be measured is missed."""
        return (
            (floor.least is None or self.value >= floor.least)
            and (floor.most is None or self.value <= floor.most)
            and (floor.ratio is None or (self.ratio is not None and self.ratio >= floor.ratio))
        )


@dataclass
class Figures:
    """All figures of a run, in the order they were measured."""

    measured: list[Figure] = field(default_factory=list)
    floors: dict[str, dict[str, dict[str, float]]] = field(
        default_factory=lambda: tomllib.loads(FLOORS.read_text())
    )

    def floor(self, figure: Figure) -> Floor:
        """The committed floor of the figure; KeyError if it has none: every figure is held to one."""
        return Floor(**self.floors[figure.suite][figure.case])

    def record(self, figure: Figure) -> None:
        """Keep the figure; AssertionError if it misses its floor."""
        floor = self.floor(figure)
        self.measured.append(figure)
        assert figure.keeps(floor), f"{' '.join(filter(None, self._cells(figure)))}: below the floor"

    def print(self, console: Console) -> None:
        """Print all figures as a table; those below their floor in red."""
        table = Table(*COLUMNS)
        for column in table.columns[2:]:
            column.justify = "right"
        for figure in self.measured:
            table.add_row(*self._cells(figure), style="" if figure.keeps(self.floor(figure)) else "red")
        console.print(table)

    def save(self, folder: Path) -> None:
        """Write the figures into `folder`, as figures.json and figures.md."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = [asdict(figure) | {"ratio": figure.ratio} for figure in self.measured]
        (folder / "figures.json").write_text(json.dumps(rows, indent=2) + "\n")
        (folder / "figures.md").write_text("\n".join(self._markdown()) + "\n")

    def _markdown(self) -> Iterator[str]:
        yield f"| {' | '.join(COLUMNS)} |"
        yield "|---|---|--:|---|--:|--:|--:|"
        for figure in self.measured:
            yield f"| {' | '.join(self._cells(figure))} |"

    def _cells(self, figure: Figure) -> list[str]:
        return [
            figure.suite,
            figure.case,
            readable(figure.value),
            figure.unit,
            readable(figure.peer) if figure.peer is not None else "",
            f"{figure.ratio:.1f} x" if figure.ratio is not None else "",
            str(self.floor(figure)),
        ]


def readable(value: float) -> str:
    """Millions as M, with two decimals; all else with four digits."""
    return f"{value / 1e6:.2f} M" if value >= 1e5 else f"{value:#.4g}"
