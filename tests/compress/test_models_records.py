"""The records of the grammar: round trip, and what they refuse."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest
from edgeiqa.compress.models import (
    SYSTEMS,
    Attention,
    Branch,
    Concat,
    Gated,
    Linear,
    Mean,
    Mlp,
    Normalisation,
    System,
)
from edgeiqa.runtime.errors import RecordError
from edgeiqa.runtime.preprocess import Preprocess, Resize, View, single_view


def branch(name: str = "image", views: tuple[str, ...] = ("image",), stages: tuple[int, ...] = ()) -> Branch:
    return Branch(name=name, backbone="convnext_atto", views=views, stages=stages)


def two_views() -> Preprocess:
    return Preprocess(views=tuple(View(name=name, operations=(Resize(width=8, height=8),)) for name in ("a", "b")))


@pytest.mark.parametrize("name", SYSTEMS)
def test_published_systems_survive_json(name: str) -> None:
    system = SYSTEMS[name]()
    assert system.name == name
    assert msgspec.json.decode(msgspec.json.encode(system), type=System) == system


@pytest.mark.parametrize("fusion", [Mean(), Concat(), Gated(), Attention(heads=2)])
@pytest.mark.parametrize("head", [Linear(dropout=0.5), Mlp(hidden=3, activation="relu", dropout=0.1)])
def test_every_fusion_and_head_survives_json(fusion: Mean | Concat | Gated | Attention, head: Linear | Mlp) -> None:
    system = System(name="x", preprocess=single_view(8, 8), branches=(branch(),), fusion=fusion, head=head)
    assert msgspec.json.decode(msgspec.json.encode(system), type=System) == system


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(b'{"hidden": 3, "depth": 2, "type": "mlp"}', type=Mlp)


def test_a_value_out_of_range_is_refused_in_json_too() -> None:
    with pytest.raises(msgspec.ValidationError, match="hidden width of 0"):
        msgspec.json.decode(b'{"hidden": 0, "type": "mlp"}', type=Mlp)


@pytest.mark.parametrize(
    ("make", "got", "expected"),
    [
        (lambda: Normalisation(mean=(0.5, 0.5, 1.5), std=(1, 1, 1)), "mean of", "[0, 1]"),
        (lambda: Normalisation(mean=(0.5, 0.5, 0.5), std=(1, 0, 1)), "std of", "(0, 1]"),
        (lambda: branch(name="Image"), "branch named 'Image'", "lower-case"),
        (lambda: branch(views=()), "without views", "at least one"),
        (lambda: branch(views=("a", "a")), "views ('a', 'a')", "once"),
        (lambda: branch(stages=(2, 1)), "stages (2, 1)", "ascending"),
        (lambda: branch(stages=(-1,)), "stages (-1,)", "from 0"),
        (lambda: Branch(name="a", backbone="", views=("a",)), "empty backbone", "timm's name"),
        (lambda: Attention(heads=0), "0 attention heads", "1 to 64"),
        (lambda: Linear(dropout=1.0), "dropout of 1.0", "[0, 1)"),
        (lambda: Mlp(hidden=0), "hidden width of 0", "1 to"),
        (lambda: System(name="", preprocess=two_views(), branches=(branch(),)), "empty name", "a name"),
        (lambda: System(name="x", preprocess=two_views(), branches=()), "without branches", "at least one"),
        (
            lambda: System(name="x", preprocess=two_views(), branches=(branch("n", ("a",)), branch("n", ("b",)))),
            "['n', 'n']",
            "name of its own",
        ),
        (
            lambda: System(name="x", preprocess=two_views(), branches=(branch(views=("a", "b", "c")),)),
            "['c']",
            "['a', 'b']",
        ),
        (
            lambda: System(name="x", preprocess=two_views(), branches=(branch(views=("a",)),)),
            "['b'] that no branch looks at",
            "every view used",
        ),
    ],
)
def test_bad_records_say_what_was_got_and_expected(make, got: str, expected: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RecordError) as caught:
        make()
    assert got in caught.value.got
    assert expected in caught.value.expected
    assert caught.value.mend


def test_every_public_name_is_there() -> None:
    from edgeiqa.compress import models

    assert all(getattr(models, name) is not None for name in models.__all__)
    assert not hasattr(models, "nothing")


def test_records_and_systems_come_without_torch() -> None:
    script = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'timm'):\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from edgeiqa.compress import models\n"
        "assert all(make().branches for make in models.SYSTEMS.values())\n"
        "for ask in (lambda: models.build, lambda: models.one_backbone('convnext_atto', 64, 64)):\n"
        "    try:\n"
        "        ask()\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, error.mend)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ['MissingExtraError pip install "edgeiqa[compress]"'] * 2
