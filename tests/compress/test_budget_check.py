"""The budget before training, and the ways out of one that is broken."""

from __future__ import annotations

import msgspec
import pytest
from edgeiqa.compress.budget_check import STUDENTS, check_budget, ways_out
from edgeiqa.compress.input_size import count_system
from edgeiqa.compress.models import Attention, Branch, System, one_backbone
from edgeiqa.profiles.budget import load_budget, parse_budget
from edgeiqa.runtime.errors import BudgetError
from edgeiqa.runtime.preprocess import Crop, Preprocess, View

SMALL = "mobilenetv3_small_050"


def small_system() -> System:
    return one_backbone(SMALL, 256, 160)


@pytest.mark.parametrize("backbone", [name for name in STUDENTS if name not in ("convnext_small", "convnext_tiny")])
def test_the_table_of_students_is_what_is_counted(backbone: str) -> None:
    macs_a_pixel, parameters = STUDENTS[backbone]
    cost = count_system(one_backbone(backbone, 128, 128))
    assert cost.macs / 128**2 == pytest.approx(macs_a_pixel, abs=0.5)
    assert cost.parameters == parameters


def test_the_students_become_cheaper() -> None:
    macs = [macs for macs, _ in STUDENTS.values()]
    assert macs == sorted(macs, reverse=True)


def test_a_system_within_its_budget() -> None:
    cost = check_budget(small_system(), parse_budget("1GMACs,5M parameters"))
    assert cost == count_system(small_system())


def test_limits_that_need_a_trained_model_are_left_to_its_measurement() -> None:
    check_budget(small_system(), parse_budget("1us,1 MiB RAM,1uJ"))


def test_bytes_are_held_by_the_least_that_the_parameters_take() -> None:
    system = one_backbone("mobilenetv3_large_100", 224, 128)
    parameters = count_system(system).parameters
    check_budget(system, parse_budget(f"{parameters} B"))
    check_budget(system, parse_budget(f"{2 * parameters} B"), members=2)
    with pytest.raises(
        BudgetError, match=r"2 members \(bytes: at least, in INT8\): size_bytes: 8.407 MB of 4 MB"
    ) as caught:
        check_budget(system, parse_budget("4MB"), members=2)
    smaller_input, smaller_student, fewer_members = caught.value.mend.split("; or ")
    assert smaller_input == "a smaller input does not help: 4.203 M parameters at every size"
    # Two megabytes for each of two.
    assert "--student mobilenetv3_small_100 at 224x128" in smaller_student
    assert fewer_members == "fewer members do not help: one alone is 129.2 MMACs and 4.203 M parameters"
    # In FP32 a fourth of the parameters fits.
    _, smaller_student, fewer_members = ways_out(system, parse_budget("17MB"), members=2, bytes_a_parameter=4)
    assert "mobilenetv3_small_100" in smaller_student
    assert fewer_members.startswith("fewer members: 1 of 2 fit")


def test_members_count_together() -> None:
    limit = count_system(small_system()).macs
    check_budget(small_system(), parse_budget(f"{limit}"), members=1)
    with pytest.raises(BudgetError, match=r"2 members.*\(2 x\)"):
        check_budget(small_system(), parse_budget(f"{limit}"), members=2)


def test_convnext_small_at_910x512_breaks_50_gmacs_and_has_ways_out() -> None:
    with pytest.raises(BudgetError) as caught:
        check_budget(one_backbone("convnext_small", 910, 512), load_budget("uhd-50g"))
    assert caught.value.exit_code == 1
    assert "79.74 GMACs of 50 GMACs" in caught.value.got
    smaller_input, smaller_student, fewer_members = caught.value.mend.split("; or ")
    assert smaller_input == "a smaller input, --size 704x384 (46.9 GMACs)"
    assert smaller_student == "a smaller student, --student convnext_tiny at 910x512 (41.02 GMACs, 27.82 M parameters)"
    assert fewer_members == "fewer members do not help: there is one, of 79.74 GMACs and 49.46 M parameters"


