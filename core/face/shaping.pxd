# What Python says of a pipe that is to be shaped, read into a Shaper's settings and tables. Each mistake is a
# ValueError that names the setting; the topology's reader finds most of them before, with their place.
#
# An engine remembers which objects it has made its tables of, so that pipes that are told the same ones share
# a table (shared.pxd) and it is read once. Only objects that cannot change are remembered, and by their
# identity: a hash of their content would take about as long as reading them.

from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdint cimport UINT64_MAX, int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy, memset

from ..link.rate_trace cimport NANOBITS_IN_BYTE
from ..link.shared_tables cimport release_tables
from ..machine.shared cimport shared_hold, shared_new, shared_release
from ..state.shapers cimport (
    Choice, Distribution, Fates, LOSS_GILBERT_ELLIOTT, LOSS_MARKOV, LOSS_RANDOM, LOSS_TRACE, QUEUE_CODEL,
    QUEUE_DROPTAIL, QUEUE_DRR, QUEUE_EACH, QUEUE_FQ_CODEL, QUEUE_FQ_PIE, QUEUE_PIE, QUEUE_PRIORITY, QUEUE_QFQ,
    QUEUE_RED, QUEUE_ROUND_ROBIN, QUEUE_WFQ, RateTable, Shaper, Shared,
)

cdef enum:
    REMEMBERED_TABLES = 256        # as many as manystack.topology.link.distributions makes once


cdef inline dict discipline_numbers():
    return {
        "droptail": QUEUE_DROPTAIL, "red": QUEUE_RED, "codel": QUEUE_CODEL, "pie": QUEUE_PIE,
        "fq_codel": QUEUE_FQ_CODEL, "fq_pie": QUEUE_FQ_PIE, "round_robin": QUEUE_ROUND_ROBIN,
        "drr": QUEUE_DRR,
        "wfq": QUEUE_WFQ, "qfq": QUEUE_QFQ, "priority": QUEUE_PRIORITY, "each": QUEUE_EACH,
    }


cdef inline dict loss_models():
    return {
        "random": LOSS_RANDOM, "gilbert_elliott": LOSS_GILBERT_ELLIOTT, "markov": LOSS_MARKOV,
        "recorded": LOSS_TRACE
    }


cdef inline uint64_t probability_threshold(what, probability) except? 1:
    """A probability in 1/2^64; 1 is UINT64_MAX, which stands for always."""
    if not 0 <= probability <= 1:
        raise ValueError(f"{what} {probability}: allowed are 0 to 1")
    return <uint64_t>min(int(probability * 18446744073709551616.0), UINT64_MAX)


cdef inline object number(dict settings, key, default, least, most):
    value = settings.pop(key, default)
    if not least <= value <= most:
        raise ValueError(f"{key} {value}: allowed are {least} to {most}")
    return value


cdef inline object read_choice(Choice *choice, dict settings, key):
    choice.threshold = probability_threshold(key, settings.pop(key, 0.0))
    choice.repeat_threshold = probability_threshold(
        f"{key}_correlation", settings.pop(f"{key}_correlation", 0.0)
    )


cdef inline tuple table_key(kind, tuple parts):
    """What a table that is made of these objects is remembered by; None where they may change."""
    cdef list key = [kind]
    for part in parts:
        if type(part) is tuple or type(part) is bytes:
            key.append((type(part), id(part)))
        elif type(part) is int:
            key.append(part)
        else:
            return None
    return tuple(key)


cdef inline void *remembered_table(dict tables, tuple key) except? NULL:
    """The table that has been made of these objects, held by the caller; NULL: none has."""
    entry = tables.pop(key, None)
    if entry is None:
        return NULL
    tables[key] = entry  # the last to be forgotten
    return shared_hold(PyCapsule_GetPointer(entry[0], NULL))


cdef inline void forget_table(object capsule) noexcept:
    shared_release(PyCapsule_GetPointer(capsule, NULL))


cdef inline object remember_table(dict tables, tuple key, tuple parts, void *table):
    """Remember a filled table, and the objects, whose identity is good while they exist.

    Forget what no pipe holds any more.
    """
    if key is None:
        return
    for known, entry in list(tables.items()):
        if (<Shared *>PyCapsule_GetPointer(entry[0], NULL)).holders == 1:
            del tables[known]
    if len(tables) >= REMEMBERED_TABLES:
        del tables[next(iter(tables))]
    tables[key] = (PyCapsule_New(shared_hold(table), NULL, forget_table), parts)


