from __future__ import annotations

import pytest
from edgeiqa.profiles.amounts import Amount, AmountKind, format_amount, parse_amount
from edgeiqa.runtime.errors import UsageError
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("50G", "count", 50_000_000_000),
        ("5M", "count", 5_000_000),
        ("12", "count", 12),
        ("50 GMACs", "macs", 50_000_000_000),
        ("50GMACs", "macs", 50_000_000_000),
        ("50 G MACs", "macs", 50_000_000_000),
        ("50gmac", "macs", 50_000_000_000),
        ("1.26 TMACs", "macs", 1_260_000_000_000),
        ("46.9GMACs", "macs", 46_900_000_000),
        ("5e10 MACs", "macs", 50_000_000_000),
        ("5.4M parameters", "parameters", 5_400_000),
        ("3.2182 Mparams", "parameters", 3_218_200),
        ("4MB", "bytes", 4_000_000),
        ("4mb", "bytes", 4_000_000),
        ("4 MiB", "bytes", 4_194_304),
        (".5 GiB", "bytes", 536_870_912),
        ("800 kB", "bytes", 800_000),
        ("800 KB", "bytes", 800_000),
        ("16777216 bytes", "bytes", 16_777_216),
        ("30ms", "milliseconds", 30.0),
        ("  30 ms ", "milliseconds", 30.0),
        ("1.5s", "milliseconds", 1500.0),
        ("250us", "milliseconds", 0.25),
        ("250 µs", "milliseconds", 0.25),
        ("2 min", "milliseconds", 120_000.0),
        ("500 MiB RAM", "memory", 524_288_000),
        ("1.5GB memory", "memory", 1_500_000_000),
        ("30mJ", "millijoules", 30.0),
        ("2 J", "millijoules", 2000.0),
        ("250uJ", "millijoules", 0.25),
        ("1kJ", "millijoules", 1_000_000.0),
    ],
)
def test_amounts_parse_as_people_write_them(text: str, kind: AmountKind, value: float) -> None:
    assert parse_amount(text) == Amount(kind, value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "G",
        "fifty",
        "50 apples",
        "5m",
        "4Mb",
        "50,5G",
        "-5G",
        "1e5e5",
        "0x10",
        "nan",
        "inf",
        "5GG",
        "5 GiMACs",
        "5 MJ",
        "5 mj",
        "RAM",
        "500 RAM",
        "500MiBRAM",
        "5G RAM",
        "3 W",
    ],
)
def test_what_does_not_parse_is_answered_with_examples(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_amount(text)
    assert repr(text) in caught.value.got
    assert "50 GMACs, 5.4M parameters, 4MB, 4 MiB or 30ms" in caught.value.expected


@pytest.mark.parametrize("text", ["0", "0 GMACs", "0ms", "0.1 B", "99999999999 GMACs", "1e99s"])
def test_an_amount_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="more than 0"):
        parse_amount(text)


@pytest.mark.parametrize("text", ["50 GFLOPs", "50gflops", "40 TOPS", "50 GFLOP/s"])
def test_flops_are_refused_since_they_may_be_half_of_a_mac(text: str) -> None:
    with pytest.raises(UsageError, match="half of one"):
        parse_amount(text)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Amount("macs", 50_000_000_000), "50 GMACs"),
        (Amount("macs", 46_904_000_000), "46.9 GMACs"),
        (Amount("macs", 7), "7 MACs"),
        (Amount("parameters", 3_218_201), "3.218 M parameters"),
        (Amount("bytes", 16_777_216), "16.78 MB"),
        (Amount("bytes", 999), "999 B"),
        (Amount("bytes", 999_960), "1 MB"),
        (Amount("count", 5_000_000), "5 M"),
        (Amount("milliseconds", 30.0), "30 ms"),
        (Amount("milliseconds", 0.25), "250 us"),
        (Amount("milliseconds", 1500.0), "1.5 s"),
        (Amount("milliseconds", 7_200_000.0), "7200 s"),
        (Amount("memory", 524_288_000), "500 MiB RAM"),
        (Amount("memory", 1_048_576_000), "1000 MiB RAM"),
        (Amount("memory", 2**30), "1 GiB RAM"),
        (Amount("millijoules", 30.0), "30 mJ"),
        (Amount("millijoules", 2000.0), "2 J"),
        (Amount("millijoules", 0.25), "250 uJ"),
    ],
)
def test_amounts_are_written_for_people(amount: Amount, text: str) -> None:
    assert format_amount(amount) == text


_KINDS: st.SearchStrategy[AmountKind] = st.sampled_from(["count", "macs", "parameters", "bytes", "memory"])


@given(kind=_KINDS, value=st.integers(1, 10**15))
def test_what_is_written_reads_back(kind: AmountKind, value: int) -> None:
    amount = Amount(kind, value)
    assert parse_amount(format_amount(amount, digits=16)) == amount
    rounded = parse_amount(format_amount(amount))
    assert rounded.kind == kind
    assert rounded.value == pytest.approx(value, rel=5.001e-4)


@given(value=st.floats(1e-3, 1e9))
def test_a_time_or_an_energy_that_is_written_reads_back(value: float) -> None:
    assert parse_amount(format_amount(Amount("milliseconds", value))).value == pytest.approx(value, rel=5.001e-4)
    assert parse_amount(format_amount(Amount("millijoules", value))).value == pytest.approx(value, rel=5.001e-4)
