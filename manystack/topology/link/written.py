"""What a document may say of a link, key by key.

How keys go together, and what is not given, is the matter of `merging`: here only what is named counts
(`model_fields_set`). What has a main key may be written as its value alone: `jitter: 2ms` is `{spread: 2ms}`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from manystack.topology.document.part import Part
from manystack.topology.link.disciplines import ALL_BITS
from manystack.topology.link.kinds import (
    AirtimeCdf,
    Bandwidth,
    BitError,
    Bytes,
    Cdf,
    Cell,
    CellOverhead,
    Count,
    Delay,
    Discipline,
    File,
    FlowRate,
    Flows,
    Frequency,
    Ip4Bits,
    Ip6Bits,
    Limit,
    Overhead,
    Packets,
    PortBits,
    ProtoBits,
    Quantum,
    Ratio,
    Shape,
    Spread,
    Wait,
    Weights,
)

ATM: Final = "atm"
ATM_CELLS: Final = {"cell": "48B", "cell_overhead": "5B"}


class WrittenPart(Part):
    """A mapping of a link's document in plain values. What is not named has a default that says nothing."""

    parts: ClassVar[dict[str, type["WrittenPart"]]] = {}
    """Which of its keys are mappings themselves."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return a part that names exactly these fields, whose values are right."""
        fields = {name: values.get(name, field.default) for name, field in cls.model_fields.items()}
        return cls.model_construct(set(values), **fields)

    def named(self) -> dict[str, Any]:
        """Return the fields that are named, with their values."""
        given = self.model_fields_set
        return {name: getattr(self, name) for name in type(self).model_fields if name in given}


class MainPart(WrittenPart):
    """A mapping that may be written as the value of its main key alone."""

    main: ClassVar[str]
    _is_alone: bool = PrivateAttr(default=False)

    @classmethod
    def read(cls, value: object) -> object:
        """Return a mapping as it is, to be read, and the part that any other value stands for."""
        if isinstance(value, dict):
            return value
        kind = cls.model_fields[cls.main].metadata
        parse: Any = next(step.func for step in kind if isinstance(step, BeforeValidator))
        return cls.alone(parse(value))

    @classmethod
    def alone(cls, value: object) -> Self:
        """Return the part that is its main value alone."""
        part = cls.of({cls.main: value})
        part._is_alone = True
        return part

    @classmethod
    def main_key(cls) -> str:
        """Return what a document calls its main field."""
        return cls.model_fields[cls.main].alias or cls.main

    @property
    def is_alone(self) -> bool:
        """Whether it was written as its main value alone."""
        return self._is_alone

    @property
    def is_nothing(self) -> bool:
        """Whether it was written as a main value of nothing, such as 0ms, which switches the whole off."""
        value = getattr(self, self.main)
        return self._is_alone and (value.is_nothing if isinstance(value, MainPart) else not value)

    @model_serializer(mode="wrap")
    def _text(self, write: SerializerFunctionWrapHandler) -> Any:
        document = write(self)
        value = next(iter(document.values()), None)
        is_alone = len(document) == 1 and self.main in self.model_fields_set and not isinstance(value, dict)
        return value if is_alone else document


class WrittenBandwidth(MainPart):
    """A rate, or a trace of rates."""

    main = "rate"
    rate: Bandwidth = 0
    trace: File = ""
    format: Literal["csv", "mahimahi"] = "csv"
    repeat: bool = False


class WrittenJitter(MainPart):
    """What varies the delay."""

    main = "spread"
    spread: Spread = 0
    distribution: Shape = "uniform"
    table: File = ""
    cdf: Cdf = ()
    correlation: Ratio = 0.0
    reorder: bool = False


class WrittenAirtime(MainPart):
    """What packets occupy the link beside their transmission."""

    main = "cdf"
    cdf: AirtimeCdf = ()
    loss_above: Ratio = 1.0


class WrittenInterval(MainPart):
    """The distance of two slots: fixed, between two bounds, or by a distribution."""

    main = "from_"
    from_: Delay = Field(default=0, alias="from")
    to: Delay = 0
    mean: Delay = 0
    spread: Spread = 0
    distribution: Shape = "uniform"
    table: File = ""
    cdf: Cdf = ()


class WrittenSlots(MainPart):
    """When a line that serves in bursts opens, and for how much."""

    main = "interval"
    parts: ClassVar[dict[str, type[WrittenPart]]] = {"interval": WrittenInterval}
    interval: Annotated[WrittenInterval, BeforeValidator(WrittenInterval.read)] = WrittenInterval()
    packets: Count = 0
    bytes: Bytes = 0


class WrittenGilbertElliott(WrittenPart):
    """Two states."""

    p: Ratio = 0.0
    r: Ratio = 0.0
    bad: Ratio = 1.0
    good: Ratio = 0.0


class WrittenMarkov(WrittenPart):
    """Four states."""

    p13: Ratio = 0.0
    p31: Ratio = 0.0
    p32: Ratio = 0.0
    p23: Ratio = 1.0
    p14: Ratio = 0.0


