"""Files that links name: what is read from them, and each mistake with its line."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from manystack.topology import PipeParameters, Topology, TopologyError, changed_parameters
from manystack.topology.link.traces import Files
from manystack.topology.link.values import Jitter, RecordedBandwidth, Slots, Variation

MS = 10**6
S = 10**9
NODES: dict[str, Any] = {
    name: {"kind": "host", "interfaces": {"eth0": {"addresses": [f"10.0.0.{number}/24"]}}}
    for number, name in enumerate(("a", "b"), 1)
}


def topology(folder: Path, link: dict[str, Any]) -> Topology:
    document = {"manystack": 1, "nodes": NODES, "links": [{"ends": ["a.eth0", "b.eth0"]} | link]}
    return Topology.parse(document, folder)


def mistake(folder: Path, link: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(TopologyError) as caught:
        topology(folder, link)
    (error,) = caught.value.errors
    return error.place, error.message.replace(f"{folder}/", "")


def file(folder: Path, text: str, name: str = "file") -> str:
    (folder / name).write_text(text)
    return name


@pytest.mark.parametrize("text", ["0s,10Mbit/s\n2s,0bit/s\n2.5s,1Mbit/s\n", "time,rate\n0, 10e0\n"])
def test_what_is_no_number_is_no_rate(tmp_path: Path, text: str) -> None:
    if "10e0" in text:
        assert "line 2" in mistake(tmp_path, {"bandwidth": {"trace": file(tmp_path, text)}})[1]
        return
    recorded = topology(tmp_path, {"bandwidth": {"trace": file(tmp_path, text)}}).links[0].forward
    assert recorded.recorded_bandwidth == RecordedBandwidth(
        file=str(tmp_path / "file"),
        format="csv",
        times_ns=(0, 2 * S, 2 * S + S // 2),
        rates_bps=(10**7, 0, 10**6),
    )
    assert recorded.queue_limit_packets == 1000


def test_a_csv_in_seconds_and_bits(tmp_path: Path) -> None:
    text = "# from a drive\nTime (s),Rate\n0,10000000\n\n1.5,0\n"
    link = {"bandwidth": {"trace": file(tmp_path, text), "repeat": True}}
    recorded = topology(tmp_path, link).links[0].forward.recorded_bandwidth
    assert recorded is not None
    assert (recorded.times_ns, recorded.rates_bps) == ((0, 3 * S // 2), (10**7, 0))
    assert recorded.period_ns == 3 * S


def test_a_mahimahi_trace(tmp_path: Path) -> None:
    link = {"bandwidth": {"trace": file(tmp_path, "0\n3\n3\n10\n")}}
    recorded = topology(tmp_path, link).links[0].forward.recorded_bandwidth
    assert recorded == RecordedBandwidth(
        file=str(tmp_path / "file"),
        format="mahimahi",
        times_ns=(0, 3 * MS, 3 * MS, 10 * MS),
        period_ns=10 * MS,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "file says nothing"),
        ("# only this\n", "file says nothing"),
        ("0\n5\n3\n", "file, line 3: 3 ms is before the line above it"),
        ("0\n5\nfive\n", "file, line 3: 'five' is no whole number of ms"),
        ("0\n0\n", "file, line 2: the last time is the trace's length"),
        ("0,1Mbit/s\n1s\n", "file, line 2: '1s' is not TIME,RATE"),
        ("0,1Mbit/s\n1s,2Mbit/s,5\n", "file, line 2: '1s,2Mbit/s,5' is not TIME,RATE"),
        ("0,1Mbit/s\n1s,2Mb\n", "file, line 2: 2Mb has an unknown unit: write 2Mbit/s"),
        ("1s,1Mbit/s\n", "file, line 1: the first time is 1s: it must be 0s"),
        ("0,1Mbit/s\n1s,2Mbit/s\n1s,3Mbit/s\n", "file, line 3: the time 1s is not after"),
        ("0,1Mbit/s\n1s,0\n", "file, line 2: after a last rate of 0 nothing is ever sent"),
        ("0,0\n1s,0\n", "not every rate may be 0"),
        ("time,rate\n", "says nothing below its heading"),
        ("0,unlimited\n", "file, line 1: a recorded rate cannot be unlimited"),
        ("0,1Mbit/s\n1000h,2Mbit/s\n", "file, line 2: 1000h is too late: at most 1000000s"),
    ],
)
def test_mistakes_in_a_bandwidth(tmp_path: Path, text: str, said: str) -> None:
    place, message = mistake(tmp_path, {"reverse": {"bandwidth": {"trace": file(tmp_path, text)}}})
    assert place == "links[0].reverse.bandwidth.trace"
    assert said in message


def test_a_bandwidth_whose_format_was_said(tmp_path: Path) -> None:
    trace = file(tmp_path, "0\n3\n10\n")
    assert "line 1: '0' is not TIME,RATE" in mistake(
        tmp_path, {"bandwidth": {"trace": trace, "format": "csv"}}
    )[1]  # fmt: skip
    assert "always repeats" in mistake(tmp_path, {"bandwidth": {"trace": trace, "repeat": False}})[1]
    trace = file(tmp_path, "0,1Mbit/s\n")
    assert "one rate alone cannot repeat" in mistake(
        tmp_path, {"bandwidth": {"trace": trace, "repeat": True}}
    )[1]  # fmt: skip


def test_what_is_no_file_of_text(tmp_path: Path) -> None:
    assert "/dev/zero is no file" in mistake(tmp_path, {"loss": {"trace": "/dev/zero"}})[1]
    os.mkfifo(tmp_path / "fifo")
    assert "fifo is no file" in mistake(tmp_path, {"loss": {"trace": "fifo"}})[1]
    assert "Is a directory" in mistake(tmp_path, {"loss": {"trace": "."}})[1]
    (tmp_path / "file").write_bytes(b"0\n\xff\n")
    assert mistake(tmp_path, {"loss": {"trace": "file"}})[1] == "file, line 2: is not text"
    with (tmp_path / "file").open("wb") as large:
        large.truncate(65 << 20)
    assert mistake(tmp_path, {"loss": {"trace": "file"}})[1] == "file is too large: at most 64 MiB"


def test_files_from_windows(tmp_path: Path) -> None:
    """A byte order mark in front, and lines that end with two characters."""
    links = [
        {"bandwidth": {"trace": file(tmp_path, "time,rate\n0s,1Mbit/s\n", "rates")}},
        {"bandwidth": {"trace": file(tmp_path, "1\n2\n", "trace")}},
        {"loss": {"trace": file(tmp_path, "01\n0\n", "fates")}},
        {"jitter": {"spread": "1ms", "table": file(tmp_path, "-1 1\n2\n", "table")}},
        {"jitter": {"cdf": file(tmp_path, "0,1ms\n1,2ms\n", "cdf")}},
    ]
    before = [topology(tmp_path, link).links[0].forward for link in links]
    for name in ("rates", "trace", "fates", "table", "cdf"):
        path = tmp_path / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert [topology(tmp_path, link).links[0].forward for link in links] == before


def test_a_recorded_loss(tmp_path: Path) -> None:
    link = {"loss": {"trace": file(tmp_path, "# fates\n0010\n1\n"), "ecn": True}}
    parameters = topology(tmp_path, link).links[0].forward
    assert parameters.loss_marks
    assert parameters.recorded_loss is not None
    assert parameters.recorded_loss.fates == bytes([0, 0, 1, 0, 1])
    assert "file, line 2: '2' is no fate" in mistake(
        tmp_path, {"loss": {"trace": file(tmp_path, "01\n02\n")}}
    )[1]  # fmt: skip


def test_a_table(tmp_path: Path) -> None:
    table = file(tmp_path, "# a table\n -8192 0 0\n 8192 # the last\n")
    variation = Variation(
        distribution="table", spread_ns=2 * MS, file=str(tmp_path / "file"), table=(-8192, 0, 0, 8192)
    )
    link = {"jitter": {"spread": "2ms", "table": table, "correlation": "25%"}}
    parameters = topology(tmp_path, link).links[0].forward
    assert parameters.jitter == Jitter(variation=variation, correlation=0.25)
    link = {"slots": {"interval": {"mean": "10ms", "spread": "2ms", "table": table}}}
    parameters = topology(tmp_path, link).links[0].forward
    assert parameters.slots == Slots(from_ns=10 * MS, to_ns=10 * MS, variation=variation)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2\n3 x\n", "file, line 2: 'x' is no value of a table"),
        ("32768 1\n", "file, line 1: '32768' is no value of a table"),
        ("1\n", "a table has at least 2 values"),
        ("1 " * 16385, "file, line 1: a table has at most 16384 values"),
    ],
)
def test_mistakes_in_a_table(tmp_path: Path, text: str, said: str) -> None:
    link = {"jitter": {"spread": "2ms", "table": file(tmp_path, text)}}
    place, message = mistake(tmp_path, link)
    assert place == "links[0].jitter.table"
    assert said in message


@pytest.mark.parametrize(
    "text",
    [
        "0,200ms\n0.5,200ms\n50%,0.3s\n1,400ms\n",
        "name a_line\nsamples 100\nprob delay\n0 200 # at least\n0.5 200\n0.5 300\n1 400\n",
        "delay prob\n200 0\n200 0.5\n300 0.5\n400 1\n",
    ],
)
def test_a_cdf(tmp_path: Path, text: str) -> None:
    parameters = topology(tmp_path, {"jitter": {"cdf": file(tmp_path, text)}}).links[0].forward
    points = ((0.0, 200 * MS), (0.5, 200 * MS), (0.5, 300 * MS), (1.0, 400 * MS))
    variation = Variation(distribution="cdf", file=str(tmp_path / "file"), points=points)
    assert parameters.jitter == Jitter(variation=variation)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0,1ms\n0.5,2ms\n0.4,3ms\n1,4ms\n", "file, line 3: a CDF rises: the probability 0.4 is less"),
        ("0,2ms\n1,1ms\n", "file, line 2: a CDF rises: the delay 1000000ns is less"),
        ("0,2ms\n0.9,3ms\n", "file, line 2: a CDF ends with the probability 1, not 0.9"),
        ("0,2\n1,3\n", "file, line 1: 2 has no unit: write 2ms"),
        ("0,2ms\n1\n", "file, line 2: '1' is not PROBABILITY,DELAY"),
        ("0,2ms\n1,1000h\n", "file, line 2: 1000h is too long"),
        (
            "loss-level 0.5\nprob delay\n0 1\n1 2\n",
            "take loss-level out, and write it as the link's airtime.loss_above",
        ),
        ("# \n0.1,2ms\n1,3ms\n", "file, line 2: a CDF begins with the probability 0, not 0.1"),
        ("prob delay\n", "file: there are no points"),
    ],
)
def test_mistakes_in_a_cdf(tmp_path: Path, text: str, said: str) -> None:
    place, message = mistake(tmp_path, {"jitter": {"cdf": file(tmp_path, text)}})
    assert place == "links[0].jitter.cdf"
    assert said in message


def test_a_file_is_read_once(tmp_path: Path) -> None:
    files = Files(tmp_path)
    trace, lost = file(tmp_path, "0\n5\n"), "lost"
    (tmp_path / lost).write_text("01")
    first = files.bandwidth(trace, None, None), files.loss(lost)
    (tmp_path / trace).unlink()
    (tmp_path / lost).unlink()
    assert files.bandwidth(trace, None, None) is first[0]
    assert files.loss(lost) is first[1]


def changed_pipe(base: PipeParameters, change: dict[str, Any]) -> PipeParameters:
    """What a change of both directions makes of one of them."""
    return changed_parameters((base, base), change)[0]


def test_a_change_of_something_else_does_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = {
        "rates": "0,1Mbit/s\n",
        "fates": "01",
        "table": "-1 1",
        "cdf": "0,1ms\n1,2ms\n",
        "busy": "0,1ms\n1,2ms\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    before = changed_pipe(
        PipeParameters(),
        {
            "bandwidth": {"trace": "rates"},
            "loss": {"trace": "fates"},
            "jitter": {"spread": "1ms", "table": "table"},
            "slots": {"interval": {"cdf": "cdf"}},
            "airtime": {"cdf": "busy"},
        },
    )
    for name in texts:
        (tmp_path / name).unlink()
    after = changed_pipe(before, {"delay": "5ms"})
    assert after == before.model_copy(update={"delay_ns": 5 * MS})
    changed_pipe(before, {"loss": {"ecn": True}, "slots": {"packets": 5}, "airtime": {"loss_above": 0.9}})
    for change in ({"loss": {"trace": "fates"}}, {"jitter": {"table": "table"}}):
        with pytest.raises(TopologyError, match="No such file"):
            changed_pipe(before, change)


def test_files_are_looked_for_beside_the_topology(tmp_path: Path) -> None:
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "file").write_text("0\n5\n")
    path = tmp_path / "net.json"
    document = topology(tmp_path, {"bandwidth": {"trace": "traces/file"}}).dump(folder=tmp_path)
    assert document["links"][0]["bandwidth"] == {"trace": "traces/file"}
    path.write_text(json.dumps(document))
    loaded = Topology.load(path)
    assert loaded.links[0].forward.recorded_bandwidth is not None
    whole = loaded.dump(folder=tmp_path / "traces" / "elsewhere")
    assert whole["links"][0]["bandwidth"]["trace"] == str(tmp_path / "traces" / "file")
