from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edgeiqa.profiles import comparison
from edgeiqa.profiles.comparison import compare_bundles, compare_calls, compare_precisions
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.decode import open_photo
from edgeiqa.runtime.errors import EngineError, UsageError
from edgeiqa.runtime.views import cut_views

from ..runtime.bundles import Ingredients, Recipe, build, encoded, pixels

PHOTO = encoded(pixels())


@pytest.fixture
def both(tmp_path: Path) -> Bundle:
    """A bundle with an ONNX graph and an OpenVINO graph, both fp32."""
    return build(tmp_path / "both.eiqa", Recipe(members=(Ingredients(openvino=True),)))


def views_of(bundle: Bundle):  # type: ignore[no-untyped-def]
    return {
        member.name: cut_views(open_photo(PHOTO, member.preprocess).image, member.preprocess)
        for member in bundle.manifest.members
    }


def test_the_verdict_of_one_that_is_faster() -> None:
    slow, fast = np.array([20.0, 22.0, 40.0, 20.0]), np.array([10.0, 11.0, 20.0, 10.0])
    # What slowed a round down slowed both: the ratio does not move.
    (verdict,) = compare_calls({"fp32": slow, "bf16": fast})
    assert (verdict.faster, verdict.slower, verdict.beyond_noise) == ("bf16", "fp32", True)
    assert (verdict.low, verdict.ratio, verdict.high) == (2, 2, 2)
    assert verdict.text == "bf16 is 2.00 times as fast as fp32 here (quartiles 2.00 to 2.00)"


def test_the_verdict_within_the_noise() -> None:
    generator = np.random.default_rng(0)
    one, two = (10 + generator.normal(0, 1, 200) for _ in range(2))
    (verdict,) = compare_calls({"one": one, "two": two})
    assert not verdict.beyond_noise
    assert verdict.text.startswith("one and two are as fast as each other here, within the noise")


def test_a_hundredth_is_no_difference() -> None:
    (verdict,) = compare_calls({"one": np.full(9, 10.1), "two": np.full(9, 10.0)})
    assert verdict.low > 1 and not verdict.beyond_noise


def test_each_two_are_compared() -> None:
    verdicts = compare_calls({name: np.array([float(time)]) for name, time in (("a", 1), ("b", 2), ("c", 4))})
    assert [(v.faster, v.slower, v.ratio) for v in verdicts] == [("a", "b", 2), ("a", "c", 4), ("b", "c", 2)]
    assert compare_calls({"a": np.array([1.0])}) == ()


def test_precisions_of_a_bundle(tmp_path: Path) -> None:
    bundle = build(tmp_path / "two.eiqa", Recipe(members=(Ingredients(precisions=("fp32", "int8")),)))
    ticks: list[int] = []
    compared = compare_precisions(
        bundle,
        views_of(bundle),
        engine="onnxruntime",
        precision="int8",
        threads=1,
        warmup=1,
        runs=3,
        between=lambda: ticks.append(1),
    )
    # The one that the call names stands first.
    assert [contender.name for contender in compared.contenders] == ["onnxruntime int8", "onnxruntime fp32"]
    assert all(contender.in_bundle and contender.latency.runs == 3 for contender in compared.contenders)
    assert len(ticks) == 3 and len(compared.verdicts) == 1 and compared.of == "graph"
    first, second = (contender.score for contender in compared.contenders)
    assert first == second == pytest.approx(100 * views_of(bundle)["one"]["image"].mean() / 255, abs=1e-3)


def test_openvino_also_runs_in_what_the_processor_has(both: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is offered is what the processor has; here it is said, so that any processor gives the same."""
    for offered, names in (
        (("fp32", "bf16", "int8"), ["openvino fp32", "openvino bf16"]),
        (("fp32", "int8"), ["openvino fp32"]),
    ):
        monkeypatch.setattr(comparison, "offered_precisions", lambda _, offered=offered: offered)
        monkeypatch.setattr("edgeiqa.runtime.engines.ov._require_arithmetic", lambda *_: None)
        compared = compare_precisions(
            both, views_of(both), engine="openvino", precision="fp32", threads=1, warmup=0, runs=2
        )
        assert [contender.name for contender in compared.contenders] == names
        assert [contender.in_bundle for contender in compared.contenders] == [True, False][: len(names)]
        assert compared.left_out == {}


def test_what_cannot_be_run_is_left_out_with_the_reason(both: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    load = comparison._load

    def refuse(bundle: Bundle, engine: str, precision: str, named: str, threads: int):  # type: ignore[no-untyped-def]
        if precision == "bf16":
            raise EngineError("a graph that it refuses", expected="another", mend="nothing")
        return load(bundle, engine, precision, named, threads)

    monkeypatch.setattr(comparison, "_load", refuse)
    monkeypatch.setattr(comparison, "offered_precisions", lambda _: ("fp32", "bf16"))
    compared = compare_precisions(
        both, views_of(both), engine="openvino", precision="fp32", threads=1, warmup=0, runs=1
    )
    assert len(compared.contenders) == 1 and compared.verdicts == ()
    assert compared.left_out == {"openvino bf16": "a graph that it refuses"}


def test_a_named_precision_that_the_bundle_lacks_is_refused(both: Bundle) -> None:
    with pytest.raises(UsageError, match="int8"):
        compare_precisions(both, views_of(both), engine="openvino", precision="int8", threads=1, warmup=0, runs=1)


def test_bundles_side_by_side(both: Bundle, tmp_path: Path) -> None:
    other = build(tmp_path / "other.eiqa")
    compared = compare_bundles({"both": both, "other": other}, PHOTO, threads=1, warmup=0, runs=3)
    assert [contender.name for contender in compared.contenders] == ["both", "other"]
    assert compared.of == "file to score" and len(compared.verdicts) == 1
    assert compared.noise is not None and compared.noise.calibration.runs == 3
    assert compared.contenders[0].score == compared.contenders[1].score