def test_ways_out_of_several_members() -> None:
    system = one_backbone("mobilenetv3_large_100", 224, 128)
    cost = count_system(system)
    # Two and a half of them: each of four may cost five eighths of one.
    smaller_input, smaller_student, fewer_members = ways_out(system, parse_budget(f"{5 * cost.macs // 2}"), members=4)
    # 224x128 is the smallest input of that aspect.
    assert smaller_input.startswith("a smaller input does not help: 129.2 MMACs at 224x128")
    small = count_system(one_backbone("mobilenetv3_small_100", 224, 128))
    assert f"mobilenetv3_small_100 at 224x128 ({small.macs / 1e6:.4g} MMACs, " in smaller_student
    assert smaller_student.endswith(" a member)")
    assert fewer_members == "fewer members: 2 of 4 fit, each of 129.2 MMACs and 4.203 M parameters"


def test_a_smaller_input_does_not_help_with_parameters() -> None:
    system = one_backbone("mobilenetv3_large_100", 224, 128)
    smaller_input, smaller_student, fewer_members = ways_out(system, parse_budget("2M parameters"), members=2)
    assert smaller_input == "a smaller input does not help: 4.203 M parameters at every size"
    assert smaller_student.startswith("a smaller student: of convnext_small, ")
    assert smaller_student.endswith(", mobilenetv3_small_100 none fits at 224x128")
    assert fewer_members.startswith("fewer members do not help: one alone is ")


def test_a_limit_of_less_than_a_multiply_add_a_member() -> None:
    smaller_input, _, _ = ways_out(small_system(), parse_budget("1"), members=2)
    assert smaller_input == "a smaller input does not help: the limit leaves no multiply-add to a member"


def test_photographs_of_which_no_input_can_be_cut() -> None:
    smaller_input, _, _ = ways_out(small_system(), parse_budget("1MMACs"), image=(20, 20))
    assert smaller_input.startswith(
        "a smaller input: none can be found, no input in multiples of 32 pixels within 20x20"
    )


def test_students_that_the_rest_of_the_system_does_not_go_with_are_passed_over() -> None:
    large = one_backbone("mobilenetv3_large_100", 224, 128)
    # The 1024 channels of mobilenetv3_small_100, the only one cheap enough, do not divide by 5.
    system = msgspec.structs.replace(large, fusion=Attention(heads=5))
    _, smaller_student, _ = ways_out(system, parse_budget("110MMACs"))
    assert "none fits" in smaller_student
    system = msgspec.structs.replace(large, fusion=Attention(heads=4))
    _, smaller_student, _ = ways_out(system, parse_budget("110MMACs"))
    assert "--student mobilenetv3_small_100" in smaller_student


def test_views_that_are_not_one_resize_are_left_to_the_record() -> None:
    view = View(name="centre", operations=(Crop(width=128, height=128),))
    system = System(
        name="cut",
        preprocess=Preprocess(views=(view,)),
        branches=(Branch(name="centre", backbone="mobilenetv3_large_100", views=("centre",)),),
    )
    smaller_input, smaller_student, _ = ways_out(system, parse_budget("20MMACs"))
    assert smaller_input == "smaller views: those of cut are stated in its record"
    assert "mobilenetv3_small_100 at 128x128" in smaller_student


def test_a_budget_in_another_convention_is_held_in_that_one() -> None:
    system = small_system()
    strict, published = count_system(system), count_system(system, "ptflops-aten")
    assert published.macs < strict.macs
    limit = (published.macs + strict.macs) // 2
    assert check_budget(system, parse_budget(f"{limit},ptflops-aten")) == published
    with pytest.raises(BudgetError):
        check_budget(system, parse_budget(f"{limit}"))
    with pytest.raises(BudgetError, match=r"macs \(ptflops-aten\)") as caught:
        check_budget(system, parse_budget(f"{published.macs - 1},ptflops-aten"))
    assert "sizes are solved in strict" in caught.value.mend
