"""What Python may ask of a shaped pipe: each mistake is told by its setting, and changes nothing."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
from shaped import Shaped
from timeline import MILLISECOND, SECOND, Shape, Wire, numbered

pytestmark = pytest.mark.engine

CHANCES = [
    "loss_correlation",
    "bit_error",
    "duplicate",
    "duplicate_correlation",
    "corrupt",
    "corrupt_correlation",
    "reorder",
    "reorder_correlation",
    "jitter_correlation",
    "airtime_loss_above",
    "probability",
]
RANGES = {
    "flows": (0, 65537),
    "quantum_bytes": (0, (1 << 30) + 1),
    "target_ns": (0, 10**12 + 1),
    "interval_ns": (0, 10**12 + 1),
    "burst_ns": (-1, 10**12 + 1),
    "least_bytes": (-1, 1 << 31),
    "most_bytes": (-1, 1 << 31),
    "average_shift": (-1, 32),
    "cell_bytes": (-1, 65536),
    "cell_overhead_bytes": (-1, 256),
    "burst_bytes": (-1, (1 << 30) + 1),
    "reorder_gap": (-1, (1 << 30) + 1),
    "slots_packets": (-1, (1 << 30) + 1),
    "slots_bytes": (-1, (1 << 40) + 1),
}
WRONG: list[tuple[str, dict[str, Any]]] = [
    *[(key, {key: value}) for key in CHANCES for value in (-0.01, 1.01, math.nan, math.inf)],
    *[(key, {key: value}) for key, values in RANGES.items() for value in values],
    ("discipline", {"discipline": "fastest"}),
    ("weights", {"weights": [1] * 7}),
    ("weights", {"weights": [1] * 9}),
    ("weights", {"weights": [0] + [1] * 7}),
    ("weights", {"weights": [1001] + [1] * 7}),
    *[
        (key, {key: points})
        for key in ("airtime", "jitter", "slots")
        for points in (
            ([], []),
            ([0.0], [1, 2]),
            ([0.0, 1.0], [1]),
            ([0.0, 1.0], [2, 1]),
            ([0.0, 0.6, 0.5, 1.0], [1, 2, 3, 4]),
            ([0.1, 1.0], [1, 2]),
            ([0.0, 0.9], [1, 2]),
            ([0.0, 1.0], [-(10**15) - 1, 0]),
            ([0.0, 1.0], [0, 10**15 + 1]),
            ([0.0, math.nan, 1.0], [1, 2, 3]),
        )
    ],
    ("choose one", {"rates": ([0], [1000], 0), "opportunities": ([1], 1500, 1)}),
    ("times", {"rates": ([], [], 0)}),
    ("times", {"rates": ([0, 2, 1], [1000] * 3, 0)}),
    ("times", {"rates": ([-1, 0], [1000] * 2, 0)}),
    ("times", {"rates": ([0, 10**15 + 1], [1000] * 2, 0)}),
    ("times", {"rates": ([0, 10**30], [1000] * 2, 0)}),
    ("rates", {"rates": ([0, 1], [1000], 0)}),
    ("rates", {"rates": ([1], [1000], 0)}),
    ("rates", {"rates": ([0, 1, 1], [1000] * 3, 0)}),
    ("rates", {"rates": ([0], [-1], 0)}),
    ("rates", {"rates": ([0], [10**12 + 1], 0)}),
    ("rates", {"rates": ([0, 1], [0, 0], 9)}),
    ("period", {"rates": ([0, 5], [1000] * 2, 5)}),
    ("period", {"rates": ([0, 5], [1000] * 2, -1)}),
    ("period", {"rates": ([0, 5], [1000] * 2, 10**15 + 1)}),
    ("period", {"rates": ([0, 5], [1000, 0], 0)}),
    ("mean", {"rates": ([0, 1], [1, 0], 2)}),
    ("times", {"opportunities": ([], 1500, 1)}),
    ("times", {"opportunities": ([2, 1], 1500, 2)}),
    ("times", {"opportunities": ([-1], 1500, 2)}),
    ("period", {"opportunities": ([1], 1500, 0)}),
    ("period", {"opportunities": ([0], 1500, 0)}),
    ("period", {"opportunities": ([2], 1500, 1)}),
    ("opportunities", {"opportunities": ([1], 0, 1)}),
    ("opportunities", {"opportunities": ([1], (1 << 30) + 1, 1)}),
    ("mean", {"opportunities": ([1], 1, 10**15)}),
    ("burst_bytes", {"burst_bytes": 1000}),
    ("airtime: no packet takes less", {"airtime": ([0.0, 1.0], [-1, 5])}),
    ("loss_model", {"loss_model": "bad luck"}),
    ("loss_chain", {"loss_model": "gilbert_elliott"}),
    ("loss_chain", {"loss_model": "markov"}),
    ("loss_chain", {"loss_chain": [0.1] * 4}),
    ("loss_chain", {"loss_model": "gilbert_elliott", "loss_chain": [0.1] * 5}),
    ("loss_chain", {"loss_model": "markov", "loss_chain": [0.1] * 4}),
    ("loss_chain", {"loss_model": "gilbert_elliott", "loss_chain": [0.1, 0.1, 0.1, 1.1]}),
    ("loss_chain", {"loss_model": "markov", "loss_chain": [0.6, 0.1, 0.1, 0.1, 0.5]}),
    ("loss_chain", {"loss_model": "markov", "loss_chain": [0.1, 0.6, 0.5, 0.1, 0.1]}),
    ("loss_fates", {"loss_model": "recorded"}),
    ("loss_fates", {"loss_fates": b"\1"}),
    ("loss_fates", {"loss_model": "recorded", "loss_fates": b""}),
    ("wishes", {"wishes": 3}),
]
OLD = Shaped(
    Shape(bandwidth_bps=SECOND, delay_ns=MILLISECOND, overhead_bytes=7),
    {"jitter": ([0.0, 1.0], [0, 5000]), "cell_bytes": 48, "cell_overhead_bytes": 5, "burst_bytes": 400},
)


@pytest.fixture
def wires() -> Iterator[tuple[Wire, Wire]]:
    """Two wires that are alike."""
    wires = Wire(4), Wire(4)
    yield wires
    for wire in wires:
        wire.switch.close()


@pytest.mark.parametrize(("says", "shaping"), WRONG, ids=[f"{i}-{says}" for i, (says, _) in enumerate(WRONG)])
def test_a_mistake_is_told_and_changes_nothing(
    wires: tuple[Wire, Wire], says: str, shaping: dict[str, Any]
) -> None:
    frames = []
    for wire, mistaken in zip(wires, (True, False), strict=True):
        OLD.apply(wire.switch, wire.pipe)
        for number in range(20):
            wire.switch.inject(wire.near, numbered(number, 200))
        wire.switch.run(3000)
        if mistaken:
            with pytest.raises(ValueError, match=says):
                wire.switch.set_pipe(wire.pipe, delay_ns=5, shaping=shaping)
        for number in range(20, 40):
            wire.switch.inject(wire.near, numbered(number, 200))
        frames.append(wire.arrivals(SECOND))
    assert len(frames[0]) == 40
    assert frames[0] == frames[1]


@pytest.mark.parametrize(
    ("says", "plain", "shaping"),
    [
        ("choose one", {"bandwidth_bps": 1000}, {"rates": ([0], [1000], 0)}),
        ("choose one", {"bandwidth_bps": 1000}, {"opportunities": ([1], 1500, 1)}),
        ("choose one", {"loss": 0.1}, {"loss_model": "recorded", "loss_fates": b"\1"}),
        ("choose one", {"loss": 0.1}, {"loss_model": "gilbert_elliott", "loss_chain": [0.1] * 4}),
        ("choose one", {"loss": 0.1}, {"loss_model": "markov", "loss_chain": [0.1] * 5}),
        ("do not go together", {"bandwidth_bps": 1000}, {"airtime": ([0.0], [5]), "burst_bytes": 1000}),
        ("loss", {"loss": 1.5}, {}),
        ("bandwidth", {"bandwidth_bps": 99}, {}),
        ("bandwidth", {"bandwidth_bps": 10**12 + 1}, {}),
        ("delay", {"delay_ns": -1}, {}),
        ("overhead", {"overhead_bytes": 65536}, {}),
    ],
)
def test_what_does_not_go_together_is_refused(
    says: str, plain: dict[str, Any], shaping: dict[str, Any]
) -> None:
    wire = Wire()
    with pytest.raises(ValueError, match=says):
        wire.switch.set_pipe(wire.pipe, **plain, shaping=shaping)
    # It is still what it was: ideal.
    wire.switch.inject(wire.near, b"frame")
    assert wire.arrivals(0) == [(0, b"frame")]
    wire.switch.close()


def test_the_outermost_values_are_taken() -> None:
    wire = Wire()
    widest = {key: tuple(value for value in values) for key, values in RANGES.items()}
    for key, (below, above) in widest.items():
        bandwidth_bps = SECOND if key == "burst_bytes" else 0
        for value in (below + 1, above - 1):
            wire.switch.set_pipe(wire.pipe, bandwidth_bps=bandwidth_bps, shaping={key: value})
    for key in CHANCES:
        for chance in (0, 1):
            wire.switch.set_pipe(wire.pipe, shaping={key: chance})
    for shaping in (
        {"jitter": ([0.0, 1.0], [-(10**15), 10**15])},
        {"jitter": ([0.0], [7])},
        {"loss_model": "markov", "loss_chain": [0.5, 0.3, 0.7, 1.0, 0.5]},
        {"rates": ([0, 10**15], [0, 10**12], 0)},
        {"opportunities": ([0], 1, 1)},
    ):
        wire.switch.set_pipe(wire.pipe, shaping=shaping)
    wire.switch.close()


def test_slots_that_are_days_apart_do_not_run_out_of_time() -> None:
    """Twenty thousand frames that wait for slots 11 days apart: the last would be 600 years away."""
    wire = Wire()
    wire.switch.set_pipe(wire.pipe, shaping={"slots": ([0.0], [10**15]), "slots_packets": 1})
    wire.switch.inject(wire.near, bytes(60), 20_000)
    frames = wire.arrivals(4 * 10**18)
    assert [time_ns for time_ns, _ in frames] == [k * 10**15 for k in range(4001)]
    wire.switch.close()
