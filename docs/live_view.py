"""Draws `docs/three-routers.svg`: what `emu-run examples/three-routers.yaml` shows after six seconds.

    .venv/bin/python docs/live_view.py

The picture is the live view of a real run. It names no font that would have to be fetched.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from rich.console import Console, RenderableType

from manystack import Engine, Topology
from manystack.report.view import RATE_NS, LiveView
from manystack.topology.document.quantity import parse_duration

ROOT = Path(__file__).parents[1]
TOPOLOGY = ROOT / "examples" / "three-routers.yaml"
PICTURE = ROOT / "docs" / "three-routers.svg"
COLUMNS, LINES = 100, 40
COLUMN, LINE, MARGIN = 8.4, 18, 14

FORM = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">
<title>{title}</title>
<style>
text {{ font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d8dee9; }}
.bold {{ font-weight: bold; fill: #ffffff; }}
.dim {{ fill: #8b95a7; }}
</style>
<rect width="{width:g}" height="{height:g}" rx="8" fill="#1f2430"/>
{texts}
</svg>
"""


def view_at(moment: str, time: str | None = None) -> tuple[Console, RenderableType]:
    """Run the example up to an emulated moment; return its live view there, and the console it is for."""
    console = Console(file=io.StringIO(), width=COLUMNS, height=LINES, force_terminal=True)
    with Engine(Topology.load(TOPOLOGY), time=time) as engine:
        view = LiveView(engine.network, console)
        unsubscribe = engine.subscribe(view.event)
        engine.run(parse_duration(moment) - RATE_NS)
        # What is drawn first is the base of the rates that are drawn second.
        view.render()
        engine.run(RATE_NS)
        unsubscribe()
        return console, view.render()


def svg(console: Console, renderable: RenderableType, prompt: str) -> str:
    """Return what a console shows, below the command that shows it, as SVG."""
    texts = [_text(0, 0, f"$ {prompt}", "dim")]
    lines = console.render_lines(renderable, pad=False)
    for number, line in enumerate(lines, start=2):
        column = 0
        for text, style, _ in line:
            name = "bold" if style and style.bold else "dim" if style and style.dim else ""
            texts += _words(column, number, text, name)
            column += len(text)
    width = 2 * MARGIN + COLUMNS * COLUMN
    height = 2 * MARGIN + (len(lines) + 2) * LINE
    return FORM.format(width=width, height=height, title=escape(prompt), texts="\n".join(texts))


def _words(column: int, line: int, text: str, name: str) -> Iterator[str]:
    """Yield what stands in a text, each part where it stands: spaces do not have one width everywhere."""
    for words in re.finditer(r"\S+(?: \S+)*", text):
        yield _text(column + words.start(), line, words[0], name)


def _text(column: int, line: int, text: str, name: str) -> str:
    place = f'x="{MARGIN + column * COLUMN:g}" y="{MARGIN + (line + 0.8) * LINE:g}"'
    length = f'textLength="{len(text) * COLUMN:g}"'
    kind = f' class="{name}"' if name else ""
    return f"<text {place} {length}{kind}>{escape(text)}</text>"


if __name__ == "__main__":
    PICTURE.write_text(svg(*view_at("6s"), "emu-run examples/three-routers.yaml"))
