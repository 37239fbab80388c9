"""What one direction of a link does to packets, as plain values: times in ns, probabilities 0 to 1.

What a user writes becomes these in `merging`; `manystack.shaping` tells the engine.
"""

from typing import Final, Literal

from pydantic import Field

from manystack.topology.document.part import Part

# What waits where a bandwidth is given and no queue: enough for most, and a flood does not eat the memory.
DEFAULT_QUEUE_PACKETS: Final = 1000

Probability = float


class RecordedBandwidth(Part):
    """A bandwidth that follows a recording. `period_ns` 0: it does not repeat.

    Of `csv`, the rates from each time on; of `mahimahi`, the times of opportunities to deliver 1,500 bytes.
    """

    file: str
    format: Literal["csv", "mahimahi"]
    times_ns: tuple[int, ...]
    rates_bps: tuple[int, ...] = ()
    period_ns: int = 0


class Variation(Part):
    """A distribution of times.

    `uniform` is even from -spread to +spread; `normal`, `pareto` and `paretonormal` have the mean 0 and the
    standard deviation `spread_ns`. `table` holds values of netem's, 8,192 being one spread, `cdf` points
    (probability, ns); `file` is where either was read from.
    """

    distribution: Literal["uniform", "normal", "pareto", "paretonormal", "table", "cdf"] = "uniform"
    spread_ns: int = 0
    file: str | None = None
    table: tuple[int, ...] = ()
    points: tuple[tuple[float, int], ...] = ()


class Jitter(Part):
    """What is added to the delay, packet by packet. `reorders`: a quick packet may overtake a slow one."""

    variation: Variation
    correlation: Probability = 0.0
    reorders: bool = False


class Slots(Part):
    """Openings of a line that serves in bursts: their distance, and what each lets through (0: all).

    The distance is even from `from_ns` to `to_ns`, or, with a variation, `from_ns` and what that adds.
    """

    from_ns: int
    to_ns: int
    variation: Variation | None = None
    packets: int = 0
    bytes: int = 0


class Airtime(Part):
    """How long a packet occupies the link beside its transmission; drawn above `loss_above`, in vain."""

    variation: Variation
    loss_above: Probability = 1.0


class Chance(Part):
    """Something that happens to a packet with a probability; `correlation`: that it is as the time before."""

    rate: Probability = 0.0
    correlation: Probability = 0.0


class Reorder(Chance):
    """The chance to be spared the delay; after one that was, `gap` - 1 packets are not considered."""

    gap: int = 1


class GilbertElliott(Part):
    """Loss in bursts: from good to bad with `p`, back with `r`, lost with `bad` (1-h) or `good` (1-k)."""

    p: Probability
    r: Probability
    bad: Probability = 1.0
    good: Probability = 0.0


class Markov(Part):
    """Loss by a chain of four states: the probabilities to go from one to another."""

    p13: Probability
    p31: Probability
    p32: Probability = 0.0
    p23: Probability = 1.0
    p14: Probability = 0.0


class RecordedLoss(Part):
    """Loss from a recording: a byte a packet, 1 where it is lost; from the start again at its end."""

    file: str
    fates: bytes


class Mask(Part):
    """The bits of a packet's five-tuple that tell flows apart."""

    src_ip: int = 0
    dst_ip: int = 0
    src_ip6: int = 0
    dst_ip6: int = 0
    src_port: int = 0
    dst_port: int = 0
    proto: int = 0


class Queue(Part):
    """How a queue chooses what to send, drop and mark; only what its discipline has is not None."""

    discipline: str = "droptail"
    drop: Literal["tail", "head"] | None = None
    ecn: bool | None = None
    target_ns: int | None = None
    interval_ns: int | None = None
    burst_ns: int | None = None
    min_bytes: int | None = None
    max_bytes: int | None = None
    probability: Probability | None = None
    mark_below: Probability | None = None
    alpha_microhertz: int | None = None
    beta_microhertz: int | None = None
    capdrop: bool | None = None
    derandomize: bool | None = None
    onoff: bool | None = None
    gentle: bool | None = None
    averaging_packets: int | None = None
    quantum_bytes: int | None = None
    rate_bps: int | None = None
    flows: int | None = None
    weights: tuple[int, ...] | None = None
    mask: Mask | None = None


class PipeParameters(Part):
    """What one direction of a link does to packets; as it stands, nothing.

    `bandwidth_bps` 0 is no limit, and so is a queue limit of None. The bandwidth is that of Ethernet frames
    without preamble, gap and checksum, plus `overhead_bytes` a frame, in whole cells if there are cells.
    Of `loss`, `gilbert_elliott`, `markov` and `recorded_loss` at most one says what is lost on the wire.
    """

    bandwidth_bps: int = Field(default=0, ge=0)
    recorded_bandwidth: RecordedBandwidth | None = None
    overhead_bytes: int = Field(default=0, ge=-65535, le=65535)
    cell_bytes: int = Field(default=0, ge=0)
    cell_overhead_bytes: int = Field(default=0, ge=0)
    burst_bytes: int = Field(default=0, ge=0)
    airtime: Airtime | None = None
    delay_ns: int = Field(default=0, ge=0)
    jitter: Jitter | None = None
    slots: Slots | None = None
    loss: Probability = Field(default=0.0, ge=0.0, le=1.0)
    loss_correlation: Probability = 0.0
    loss_marks: bool = False
    gilbert_elliott: GilbertElliott | None = None
    markov: Markov | None = None
    recorded_loss: RecordedLoss | None = None
    bit_error: Probability = 0.0
    duplicate: Chance = Chance()
    corrupt: Chance = Chance()
    reorder: Reorder = Reorder()
    queue_limit_packets: int | None = Field(default=None, ge=1)
    queue_limit_bytes: int | None = Field(default=None, ge=1)
    queue: Queue = Queue(drop="tail")

    @property
    def is_limited(self) -> bool:
        """Whether packets may have to wait."""
        return (
            self.bandwidth_bps > 0
            or self.recorded_bandwidth is not None
            or self.airtime is not None
            or self.queue.rate_bps is not None
        )
