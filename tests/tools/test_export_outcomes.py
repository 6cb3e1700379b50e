"""What ``edgeiqa export`` says and leaves behind when a kind fails, cannot be made, or is not built.

Conversions are stand-ins, so that each outcome comes at will; graphs, engines and gates are real.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from edgeiqa.export import gate, rank_gate, to_tensorrt
from edgeiqa.export.convert import Conversion, ConversionOptions, FloatMember
from edgeiqa.export.kinds import Kind
from edgeiqa.export.pack import Graph
from edgeiqa.export.quant_recipe import QuantRecipe
from edgeiqa.export.sensitivity import BlockSensitivity, SensitivityReport
from edgeiqa.export.tensorrt_library import NoTensorRt
from edgeiqa.profiles.rank import RankReport
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.errors import DataError, EdgeIQAError, EngineError, ExportError, MissingExtraError, UsageError
from edgeiqa.runtime.scorer import Scorer
from edgeiqa.runtime.verify import verify
from edgeiqa.tools import export_artefacts, export_options, export_source, export_steps, quantize_sensitivity
from edgeiqa.tools.export_options import parse_recipe
from edgeiqa.tools.export_speed import Speed
from onnx import helper, numpy_helper

from .command import Ran, edgeiqa, files_in, require_refusal, save_photo

Convert = Callable[[FloatMember, Kind, Any, ConversionOptions], Conversion]
OTHERS = ("onnx fp16", "onnx int8")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Sixteen photographs to calibrate on, thirty to judge by."""
    root = tmp_path_factory.mktemp("outcomes")
    for place in range(46):
        part = "calibration" if place < 16 else "judged"
        save_photo(root / part / f"{place:02}.jpg", 200 + place, blur=place % 3, size=(96, 80))
    return ("--calibration", f"{root}/calibration", "--images", f"{root}/judged", "--calibration-count", "16")


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder; speed is not measured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export_steps, "compare_speed", lambda *_: Speed())
    return tmp_path


@pytest.fixture
def converts(monkeypatch: pytest.MonkeyPatch) -> Callable[[Convert], None]:
    return lambda convert: monkeypatch.setattr(export_artefacts, "convert", convert)


def as_it_is(member: FloatMember, kind: Kind, images: Any, options: ConversionOptions) -> Conversion:
    """FP32's graph under another name."""
    return Conversion(graph=Graph(kind.target, kind.precision, "fp32", (member.model,), member.outputs))


def broken(output: str) -> Convert:
    """An output is divided by zero."""

    def convert(member: FloatMember, kind: Kind, images: Any, options: ConversionOptions) -> Conversion:
        graph = Graph(kind.target, kind.precision, "fp32", (divided_by_zero(member.model, output),), member.outputs)
        return Conversion(graph=graph)

    return convert


def divided_by_zero(model: bytes, output: str) -> bytes:
    made = onnx.load_model_from_string(model)
    for node in made.graph.node:
        for names in (node.input, node.output):
            names[:] = [f"{output}_whole" if name == output else name for name in names]
    made.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "nothing"))
    made.graph.node.append(helper.make_node("Div", [f"{output}_whole", "nothing"], [output], name="by_zero"))
    return bytes(made.SerializeToString())


def raises(error: EdgeIQAError) -> Convert:
    def convert(*_: Any) -> Conversion:
        raise error

    return convert


def each(**by_precision: Convert) -> Convert:
    def convert(member: FloatMember, kind: Kind, images: Any, options: ConversionOptions) -> Conversion:
        return by_precision.get(kind.precision, as_it_is)(member, kind, images, options)

    return convert


def verdicts(ran: Ran) -> dict[str, str]:
    return {f"{row['target']} {row['precision']}": row["verdict"] for row in ran.object["matrix"]}