class WrittenLoss(MainPart):
    """What the wire loses: a rate, or one of the models."""

    main = "rate"
    parts: ClassVar[dict[str, type[WrittenPart]]] = {
        "gilbert_elliott": WrittenGilbertElliott,
        "markov": WrittenMarkov,
    }
    rate: Ratio = 0.0
    correlation: Ratio = 0.0
    gilbert_elliott: WrittenGilbertElliott = WrittenGilbertElliott()
    markov: WrittenMarkov = WrittenMarkov()
    trace: File = ""
    ecn: bool = False


class WrittenChance(MainPart):
    """Something that happens to a share of the packets."""

    main = "rate"
    rate: Ratio = 0.0
    correlation: Ratio = 0.0


class WrittenReorder(WrittenChance):
    """The share of packets that overtake."""

    gap: Annotated[int, Field(ge=1, le=2**30)] = 1


class WrittenMask(WrittenPart):
    """Which bits of a five-tuple tell flows apart; those not named do not."""

    src_ip: Ip4Bits = 0
    dst_ip: Ip4Bits = 0
    src_ip6: Ip6Bits = 0
    dst_ip6: Ip6Bits = 0
    src_port: PortBits = 0
    dst_port: PortBits = 0
    proto: ProtoBits = 0

    @model_serializer(mode="wrap")
    def _text(self, write: SerializerFunctionWrapHandler) -> Any:
        return "all" if self.named() == dict(ALL_BITS) else write(self)


def _mask(value: object) -> object:
    return WrittenMask.of(dict(ALL_BITS)) if value == "all" else value


class WrittenQueue(MainPart):
    """A queue's limit, its discipline, and the settings of all disciplines."""

    main = "limit"
    parts: ClassVar[dict[str, type[WrittenPart]]] = {"mask": WrittenMask}
    limit: Limit = (None, None)
    discipline: Discipline = "droptail"
    drop: Literal["tail", "head"] = "tail"
    ecn: bool = False
    target: Wait = 1
    interval: Wait = 1
    burst: Spread = 0
    min: Bytes = 0
    max: Bytes = 0
    probability: Ratio = 0.0
    mark_below: Ratio = 0.0
    alpha: Frequency = 0
    beta: Frequency = 0
    capdrop: bool = True
    derandomize: bool = True
    onoff: bool = False
    gentle: bool = False
    averaging: Packets = 1
    quantum: Quantum = 1
    rate: FlowRate = 1
    flows: Flows = 1
    weights: Weights = ()
    mask: Annotated[WrittenMask, BeforeValidator(_mask)] = WrittenMask()


class WrittenPipe(WrittenPart):
    """One direction of a link."""

    parts: ClassVar[dict[str, type[WrittenPart]]] = {
        "bandwidth": WrittenBandwidth,
        "airtime": WrittenAirtime,
        "jitter": WrittenJitter,
        "slots": WrittenSlots,
        "loss": WrittenLoss,
        "duplicate": WrittenChance,
        "corrupt": WrittenChance,
        "reorder": WrittenReorder,
        "queue": WrittenQueue,
    }
    bandwidth: Annotated[WrittenBandwidth, BeforeValidator(WrittenBandwidth.read)] = WrittenBandwidth()
    overhead: Overhead = 0
    cell: Cell = 0
    cell_overhead: CellOverhead = 0
    burst: Bytes = 0
    airtime: Annotated[WrittenAirtime, BeforeValidator(WrittenAirtime.read)] = WrittenAirtime()
    delay: Delay = 0
    jitter: Annotated[WrittenJitter, BeforeValidator(WrittenJitter.read)] = WrittenJitter()
    slots: Annotated[WrittenSlots, BeforeValidator(WrittenSlots.read)] = WrittenSlots()
    loss: Annotated[WrittenLoss, BeforeValidator(WrittenLoss.read)] = WrittenLoss()
    ber: BitError = 0.0
    duplicate: Annotated[WrittenChance, BeforeValidator(WrittenChance.read)] = WrittenChance()
    corrupt: Annotated[WrittenChance, BeforeValidator(WrittenChance.read)] = WrittenChance()
    reorder: Annotated[WrittenReorder, BeforeValidator(WrittenReorder.read)] = WrittenReorder()
    queue: Annotated[WrittenQueue, BeforeValidator(WrittenQueue.read)] = WrittenQueue()

    @model_validator(mode="before")
    @classmethod
    def _cells_of_atm(cls, written: Any) -> Any:
        if isinstance(written, dict) and written.get("cell") == ATM:
            return {**ATM_CELLS, **written, "cell": ATM_CELLS["cell"]}
        return written


class WrittenDirections(WrittenPipe):
    """What a link does: what stands here holds for both directions, unless a direction says otherwise."""

    parts: ClassVar[dict[str, type[WrittenPart]]] = {
        **WrittenPipe.parts,
        "forward": WrittenPipe,
        "reverse": WrittenPipe,
    }
    forward: WrittenPipe = WrittenPipe()
    reverse: WrittenPipe = WrittenPipe()


class WrittenLink(WrittenDirections):
    """A link."""

    ends: list[str] = Field(min_length=2, max_length=2, description="write ends: [a.eth0, b.eth0]")