cdef inline object read_distribution(Distribution **distribution, dict tables, dict settings, key):
    """(probabilities, values), both rising; one value alone is a constant."""
    cdef uint32_t count, i
    points = settings.pop(key, None)
    if points is None:
        return
    probabilities, values = points
    told = table_key("distribution", (probabilities, values))
    distribution[0] = <Distribution *>remembered_table(tables, told)
    if distribution[0] is not NULL:
        return
    if not 1 <= len(values) <= 1 << 20 or len(values) != len(probabilities):
        raise ValueError(f"{key}: write as many probabilities as values, at least one of each")
    if list(values) != sorted(values) or list(probabilities) != sorted(probabilities):
        raise ValueError(f"{key}: probabilities and values must rise")
    if probabilities[0] != 0 or (len(values) > 1 and probabilities[len(values) - 1] != 1):
        raise ValueError(f"{key}: the probabilities go from 0 to 1")
    if not -(10**15) <= values[0] <= values[len(values) - 1] <= 10**15:
        raise ValueError(f"{key}: values of -10^15 to 10^15 ns are allowed")
    count = len(values)
    distribution[0] = <Distribution *>shared_new(
        sizeof(Distribution) + count * (sizeof(uint64_t) + sizeof(int64_t))
    )
    distribution[0].count = count
    distribution[0].probabilities = <uint64_t *>(distribution[0] + 1)
    distribution[0].values = <int64_t *>(distribution[0].probabilities + count)
    for i in range(count):
        distribution[0].probabilities[i] = probability_threshold(key, probabilities[i])
        distribution[0].values[i] = values[i]
    remember_table(tables, told, (probabilities, values), distribution[0])


cdef inline object read_trace(Shaper *shaper, dict tables, dict settings, bandwidth_bps):
    """rates: (times, bit/s, period or 0); opportunities: (times, bytes of each, period)."""
    cdef RateTable *table
    cdef uint32_t count, i
    rates = settings.pop("rates", None)
    opportunities = settings.pop("opportunities", None)
    if rates is None and opportunities is None:
        return
    if bandwidth_bps or (rates is not None and opportunities is not None):
        raise ValueError("bandwidth, rates and opportunities are three ways to say one thing: choose one")
    if rates is not None:
        times, steps, period_ns = rates
    else:
        times, opportunity_bytes, period_ns = opportunities
        steps = [1]
    told = table_key(
        "opportunities" if rates is None else "rates", tuple(opportunities if rates is None else rates)
    )
    shaper.trace.table = <RateTable *>remembered_table(tables, told)
    if shaper.trace.table is not NULL:
        return
    if not 1 <= len(times) <= 1 << 24 or list(times) != sorted(times) or times[0] < 0 or max(times) > 10**15:
        raise ValueError("a recorded bandwidth has times from 0 to 10^15 ns that never fall")
    if rates is not None and (len(steps) != len(times) or times[0] != 0 or len(set(times)) != len(times)):
        raise ValueError("rates: write one for each time, the first time 0, no time twice")
    if min(steps) < 0 or not 1 <= max(steps) <= 10**12:
        raise ValueError("rates: allowed are 0 to 10^12 bit/s, and not all of them 0")
    if (
        not 0 <= period_ns <= 10**15
        or (period_ns and period_ns < times[len(times) - 1] + (rates is not None))
    ):
        raise ValueError("the period of a recorded bandwidth must cover all its times")
    if period_ns == 0 and (opportunities is not None or steps[len(steps) - 1] == 0):
        raise ValueError("opportunities, and rates that end with 0, must repeat: give a period")
    if rates is None:
        if not 1 <= opportunity_bytes <= 1 << 30:
            raise ValueError("opportunities: each delivers 1 to 2^30 bytes")
        lap_work = len(times) * opportunity_bytes * <uint64_t>NANOBITS_IN_BYTE
    else:
        lap_work = sum(
            [step * (end - time) for step, time, end in zip(steps, times, [*times[1:], period_ns])]
        )
    if period_ns and lap_work < period_ns:
        raise ValueError("a recorded bandwidth that repeats must be 1 bit/s in the mean, or more")
    count = len(times)
    table = shaper.trace.table = <RateTable *>shared_new(
        sizeof(RateTable) + count * (sizeof(int64_t) + (sizeof(uint64_t) if rates is not None else 0))
    )
    table.count = count
    table.period_ns = period_ns
    table.times_ns = <int64_t *>(table + 1)
    for i in range(count):
        table.times_ns[i] = times[i]
    if rates is None:
        table.opportunity_bytes = opportunity_bytes
    else:
        table.lap_work = min(lap_work, UINT64_MAX) if period_ns else 0
        table.rates_bps = <uint64_t *>(table.times_ns + count)
        for i in range(count):
            table.rates_bps[i] = steps[i]
    remember_table(tables, told, tuple(opportunities if rates is None else rates), table)


