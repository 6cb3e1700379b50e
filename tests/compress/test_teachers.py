"""Every kind of teacher gives the scores of its own network, under a key that its weights decide."""

from __future__ import annotations

import csv
import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import timm
import torch
import torchvision
from edgeiqa.compress.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgeiqa.compress.data.items import Item
from edgeiqa.compress.models import NoWeights, build, one_backbone
from edgeiqa.compress.models.records import Branch, System
from edgeiqa.compress.teacher_cache import TeacherCache
from edgeiqa.compress.teacher_fill import fill
from edgeiqa.compress.teacher_targets import targets
from edgeiqa.compress.teachers import ScoreTable, Teacher, TorchTeacher, load_teacher
from edgeiqa.profiles.cost import count_module
from edgeiqa.runtime.errors import (
    BundleError,
    DataError,
    EdgeIQAError,
    EngineError,
    MissingExtraError,
    ModelError,
    UsageError,
)
from edgeiqa.runtime.manifest import ScoreScale
from edgeiqa.runtime.preprocess import Preprocess, Resize, View, single_view
from edgeiqa.runtime.score_map import ScoreMap, Sigmoid
from edgeiqa.runtime.scorer import Scorer, ensemble_bundle
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from ..runtime.bundles import GRAPHS, Recipe, changed, mean_of
from ..runtime.bundles import bake as bake_bundle
from ..runtime.bundles import build as build_bundle

PERCENT = ScoreMap(steps=(Sigmoid(slope=3.0, centre=0.1, low=0.0, high=100.0),))
SYSTEM = one_backbone("mobilenetv3_small_050", 64, 64, stages=(1, 3))


def pixels(shape: tuple[int, ...], count: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def loaded(spec: object, **options: Any) -> Teacher:
    found = load_teacher(str(spec), **options)
    assert isinstance(found, Teacher)
    return found


def save(folder: Path, *, name: str = "one", seed: int = 0, system: System = SYSTEM, **provenance: Any) -> Path:
    record = Checkpoint(name=name, system=system, score_map=PERCENT, provenance=provenance)
    save_checkpoint(folder, record, build(system, weights=NoWeights(seed=seed)))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("checkpoint") / "one", heldout_fold=2)


def test_a_checkpoint_gives_its_network_s_outputs(checkpoint: Path) -> None:
    teacher = loaded(checkpoint)
    (member,) = teacher.members
    _, network = load_checkpoint(checkpoint)
    view = pixels((64, 64, 3))
    raw, features = member.run({"image": view})
    with torch.no_grad():
        expected = network(torch.from_numpy(view))
    np.testing.assert_allclose(raw, expected.pop("score").numpy(), rtol=1e-4, atol=1e-6)
    assert list(features) == list(expected) == list(member.feature_widths)
    for name, values in features.items():
        assert values.dtype == np.float32 and values.shape == (3, member.feature_widths[name])
        np.testing.assert_allclose(values, expected[name].numpy(), rtol=1e-3, atol=1e-5)
    # On a CPU no score depends on its neighbours.
    assert member.run({"image": view[1:2]})[0][0] == raw[1]
    np.testing.assert_allclose(100 * member.unit(raw), PERCENT.apply(raw))
    assert (member.heldout_fold, teacher.folds_known, dict(teacher.folds)) == (2, False, {})
    assert teacher.macs_per_item == count_module(network, (torch.zeros(1, 64, 64, 3, dtype=torch.uint8),)).macs


def test_a_branch_of_several_views_has_features_side_by_side(tmp_path: Path) -> None:
    views = tuple(View(name=name, operations=(Resize(width=64, height=64),)) for name in ("left", "right"))
    branch = Branch(name="both", backbone="mobilenetv3_small_050", views=("left", "right"), stages=(1,))
    system = System(name="two", preprocess=Preprocess(views=views), branches=(branch,))
    (member,) = loaded(save(tmp_path, system=system)).members
    _, features = member.run({"left": pixels((64, 64, 3)), "right": pixels((64, 64, 3))})
    assert {name: values.shape[1] for name, values in features.items()} == dict(member.feature_widths)


