"""What a pipe does, told to the engine: what a plain one has, and `Shaping` for all beyond that."""

from typing import TYPE_CHECKING, Any

from manystack.topology import PipeParameters
from manystack.topology.link.distributions import distances, times
from manystack.topology.link.values import Mask, Queue

if TYPE_CHECKING:
    from manystack.core._switch import Shaping

OPPORTUNITY_BYTES = 1500
"""What a line of a mahimahi trace lets through."""
PLAIN_QUEUE = PipeParameters().queue
# A discipline has at most one of two that are one to the engine.
_QUEUE_SETTINGS = {
    "ecn": "ecn",
    "target_ns": "target_ns",
    "interval_ns": "interval_ns",
    "burst_ns": "burst_ns",
    "min_bytes": "least_bytes",
    "max_bytes": "most_bytes",
    "probability": "probability",
    "mark_below": "probability",
    "alpha_microhertz": "alpha_microhertz",
    "beta_microhertz": "beta_microhertz",
    "capdrop": "caps",
    "derandomize": "derandomizes",
    "onoff": "turns_off",
    "gentle": "gentle",
    "quantum_bytes": "quantum_bytes",
    "rate_bps": "rate_bps",
    "flows": "flows",
    "weights": "weights",
}


def pipe_settings(parameters: PipeParameters) -> dict[str, Any]:
    """Return what Switch.set_pipe() is to be given, which raises ValueError for what it does not take."""
    return {**plain_settings(parameters), "shaping": shaping_of(parameters)}


def plain_settings(parameters: PipeParameters) -> dict[str, Any]:
    """Return what a plain pipe has, by the names of Switch.set_pipe()."""
    return {
        "bandwidth_bps": parameters.bandwidth_bps,
        "overhead_bytes": parameters.overhead_bytes,
        "delay_ns": parameters.delay_ns,
        "loss": parameters.loss,
        "queue_limit_packets": parameters.queue_limit_packets,
        "queue_limit_bytes": parameters.queue_limit_bytes,
    }


def shaping_of(parameters: PipeParameters) -> "Shaping | None":
    """Return what a pipe does beyond a plain one; None where it is plain, which is faster."""
    given: dict[str, Any] = {
        "cell_bytes": parameters.cell_bytes,
        "cell_overhead_bytes": parameters.cell_overhead_bytes,
        "burst_bytes": parameters.burst_bytes,
        "loss_correlation": parameters.loss_correlation,
        "loss_marks": parameters.loss_marks,
        "bit_error": parameters.bit_error,
        "duplicate": parameters.duplicate.rate,
        "duplicate_correlation": parameters.duplicate.correlation,
        "corrupt": parameters.corrupt.rate,
        "corrupt_correlation": parameters.corrupt.correlation,
        "reorder": parameters.reorder.rate,
        "reorder_correlation": parameters.reorder.correlation,
        "reorder_gap": parameters.reorder.gap if parameters.reorder.rate else 0,
        **_bandwidth(parameters),
        **_loss_model(parameters),
        **_delays(parameters),
    }
    shaping: Any = {key: value for key, value in given.items() if value}
    shaping |= _airtime(parameters) | _queue(parameters.queue)
    return shaping or None


def _bandwidth(parameters: PipeParameters) -> dict[str, Any]:
    recorded = parameters.recorded_bandwidth
    if recorded is None:
        return {}
    if recorded.format == "mahimahi":
        return {"opportunities": (recorded.times_ns, OPPORTUNITY_BYTES, recorded.period_ns)}
    return {"rates": (recorded.times_ns, recorded.rates_bps, recorded.period_ns)}


def _airtime(parameters: PipeParameters) -> dict[str, Any]:
    airtime = parameters.airtime
    if airtime is None:
        return {}
    return {"airtime": times(airtime.variation), "airtime_loss_above": airtime.loss_above}


def _loss_model(parameters: PipeParameters) -> dict[str, Any]:
    if parameters.gilbert_elliott is not None:
        chain = parameters.gilbert_elliott
        return {
            "loss_model": "gilbert_elliott",
            "loss_chain": (chain.p, chain.r, chain.bad, chain.good),
        }
    if parameters.markov is not None:
        states = parameters.markov
        return {
            "loss_model": "markov",
            "loss_chain": (states.p13, states.p31, states.p32, states.p23, states.p14),
        }
    if parameters.recorded_loss is not None:
        return {"loss_model": "recorded", "loss_fates": parameters.recorded_loss.fates}
    return {}


def _delays(parameters: PipeParameters) -> dict[str, Any]:
    jitter, slots = parameters.jitter, parameters.slots
    delays: dict[str, Any] = {}
    if jitter is not None:
        delays |= {
            "jitter": times(jitter.variation),
            "jitter_correlation": jitter.correlation,
            "jitter_overtakes": jitter.reorders,
        }
    if slots is not None:
        delays |= {"slots": distances(slots), "slots_packets": slots.packets, "slots_bytes": slots.bytes}
    return delays


def _queue(queue: Queue) -> dict[str, Any]:
    if queue == PLAIN_QUEUE:
        return {}
    settings: dict[str, Any] = {"discipline": queue.discipline, "drops_head": queue.drop == "head"}
    for field, name in _QUEUE_SETTINGS.items():
        value = getattr(queue, field)
        if value is not None:
            settings[name] = value
    if queue.averaging_packets is not None:
        settings["average_shift"] = queue.averaging_packets.bit_length() - 1
    if queue.mask is not None:
        settings["mask"] = _mask(queue.mask)
    return settings


def _mask(mask: Mask) -> tuple[bytes, bytes, int, int, int, int, int]:
    return (
        mask.src_ip6.to_bytes(16, "big"),
        mask.dst_ip6.to_bytes(16, "big"),
        mask.src_ip,
        mask.dst_ip,
        mask.src_port,
        mask.dst_port,
        mask.proto,
    )