cdef inline object read_loss(Shaper *shaper, dict tables, dict settings, uint64_t threshold):
    model = settings.pop("loss_model", "random")
    if model not in loss_models():
        raise ValueError(f"loss_model {model!r}: allowed are {', '.join(loss_models())}")
    shaper.loss.model = loss_models()[model]
    shaper.loss.marks = bool(settings.pop("loss_marks", False))
    shaper.loss.choice.threshold = threshold
    shaper.loss.choice.repeat_threshold = probability_threshold(
        "loss_correlation", settings.pop("loss_correlation", 0.0)
    )
    chain = settings.pop("loss_chain", None)
    recorded = settings.pop("loss_fates", None)
    if (chain is not None) != (model == "gilbert_elliott" or model == "markov") or (
        (recorded is not None) != (model == "recorded")
    ):
        raise ValueError(
            "loss_chain goes with the models gilbert_elliott and markov, loss_fates with recorded"
        )
    if threshold and model != "random":
        raise ValueError(f"loss and the loss model {model} are two ways to say one thing: choose one")
    if chain is not None:
        if len(chain) != (4 if model == "gilbert_elliott" else 5):
            raise ValueError(
                "loss_chain: write p, r, 1-h, 1-k for gilbert_elliott, p13, p31, p32, p23, p14 for markov"
            )
        for i, probability in enumerate(chain):
            shaper.loss.thresholds[<uint32_t>i] = probability_threshold("loss_chain", probability)
        if model == "markov" and (
            chain[0] + chain[4] > 1.000000001 or chain[1] + chain[2] > 1.000000001
        ):
            raise ValueError("loss_chain: p13 + p14 and p31 + p32 are at most 1")
    if recorded is not None:
        read_fates(&shaper.loss.trace, tables, recorded)


cdef inline object read_fates(Fates **fates, dict tables, recorded):
    cdef const uint8_t[::1] view
    if not 1 <= len(recorded) <= 1 << 28:
        raise ValueError("loss_fates: write 1 to 2^28 of them")
    told = table_key("fates", (recorded,))
    fates[0] = <Fates *>remembered_table(tables, told)
    if fates[0] is not NULL:
        return
    view = recorded
    fates[0] = <Fates *>shared_new(sizeof(Fates) + len(recorded))
    fates[0].count = len(recorded)
    fates[0].fates = <uint8_t *>(fates[0] + 1)
    memcpy(fates[0].fates, &view[0], fates[0].count)
    remember_table(tables, told, (recorded,), fates[0])


cdef inline object read_queue(Shaper *shaper, dict settings):
    cdef uint32_t i
    cdef bint pie
    discipline = settings.pop("discipline", "droptail")
    if discipline not in discipline_numbers():
        raise ValueError(f"discipline {discipline!r}: allowed are {', '.join(discipline_numbers())}")
    shaper.queue.discipline = discipline_numbers()[discipline]
    shaper.queue.ecn = bool(settings.pop("ecn", False))
    shaper.queue.gentle = bool(settings.pop("gentle", False))
    shaper.queue.drops_head = bool(settings.pop("drops_head", False))
    pie = discipline == "pie" or discipline == "fq_pie"
    shaper.queue.flows = number(settings, "flows", 1024 if discipline.startswith("fq_") else 1, 1, 65536)
    shaper.queue.quantum_bytes = number(settings, "quantum_bytes", 1514, 1, 1 << 30)
    shaper.queue.target_ns = number(settings, "target_ns", 15000000 if pie else 5000000, 1, 10**12)
    shaper.queue.interval_ns = number(settings, "interval_ns", 15000000 if pie else 100000000, 1, 10**12)
    shaper.queue.burst_ns = number(settings, "burst_ns", 150000000, 0, 10**12)
    shaper.queue.alpha_microhertz = number(settings, "alpha_microhertz", 125000, 0, 7000000)
    shaper.queue.beta_microhertz = number(settings, "beta_microhertz", 1250000, 0, 7000000)
    shaper.queue.caps = bool(settings.pop("caps", True))
    shaper.queue.derandomizes = bool(settings.pop("derandomizes", True))
    shaper.queue.turns_off = bool(settings.pop("turns_off", False))
    shaper.queue.least_bytes = number(settings, "least_bytes", 0, 0, (1 << 31) - 1)
    shaper.queue.most_bytes = number(settings, "most_bytes", 0, 0, (1 << 31) - 1)
    if discipline == "red" and shaper.queue.least_bytes >= shaper.queue.most_bytes:
        raise ValueError("red: least_bytes must be below most_bytes")
    shaper.queue.probability = probability_threshold("probability", settings.pop("probability", 0.1))
    shaper.queue.average_shift = number(settings, "average_shift", 9, 0, 31)
    shaper.queue.rate_bps = number(settings, "rate_bps", 0, 0, 10**12)
    if discipline == "each" and shaper.queue.rate_bps == 0:
        raise ValueError("each: rate_bps, the bandwidth of each flow, is missing: 1 to 10^12")
    weights = settings.pop("weights", [1] * 8)
    if len(weights) != 8 or min(weights) < 1 or max(weights) > 1000:
        raise ValueError("weights: write eight, each 1 to 1000, one for each IP precedence")
    for i in range(8):
        shaper.queue.weights[i] = weights[i]
    source, destination, source4, destination4, source_port, destination_port, protocol = settings.pop(
        "mask", (b"\xff" * 16, b"\xff" * 16, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFF, 0xFFFF, 0xFF)
    )
    for i in range(16):
        shaper.queue.mask.source[i] = source[i]
        shaper.queue.mask.destination[i] = destination[i]
    shaper.queue.mask.source4 = source4
    shaper.queue.mask.destination4 = destination4
    shaper.queue.mask.source_port = source_port
    shaper.queue.mask.destination_port = destination_port
    shaper.queue.mask.protocol = protocol