@pytest.mark.parametrize("output", ["score", "features.last"])
def test_what_is_not_finite_fails_the_gate_with_a_report(
    small_bundle: Path, folders: tuple[str, ...], in_folder: Path, converts: Any, output: str
) -> None:
    converts(broken(output))
    call = ("export", small_bundle, "--precision", "fp16", *folders, "-o", "no.eiqa")
    ran = edgeiqa(*call, "--json")
    assert ran.code == 1 and f"{output} of onnxruntime that are not finite" in ran.err
    assert "keep what overflows in float" in ran.err and "nothing was written" in ran.err
    (artefact,) = ran.object["artefacts"]
    assert (ran.object["bundle"], artefact["passed"], artefact["failed"]) == (None, False, True)
    assert verdicts(ran)["onnx fp16"].startswith("FAILED: ") and "not finite" in verdicts(ran)["onnx fp16"]
    assert ran.object["calibration"]["count"] == 16
    assert not files_in(in_folder)
    if output == "score":
        ran = edgeiqa(*call)
        assert ran.code == 1 and "FAILED" in ran.out and not files_in(in_folder)


def test_what_is_not_finite_is_one_row_of_all(
    small_bundle: Path, folders: tuple[str, ...], in_folder: Path, converts: Any
) -> None:
    converts(each(fp16=broken("score")))
    ran = edgeiqa("export", small_bundle, "--all", "--target", "onnx", *folders, "-o", "all.eiqa", "--json")
    assert ran.code == 0, ran.err
    told = verdicts(ran)
    assert "FAILED" in told["onnx fp16"] and told["onnx int8"].startswith("passed")
    kept = [artefact.precision for artefact in Bundle.open("all.eiqa").manifest.members[0].artefacts]
    assert kept == ["fp32", "int8"]


def test_a_graph_that_the_engine_refuses_is_no_failed_gate(
    small_bundle: Path, folders: tuple[str, ...], in_folder: Path, converts: Any
) -> None:
    def refused(member: FloatMember, kind: Kind, images: Any, options: ConversionOptions) -> Conversion:
        made = as_it_is(member, kind, images, options)
        return replace(made, graph=replace(made.graph, files=(b"no graph",)))

    converts(refused)
    ran = edgeiqa("export", small_bundle, "--precision", "fp16", *folders, "-o", "no.eiqa")
    assert (ran.code, ran.out) == (2, "") and not files_in(in_folder)
    ran = edgeiqa("export", small_bundle, "--all", "--target", "onnx", *folders, "-o", "all.eiqa", "--json")
    assert ran.code == 0 and verdicts(ran)["onnx int8"].startswith("not made: ")


