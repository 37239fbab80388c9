"""Machine instructions that the engine spends on one packet at one router, held to a baseline.

    .venv/bin/python -m bench.instructions            measure, compare, exit with 1 beyond the tolerance
    .venv/bin/python -m bench.instructions --renew    measure, and write the baseline anew

Unlike times they are the same on every machine and in every run: a slower path is seen when it is made.
Valgrind's callgrind counts them in a chain of routers, for two different numbers of packets; the difference
is the path alone. Compilers differ by some percent, so the baseline names the one that it was measured with.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.chain import VECTOR, open_chain
from manystack.core import _switch

BASELINE = Path(__file__).with_name("instructions.toml")
ROUTERS = 10
FEW, MANY = 2, 22
"""Vectors that are sent: the first ones make room for those behind them."""

OWN_TOLERANCE, OTHER_TOLERANCE = 0.03, 0.15
"""How much more than the baseline is borne: from the compiler that it was measured with, from any other."""

HEAD = """\
# Instructions for one packet at one router; with them a tenth of what it takes to enter and leave the chain.
# Where a change is worth more of them, renew this and say why in the commit:
# .venv/bin/python -m bench.instructions --renew

"""


CASES = {
    "unshaped": {"shaped": False},
    "shaped": {"shaped": True},
    "shaped, run hash": {"shaped": True, "proof": True},
}


def forward(case: str, vectors: int) -> None:
    """What is counted."""
    with open_chain(ROUTERS, **CASES[case]) as chain:
        chain.forward(vectors)


def count(case: str, vectors: int, folder: Path) -> int:
    """Instructions of a process that forwards so many vectors, its own start included."""
    counts = folder / f"{case}-{vectors}"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={counts}", "--quiet"]
    command += [sys.executable, "-m", "bench.instructions", "--forward", str(vectors), "--case", case]
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    subprocess.run(command, check=True, env=environment, cwd=BASELINE.parent.parent)
    return int(re.findall(r"^(?:summary|totals): (\d+)", counts.read_text(), re.MULTILINE)[-1])


def measure() -> dict[str, float]:
    """Instructions a hop-packet in each case."""
    runs = [(case, vectors) for case in CASES for vectors in (FEW, MANY)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(max_workers=2) as workers:
        counts = list(workers.map(lambda run: count(run[0], run[1], Path(folder)), runs))
    hop_packets = (MANY - FEW) * VECTOR * ROUTERS
    return {
        case: round((many - few) / hop_packets, 1)
        for case, few, many in zip(CASES, counts[::2], counts[1::2], strict=True)
    }


def compiler() -> str:
    """The compiler that has made the engine, in its own words."""
    found = re.search(rb"GCC: \([^)]*\) [\d.]+|clang version [\d.]+", Path(_switch.__file__).read_bytes())
    return found[0].decode() if found else "unknown"


def compare(measured: dict[str, float]) -> list[str]:
    """What is wrong with the measured values, in sentences."""
    baseline = tomllib.loads(BASELINE.read_text())
    own = compiler() == baseline["compiler"]
    tolerance = OWN_TOLERANCE if own else OTHER_TOLERANCE
    return [
        f"{case}: {measured[case]} instructions a hop, {measured[case] / expected - 1:+.1%} beside the "
        f"baseline's {expected}; {tolerance:.0%} is borne"
        + ("" if own else f" (the baseline is from {baseline['compiler']}, this engine from {compiler()})")
        for case, expected in baseline["instructions"].items()
        if measured[case] > expected * (1 + tolerance)
    ]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="bench.instructions", description=__doc__)
    parser.add_argument("--renew", action="store_true", help="write the baseline anew")
    parser.add_argument("--forward", type=int, metavar="VECTORS", help="only forward, to be counted")
    parser.add_argument("--case", choices=CASES, default="unshaped", help="which of the cases that is")
    arguments = parser.parse_args()
    if arguments.forward is not None:
        forward(arguments.case, arguments.forward)
        return
    measured = measure()
    print(*(f"{case}: {value} instructions a hop" for case, value in measured.items()), sep="\n")
    if arguments.renew:
        lines = [f'compiler = "{compiler()}"', "", "[instructions]"]
        lines += [f'"{case}" = {value}' for case, value in measured.items()]
        BASELINE.write_text(HEAD + "\n".join(lines) + "\n")
    elif wrong := compare(measured):
        print(*wrong, sep="\n")
        sys.exit(
            "The path has become slower. Where the change is worth it, renew the baseline and say why in the "
            "commit: .venv/bin/python -m bench.instructions --renew"
        )


if __name__ == "__main__":
    main()