cdef inline object read_shaping(Shaper *shaper, dict tables, shaping, uint64_t loss_threshold, bandwidth_bps):
    """Fill a shaper's settings.

    The caller holds its tables (see shared.pxd); after a ValueError there are none.
    """
    cdef dict settings = dict(shaping)
    memset(shaper, 0, sizeof(Shaper))
    try:
        read_queue(shaper, settings)
        shaper.cell_bytes = number(settings, "cell_bytes", 0, 0, 65535)
        shaper.cell_overhead_bytes = number(settings, "cell_overhead_bytes", 0, 0, 255)
        shaper.burst_bytes = number(settings, "burst_bytes", 0, 0, 1 << 30)
        if shaper.burst_bytes and not bandwidth_bps:
            raise ValueError("burst_bytes is what a bandwidth has saved up: give one")
        read_trace(shaper, tables, settings, bandwidth_bps)
        read_distribution(&shaper.airtime.distribution, tables, settings, "airtime")
        shaper.airtime.loss_threshold = probability_threshold(
            "airtime_loss_above", settings.pop("airtime_loss_above", 1.0)
        )
        if shaper.airtime.distribution is not NULL and shaper.airtime.distribution.values[0] < 0:
            raise ValueError(
                "airtime: no packet takes less than its transmission: the values are at least 0 ns"
            )
        if shaper.airtime.distribution is not NULL and shaper.burst_bytes:
            raise ValueError("airtime and burst_bytes do not go together: an occupied link saves nothing up")
        read_loss(shaper, tables, settings, loss_threshold)
        bit_error = settings.pop("bit_error", 0.0)
        if bit_error:
            shaper.bit_errors.survival = UINT64_MAX - probability_threshold("bit_error", bit_error)
            if shaper.bit_errors.survival == 0:
                shaper.bit_errors.survival = 1
        read_choice(&shaper.duplicate, settings, "duplicate")
        read_choice(&shaper.corrupt, settings, "corrupt")
        read_choice(&shaper.reorder, settings, "reorder")
        shaper.reorder_gap = number(settings, "reorder_gap", 0, 0, 1 << 30)
        read_distribution(&shaper.jitter.distribution, tables, settings, "jitter")
        shaper.jitter.choice.repeat_threshold = probability_threshold(
            "jitter_correlation", settings.pop("jitter_correlation", 0.0)
        )
        shaper.jitter.overtakes = bool(settings.pop("jitter_overtakes", False))
        read_distribution(&shaper.slots.distribution, tables, settings, "slots")
        shaper.slots.limit_packets = number(settings, "slots_packets", 0, 0, 1 << 30)
        shaper.slots.limit_bytes = number(settings, "slots_bytes", 0, 0, 1 << 40)
        if settings:
            raise ValueError(f"shaping knows no {', '.join(sorted(settings))}")
    except BaseException:
        release_tables(shaper)
        raise