def test_views_of_other_names_or_shapes_are_refused(checkpoint: Path) -> None:
    (member,) = loaded(checkpoint).members
    for wrong in ({"other": pixels((64, 64, 3))}, {"image": pixels((64, 32, 3))}, {"image": np.zeros((1, 64, 64, 3))}):
        with pytest.raises(ModelError, match="cut them by the member's Preprocess"):
            member.run(wrong)  # type: ignore[arg-type]


def test_a_key_is_decided_by_weights_and_preprocess_and_outputs(tmp_path: Path) -> None:
    def key(folder: str, **options: Any) -> str:
        return loaded(save(tmp_path / folder, **options)).members[0].key

    first = key("a")
    assert len(first) == 64 and first == key("b", name="renamed", heldout_fold=3)
    others = [
        key("c", seed=1),
        key("d", system=one_backbone("mobilenetv3_small_050", 64, 96, stages=(1, 3))),
        key("e", system=one_backbone("mobilenetv3_small_050", 64, 64, stages=(1,))),
    ]
    assert len({first, *others}) == 4


def test_a_folder_of_checkpoints(tmp_path: Path) -> None:
    for seed, name in enumerate(("b", "a")):
        save(tmp_path / name, name=name, seed=seed)
    (tmp_path / "notes").mkdir()
    teacher = loaded(tmp_path)
    assert [member.name for member in teacher.members] == ["a", "b"] and not teacher.folds_known
    save(tmp_path / "c", name="copy", seed=0)
    with pytest.raises(DataError, match=r"members b and copy of .* are the same network"):
        loaded(tmp_path)


@dataclass(frozen=True)
class TaughtRun:
    """A run's folder, and the parts of its photographs."""

    folder: Path
    parts: dict[str, Any]


def write_run(folder: Path, heldout: dict[str, int], rows: list[tuple[Any, ...]], selection: list[str]) -> Path:
    for seed, (name, fold) in enumerate(heldout.items()):
        save(folder / "members" / name, name=name, seed=seed, heldout_fold=fold)
    tables = {
        "out_of_fold.csv": (("image", "sha256", "mos", "fold", "member", "raw", "score"), rows),
        "selection.csv": (("image", "sha256", "mos", "ensemble"), [(sha, sha, 50, 51) for sha in selection]),
    }
    for name, (header, lines) in tables.items():
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([header, *lines])
    return folder


def photo(index: int) -> str:
    return hashlib.sha256(bytes([index])).hexdigest()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TaughtRun:
    # Fold 2 was left out by no member.
    rows: list[tuple[Any, ...]] = [
        (f"{index}.jpg", photo(index), 50, index % 2, f"m{index % 2}", 0.1, 40) for index in range(4)
    ]
    rows += [("4.jpg", photo(4), 50, 2, "", "", "")]
    folder = write_run(tmp_path_factory.mktemp("runs") / "teach", {"m0": 0, "m1": 1}, rows, [photo(5)])
    parts: dict[str, Any] = {photo(index): index % 2 for index in range(4)}
    return TaughtRun(folder, parts | {photo(4): 2, photo(5): "selection"})