def test_a_search_goes_on_over_what_is_not_finite(
    small_bundle: Path,
    folders: tuple[str, ...],
    in_folder: Path,
    converts: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def convert(member: FloatMember, kind: Kind, images: Any, options: ConversionOptions) -> Conversion:
        assert options.recipe is not None
        made = as_it_is if options.recipe.float_blocks else broken("score")
        return made(member, kind, images, options)

    recipe = QuantRecipe(name="quick", scheme="u8s8", quantizer="onnxruntime", bias_correction="none")
    figures = {name: 0.0 for name in BlockSensitivity.__struct_fields__ if not name.endswith("distortion")}
    block = msgspec.convert(
        figures | {"block": "head", "alone_by_distortion": {"none": 0.0}, "without_by_distortion": {"none": 0.0}},
        BlockSensitivity,
    )
    report = SensitivityReport(
        recipe=recipe,
        engine="onnxruntime",
        views=1,
        distortions={"none": 1},
        whole_rmse=1.0,
        whole_largest=1.0,
        whole_shift=0.0,
        whole_by_distortion={"none": 1.0},
        blocks=(block,),
    )
    monkeypatch.setattr(quantize_sensitivity, "measure_sensitivity", lambda *_, **__: report)
    converts(convert)
    ran = edgeiqa("quantize", small_bundle, "--auto-mixed", *folders, "-o", "mixed.json")
    assert ran.code == 0, ran.err
    assert "failed: onnxruntime int8 on the golden photographs: score of onnxruntime" in ran.err
    assert parse_recipe("mixed.json").float_blocks == ("head",)


@pytest.mark.parametrize(
    "error",
    [
        ExportError("a node it lacks", expected="another", mend="raise the opset"),
        EngineError("a graph it refuses", expected="another", mend="another engine"),
        MissingExtraError("no tensorrt", expected="it", mend="pip install it"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_all_of_which_nothing_passes_is_an_honest_no(
    small_bundle: Path, folders: tuple[str, ...], in_folder: Path, converts: Any, error: EdgeIQAError
) -> None:
    converts(raises(error))
    call = ("export", small_bundle, "--all", "--target", "tensorrt", *folders, "-o", "no.eiqa")
    ran = edgeiqa(*call, "--json")
    assert ran.code == 1 and not files_in(in_folder)
    assert "error: none of tensorrt fp32, tensorrt fp16, tensorrt int8" in ran.err
    assert verdicts(ran)["tensorrt int8"] == f"not made: {error.got} (to mend: {error.mend})"
    assert ran.object["bundle"] is None


@pytest.mark.parametrize(
    "error",
    [
        UsageError("a recipe of another target", expected="its own", mend="name it"),
        DataError("few photographs", expected="more", mend="add some"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_wrong_with_the_call_ends_all(
    small_bundle: Path, folders: tuple[str, ...], in_folder: Path, converts: Any, error: EdgeIQAError
) -> None:
    converts(each(int8=raises(error)))
    ran = edgeiqa("export", small_bundle, "--all", "--target", "onnx", *folders, "-o", "no.eiqa")
    require_refusal(ran, error.got, error.expected, error.mend)
    assert not files_in(in_folder)


def test_a_capability_that_no_library_builds_for_is_refused_before_any_work(
    small_bundle: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(capabilities: tuple[int, ...]) -> NoTensorRt:
        raise UsageError(f"compute capability {capabilities[0]}", expected="75, 80", mend="leave it out")

    def worked(*_: Any, **__: Any) -> None:
        raise AssertionError("the bundle was read before the call was refused")

    monkeypatch.setattr(export_options, "find_library", find)
    monkeypatch.setattr(export_source, "Scorer", worked)
    flags = ("--all", "--target", "tensorrt", "--compute-capability", "50", "-o", "cc.eiqa")
    require_refusal(edgeiqa("export", small_bundle, *flags), "compute capability 50", "75, 80")
    assert not files_in(in_folder)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_all_when_fp32_is_far_from_the_network(
    small_bundle: Path,
    folders: tuple[str, ...],
    in_folder: Path,
    converts: Any,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
) -> None:
    judge = gate.judge_parity

    def judged(*arguments: Any, **limits: Any) -> Any:
        reports = judge(*arguments, **limits)
        assert {report.photos for kind in reports for report in kind} == {30}
        return tuple(
            tuple(
                msgspec.structs.replace(report, max_abs_difference=9.0, mean_abs_difference=9.0, passed=False)
                if report.engine == engine
                else report
                for report in kind
            )
            for kind in reports
        )

    monkeypatch.setattr(export_steps, "judge_parity", judged)

    def only_onnx(member: FloatMember, kind: Kind, images: Any, options: ConversionOptions) -> Conversion:
        if kind.target == "openvino":
            raise ExportError("no", expected="", mend="")
        return as_it_is(member, kind, images, options)

    converts(only_onnx)
    targets = ("--target", "onnx", "--target", "openvino")
    ran = edgeiqa("export", small_bundle, "--all", *targets, *folders, "-o", "all.eiqa", "--json")
    told = verdicts(ran)
    if engine == "onnxruntime":
        # All others were judged against it.
        assert ran.code == 1 and not files_in(in_folder) and "onnx fp32: score points 9" in ran.err
        assert told["onnx fp32"].startswith("FAILED: score points 9 away")
    else:
        assert ran.code == 0, ran.err
        assert told["openvino fp32"].startswith("FAILED: score points 9 away")
        kept = [(one.target, one.precision) for one in Bundle.open("all.eiqa").manifest.members[0].artefacts]
        assert ("onnx", "fp32") in kept and ("openvino", "fp32") not in kept


def test_a_budget_that_is_broken_after_the_gates_shows_the_report(
    small_bundle: Path, folders: tuple[str, ...], in_folder: Path, converts: Any
) -> None:
    converts(as_it_is)
    flags = ("--precision", "int8", "--budget", "100kB", *folders, "-o", "no.eiqa")
    ran = edgeiqa("export", small_bundle, *flags)
    assert ran.code == 1 and "100 kB" in ran.err and "onnx int8" in ran.out
    assert not files_in(in_folder)


def test_a_share_of_swapped_pairs_is_held_where_asked(
    small_bundle: Path, folders: tuple[str, ...], in_folder: Path
) -> None:
    loose = ("--least-srcc", "-1", "--swap-margin", "0", "-o", "no.eiqa")
    flags = ("--precision", "int8", *folders, *loose, "--max-swapped-share", "0")
    ran = edgeiqa("export", small_bundle, *flags, "--json")
    assert ran.code == 1 and "of the pairs change order by more than 0 points" in ran.err
    rank = ran.object["artefacts"][0]["rank"]
    assert (rank["swap_margin"], rank["max_swapped_share"]) == (0.0, 0.0) and rank["swapped_share"] > 0
    assert not files_in(in_folder)


def test_fp16_says_on_which_images_its_maps_were_fitted(
    small_bundle: Path, folders: tuple[str, ...], in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parity(_: Path) -> list[Path]:
        raise AssertionError("photographs were looked at for a gate that judges nothing")

    judged: list[Path] = []

    def judge(reference: Scorer, scorer: Scorer, photos: Sequence[Path], **limits: Any) -> RankReport:
        judged.extend(photos)
        assert all(path.is_file() for path in photos)
        return rank_gate.gate_rank(reference, scorer, photos, **limits)

    monkeypatch.setattr(export_artefacts, "gate_rank", judge)
    monkeypatch.setattr(export_options, "parity_photographs", parity)
    ran = edgeiqa("export", small_bundle, "--precision", "fp16", *folders, "-o", "half.eiqa", "--json")
    assert ran.code == 0, ran.err
    # Files and no bytes: what is distorted lies in a folder that is gone again.
    distorted = [path for path in judged if not path.exists()]
    assert len(judged) == 60 and len(distorted) == 30 and len({path.name for path in judged}) == 60
    assert all("(" in path.name for path in distorted)
    gates = {record.kind: record for record in Bundle.open("half.eiqa").manifest.members[0].artefacts[0].gates}
    assert gates["rank"].report["versions"] == 30
    assert gates["calibration"].report == ran.object["calibration"]
    heard = gates["signal_to_noise"].report
    assert heard["unit"] == "dB" and heard["enough_db"] == 20 and heard["reached"]
    last = next(one for one in heard["outputs"] if one["output"].endswith(".features.last"))
    (row,) = ran.object["matrix"]
    assert row["features_db"] == last["db"] > 20


def test_a_graph_of_which_no_engine_is_built_is_marked(
    small_bundle: Path, folders: tuple[str, ...], in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_tensorrt, "find_library", lambda _: NoTensorRt("nothing is installed", "install it"))
    ran = edgeiqa("export", small_bundle, "--target", "tensorrt", *folders, "-o", "rt.eiqa")
    assert ran.code == 0, ran.err
    bundle = Bundle.open("rt.eiqa")
    (member,) = bundle.manifest.members
    (artefact,) = member.artefacts
    (record,) = [one for one in artefact.gates if one.kind == "tensorrt_build"]
    told = record.report[member.name]
    assert not record.passed and not told["built"]
    assert told["reason"].startswith("nothing is installed; install it")
    assert told["batch"] == {"smallest": 1, "typical": 4, "largest": 8} and told["build_s"] is None
    script, graph, engine = told["script"].removeprefix("python ").split()
    assert script in bundle.manifest.parts and artefact.files == (graph,)
    assert engine == graph.replace(".onnx", ".engine")
    assert f"--onnx={graph} --saveEngine={engine}" in told["trtexec"]
    # What is not built stands in the way of nothing else.
    assert verify(Scorer(bundle, engine="onnxruntime", precision="fp16")).passed
    assert "passed; engine not built: nothing is installed; install it" in ran.out
    assert "edgeiqa unpack rt.eiqa -o FOLDER" in ran.err and told["script"] in ran.err and told["trtexec"] in ran.err
    assert "graph.onnx" not in ran.err and "python build_engine.py" not in ran.err
    assert edgeiqa("unpack", "rt.eiqa", "-o", "out").code == 0
    assert (Path("out") / script).is_file() and (Path("out") / graph).is_file()