def test_a_run_of_teach_says_which_photographs_are_in_which_fold(run: TaughtRun) -> None:
    teacher = loaded(run.folder)
    assert teacher.folds_known and dict(teacher.folds) == run.parts
    assert {member.name: member.heldout_fold for member in teacher.members} == {"m0": 0, "m1": 1}
    assert teacher.speakers(teacher.folds[photo(1)], distorted=False) == (False, True)
    assert teacher.speakers(teacher.folds[photo(1)], distorted=True) == (True, True)
    assert teacher.speakers("selection", distorted=False) == teacher.speakers(None, distorted=False) == (True, True)
    with pytest.raises(DataError, match="fold 2, which no member"):
        teacher.speakers(teacher.folds[photo(4)], distorted=False)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "out_of_fold.csv").unlink(), "out_of_fold.csv cannot be read.*resumes"),
        (lambda folder: (folder / "selection.csv").unlink(), "selection.csv cannot be read.*resumes"),
        (lambda folder: (folder / "selection.csv").write_text("image,mos\n"), "with the columns"),
        (lambda folder: (folder / "selection.csv").write_text("image,sha256\na,zz\n"), "line 2: sha256 'zz'"),
        (
            lambda folder: (folder / "selection.csv").write_text(f"image,sha256\na,{photo(1)}\n"),
            "parts 1 and selection",
        ),
        (lambda folder: shutil.rmtree(folder / "members" / "m1"), "held out the folds .*restore the members"),
        (lambda folder: [path.unlink() for path in folder.glob("members/*/checkpoint.json")], "which holds"),
        (lambda folder: save(folder / "members" / "m1", name="m1", seed=1, heldout_fold=0), "held out the folds"),
        (lambda folder: save(folder / "members" / "m1", name="m1", seed=1, heldout_fold="x"), "heldout_fold = 'x'"),
    ],
)
def test_a_run_whose_parts_do_not_agree_is_refused(run: TaughtRun, tmp_path: Path, change: Any, told: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    change(folder)
    with pytest.raises((DataError, ModelError), match=told):
        loaded(folder)


FACTORIES = """
import torch
from torch import nn
from edgeiqa.compress.models.records import IMAGENET
from edgeiqa.compress.teachers import TorchTeacher
from edgeiqa.runtime.preprocess import single_view
from edgeiqa.runtime.score_map import Affine, ScoreMap

class Mean(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, pixels):
        return self.answer(self.scale * pixels.mean((2, 3)))

def made(answer, **fields):
    return TorchTeacher(module=Mean(answer), preprocess=single_view(8, 6), normalisation=IMAGENET, **fields)

def column():
    return made(lambda means: means.mean(1, keepdim=True), name="mine")

def described():
    score_map = ScoreMap(steps=(Affine(scale=2.0, offset=3.0),), low=1.0, high=5.0)
    return made(lambda means: {"score": means.mean(1), "features.means": means}, score_map=score_map)

def two_scores():
    return made(lambda means: means[:, :2])

def raising():
    raise RuntimeError("no weights here")

def nothing():
    return None

number = 3
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's module in the working folder, of a name of its own."""
    name = f"mine_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}"
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_factory_s_network_sees_normalised_pixels(factories: str) -> None:
    view = pixels((6, 8, 3))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    means = 2 * (view.mean((1, 2)) / 255 - mean) / std
    (column,) = loaded(f"{factories}:column").members
    raw, features = column.run({"image": view})
    np.testing.assert_allclose(raw, means.mean(1), atol=1e-5)
    assert (column.name, features, column.raw_range) == ("mine", {}, (0.0, 1.0))
    (described,) = loaded(f"{factories}:described").members
    raw, features = described.run({"image": view})
    np.testing.assert_allclose(features["features.means"], means, atol=1e-5)
    np.testing.assert_allclose(described.unit(raw), np.clip((2 * raw + 3 - 1) / 4, 0, 1))
    assert (described.name, described.raw_range) == ("described", None)
    assert column.key != described.key


@pytest.mark.parametrize(
    ("factory", "told"),
    [
        ("two_scores", r"two_scores answers \{'score': \(1, 2\)\} for 1 images"),
        ("raising", "RuntimeError: no weights here"),
        ("nothing", "returned NoneType.*TorchTeacher"),
        ("number", "TypeError"),
        ("absent", "AttributeError.*absent"),
    ],
)
def test_factories_that_do_not_keep_their_word(factories: str, factory: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        loaded(f"{factories}:{factory}")


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="ModuleNotFoundError"):
        loaded("surely_not_here:make")


def test_a_network_of_several_views_needs_a_bundle() -> None:
    from edgeiqa.compress.models.records import IMAGENET
    from edgeiqa.compress.torch_teachers import torch_member

    views = tuple(View(name=name, operations=(Resize(width=8, height=8),)) for name in ("one", "two"))
    network = TorchTeacher(module=nn.Identity(), preprocess=Preprocess(views=views), normalisation=IMAGENET)
    with pytest.raises(ModelError, match="one view of one image"):
        torch_member(network, "two", torch.device("cpu"))
    backwards = replace(network, preprocess=single_view(8, 8), raw_range=(1.0, 0.0))
    with pytest.raises(ModelError, match="low is below its high"):
        torch_member(backwards, "backwards", torch.device("cpu"))


def save_weights(path: Path, model: nn.Module) -> dict[str, Tensor]:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(state, path)
    return state


def normalised(view: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    values = (view / 255 - np.array(mean)) / np.array(std)
    return torch.from_numpy(values.transpose(0, 3, 1, 2).astype(np.float32))


def test_a_timm_network_with_the_user_s_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Any = timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=1).eval()
    state = save_weights(tmp_path / "w.safetensors", model)
    spec = f"timm:mobilenetv3_small_050@{tmp_path / 'w.safetensors'}"
    (member,) = loaded(f"{spec}?size=96x64&range=1,5&stages=3,1").members
    view = pixels((64, 96, 3))
    raw, features = member.run({"image": view})
    config: Any = timm.get_pretrained_cfg("mobilenetv3_small_050")
    inputs = normalised(view, config.mean, config.std)
    with torch.no_grad():
        np.testing.assert_allclose(raw, model(inputs)[:, 0].numpy(), rtol=1e-3, atol=1e-5)
        final, maps = model.forward_intermediates(inputs, indices=[1, 3])
    assert list(features) == ["features.last", "features.1", "features.3"]
    np.testing.assert_allclose(features["features.1"], maps[0].mean((2, 3)).numpy(), rtol=1e-3, atol=1e-5)
    last = model.forward_head(final, pre_logits=True).detach().numpy()
    np.testing.assert_allclose(features["features.last"], last, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(member.unit(np.array([1.0, 2.0, 5.0])), [0, 0.25, 1])
    assert member.raw_range == (1.0, 5.0)
    plain = loaded(spec).members[0]
    assert plain.preprocess == single_view(224, 224) and list(plain.feature_widths) == ["features.last"]
    # Any other weight is another teacher, and a file that does not fit is none.
    state["classifier.bias"] = state["classifier.bias"] + 1
    save_file(state, tmp_path / "moved.safetensors")
    assert loaded(spec.replace("w.safe", "moved.safe")).members[0].key != plain.key
    del state["conv_stem.weight"]
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"conv_stem\.weight"):
        loaded(spec)


def test_a_timm_network_of_a_fixed_size(tmp_path: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=1, img_size=(32, 64))
    save_weights(tmp_path / "vit.safetensors", model)
    spec = f"timm:vit_tiny_patch16_224@{tmp_path / 'vit.safetensors'}"
    (member,) = loaded(f"{spec}?size=64x32").members
    assert member.run({"image": pixels((32, 64, 3))})[0].shape == (3,)
    with pytest.raises(ModelError, match="pos_embed"):
        loaded(spec)


def test_a_torchvision_network_with_the_user_s_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v3_small(num_classes=1).eval()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    spec = f"torchvision:mobilenet_v3_small@{tmp_path / 'w.pth'}"
    (member,) = loaded(f"{spec}?size=64x64").members
    view = pixels((64, 64, 3))
    raw, features = member.run({"image": view})
    with torch.no_grad():
        expected = model(normalised(view, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))[:, 0].numpy()
    np.testing.assert_allclose(raw, expected, rtol=1e-3, atol=1e-5)
    assert features == {} and loaded(spec).members[0].preprocess == single_view(224, 224)
    with pytest.raises(UsageError, match="stages in the teacher"):
        loaded(f"{spec}?stages=1")
    with pytest.raises(ModelError, match=r"which torchvision .* does not have"):
        loaded(f"torchvision:resnet17@{tmp_path / 'w.pth'}")
    with pytest.raises(ModelError, match=r"size mismatch|Missing"):
        loaded(f"torchvision:mobilenet_v3_large@{tmp_path / 'w.pth'}")


def test_the_default_ensemble_scores_as_the_runtime_does(data_root: Path, tmp_path: Path) -> None:
    photographs = sorted((data_root / "clive" / "images").iterdir())[:2]
    teacher = loaded("default", threads=1)
    assert not teacher.folds_known and [member.name for member in teacher.members] == ["lite0", "lite1"]
    items = [Item(path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest()) for path in photographs]
    with TeacherCache(tmp_path) as cache:
        fill(cache, teacher, items)
        found = targets(cache, teacher, items)
        scorer = Scorer(ensemble_bundle(), threads=1)
        for row, path in enumerate(photographs):
            score = scorer.score(path)
            assert 100 * found.mean[row] == pytest.approx(score.value, abs=1e-9)
            assert 100 * found.spread[row] == pytest.approx(score.spread, abs=1e-9)
            _, features = cache.read(teacher.members[1].key, [items[row].key])
            told = scorer.features(path)["lite1"]
            for name, values in features.items():
                np.testing.assert_array_equal(values[0], told[name].astype(np.float16).astype(np.float32))
    macs = [artefact.macs for artefact in scorer.artefacts.values()]
    assert teacher.macs_per_item == sum(one for one in macs if one is not None) > 2e9


def test_a_bundle_on_another_scale(tmp_path: Path) -> None:
    build_bundle(tmp_path / "tiny.eiqa")
    (member,) = loaded(tmp_path / "tiny.eiqa").members
    view = pixels((8, 8, 3))
    raw, _ = member.run({"image": view})
    np.testing.assert_allclose(raw, [mean_of({"image": each}) for each in view], atol=1e-6)
    np.testing.assert_allclose(member.unit(raw), raw)
    manifest, parts = bake_bundle(Recipe())
    from edgeiqa.runtime.bundle import write_bundle

    for name, scale in (
        ("worse", ScoreScale(high=200.0, higher_is_better=False)),
        ("scenes", ScoreScale(comparable="scene")),
    ):
        write_bundle(tmp_path / f"{name}.eiqa", changed(manifest, scale=scale), parts)
    (worse,) = loaded(tmp_path / "worse.eiqa").members
    np.testing.assert_allclose(worse.unit(raw), 1 - raw / 2)
    with pytest.raises(ModelError, match="inside a scene"):
        loaded(tmp_path / "scenes.eiqa")
    (tmp_path / "broken.eiqa").write_bytes((tmp_path / "tiny.eiqa").read_bytes()[:-30])
    for name in ("broken", "absent"):
        with pytest.raises(BundleError, match=name):
            loaded(tmp_path / f"{name}.eiqa")


def test_an_onnx_graph_of_the_contract() -> None:
    teacher = loaded(f"{GRAPHS / 'tiny.onnx'}?range=0,2")
    (member,) = teacher.members
    assert member.preprocess == single_view(8, 8) and dict(member.feature_widths) == {"features.last": 3}
    view = pixels((8, 8, 3), 5)
    raw, features = member.run({"image": view})
    np.testing.assert_allclose(raw, view.mean((1, 2, 3)) / 255, atol=1e-6)
    np.testing.assert_allclose(features["features.last"], view.mean((1, 2)), atol=1e-3)
    np.testing.assert_allclose(member.unit(raw), raw / 2)
    one_thread = loaded(f"{GRAPHS / 'tiny.onnx'}?range=0,2", threads=1).members[0]
    assert one_thread.key == member.key and np.array_equal(one_thread.run({"image": view})[0], raw)
    assert teacher.macs_per_item == 0


def resized_graph(path: Path) -> Path:
    """The graph of means with height and width left open."""
    import onnx

    model = onnx.load(GRAPHS / "tiny.onnx")
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[1].dim_param, dims[2].dim_param = "H", "W"
    onnx.save(model, path)
    return path


def test_the_size_of_a_graph_that_leaves_it_open_is_stated(tmp_path: Path) -> None:
    path = resized_graph(tmp_path / "open.onnx")
    (member,) = loaded(f"{path}?size=6x4").members
    view = pixels((4, 6, 3))
    np.testing.assert_allclose(member.run({"image": view})[0], view.mean((1, 2, 3)) / 255, atol=1e-6)
    with pytest.raises(UsageError, match=r"anyxany.*size=WIDTHxHEIGHT"):
        loaded(path)
    with pytest.raises(UsageError, match="the graph's own size"):
        loaded(f"{GRAPHS / 'tiny.onnx'}?size=9x8")


@pytest.mark.parametrize(
    ("graph", "told"),
    [
        ("two_views", r"input 'five'.*\[N, H, W, 3\].*bundle"),
        ("float_input", "tensor\\(float\\)"),
        ("external", "another file"),
        ("nan", "not finite"),
        ("three_scores", "score"),
        ("fails_to_run", "failed to run"),
        ("absent", "cannot be read"),
    ],
)
def test_graphs_outside_the_contract(graph: str, told: str) -> None:
    with pytest.raises((ModelError, EngineError), match=told):
        loaded(GRAPHS / f"{graph}.onnx")


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_table_of_scores(tmp_path: Path) -> None:
    path = table(tmp_path / "s.csv", "image, score, note", "a.jpg, 1, x", "größer.jpg, 5.0, y")
    found = load_teacher(f"{path}?range=1,5")
    assert isinstance(found, ScoreTable)
    assert dict(found.scores) == {"a.jpg": 1.0, "größer.jpg": 5.0}
    assert found.unit_scores(["größer.jpg", "a.jpg"]).tolist() == [1.0, 0.0]
    default = load_teacher(str(path))
    assert isinstance(default, ScoreTable) and default.unit_scores(["größer.jpg"]).tolist() == [0.05]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["image,mos", "a,1"], "columns image, mos"),
        (["image,score", "a,x"], "line 2: score 'x'"),
        (["image,score", "a,nan"], "line 2: score 'nan'"),
        (["image,score", "a,"], "line 2: score ''"),
        (["image,score", "a"], "line 2: score None"),
        (["image,score", "a,101"], "0 to 100.*range=LOW,HIGH"),
        (["image,score", "a,1", "a,2"], "line 3: the image 'a' a second time"),
        (["image,score", ",2"], "line 2: the image ''"),
        (["image,score"], "without rows"),
        ([""], "columns none"),
    ],
)
def test_tables_that_are_not_as_stated(tmp_path: Path, lines: list[str], told: str) -> None:
    with pytest.raises(DataError, match=told):
        load_teacher(str(table(tmp_path / "s.csv", *lines)))


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("", "a teacher without a name"),
        ("nothing", "teacher 'nothing', which is not there.*default"),
        ("runs/absent", "not there"),
        ("timm:", "without a name"),
        ("timm:convnext_small", "without weights.*random"),
        ("timm:convnext_small@", "without weights"),
        ("timm:convnext_smal@w.pth", "near names: convnext_small"),
        ("timm:mobilenetv3_small_050@absent.pth", "absent.pth, which is not there"),
        ("torchvision:mobilenet_v3_small@absent.pth", "absent.pth, which is not there"),
        ("a.onnx?size=64", "'size=64'"),
        ("a.onnx?size=0x64", "'size=0x64'"),
        ("a.onnx?range=5,1", "'range=5,1'"),
        ("a.onnx?range=0,inf", "'range=0,inf'"),
        ("a.onnx?colour=grey", "'colour=grey'"),
        ("a.onnx?", "''"),
        ("a.onnx?stages=1", "stages in the teacher"),
        ("a.csv?size=8x8", "size in the teacher"),
        ("a.eiqa?range=0,1", "range in the teacher"),
        ("module:factory?range=0,1", "range in the teacher"),
        ("a.csv", "a.csv cannot be read"),
    ],
)
def test_names_that_are_no_teacher(spec: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EdgeIQAError, match=told) as caught:
        load_teacher(spec)
    assert caught.value.expected and caught.value.mend
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_teacher(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ModelError, match=r"notes\.txt"):
        loaded(tmp_path)


def test_a_device_that_is_not_here(checkpoint: Path) -> None:
    with pytest.raises(UsageError, match=r"device 'tpu'.*auto, cpu"):
        loaded(checkpoint, device="tpu")


def test_without_torch_graphs_and_tables_still_speak(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in ("torch", "timm", "torchvision", "edgeiqa.compress.torch_teachers"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr("edgeiqa.compress.torch_teachers", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install .*edgeiqa\[compress\]"):
        loaded(checkpoint)
    assert loaded(GRAPHS / "tiny.onnx").members[0].name == "tiny"
    assert isinstance(load_teacher(str(table(tmp_path / "s.csv", "image,score", "a,1"))), ScoreTable)


def test_records_compare_by_what_they_say(checkpoint: Path) -> None:
    """A score map that is fitted anew leaves the key, so that nothing is computed again."""
    folder = checkpoint.parent / "calibrated"
    record, network = load_checkpoint(checkpoint)
    save_checkpoint(folder, msgspec.structs.replace(record, score_map=ScoreMap(low=0.0, high=1.0)), network)
    before, after = loaded(checkpoint).members[0], loaded(folder).members[0]
    assert before.key == after.key and before.score_map != after.score_map and after.high == 1.0
