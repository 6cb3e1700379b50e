from __future__ import annotations

import inspect
import pickle

import pytest
from edgeiqa.runtime import errors

CLASSES = [getattr(errors, name) for name in errors.__all__]


def test_the_list_names_every_error() -> None:
    defined = [name for name, value in vars(errors).items() if inspect.isclass(value)]
    assert sorted(defined) == sorted(errors.__all__)


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_says_what_was_got_expected_and_what_mends_it(kind: type[errors.EdgeIQAError]) -> None:
    error = kind("a cat", expected="a dog", mend="call the dog")
    assert str(error) == "a cat; expected a dog; to mend: call the dog"
    assert (error.got, error.expected, error.mend) == ("a cat", "a dog", "call the dog")


@pytest.mark.parametrize("kind", CLASSES)
def test_exit_codes(kind: type[errors.EdgeIQAError]) -> None:
    assert kind.exit_code == (1 if issubclass(kind, errors.HonestNoError) else 2)


def test_the_bundle_errors_are_bundle_errors_and_a_record_error_is_a_value_error() -> None:
    kinds = (
        errors.BundleFormatError,
        errors.BundleVersionError,
        errors.BundleRequiresError,
        errors.BundleHashError,
    )
    assert all(issubclass(kind, errors.BundleError) for kind in kinds)
    assert issubclass(errors.RecordError, ValueError)


def test_an_error_comes_whole_out_of_another_process() -> None:
    error = errors.PhotoError("a.jpg", expected="a photograph", mend="copy it again")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is errors.PhotoError
    assert (again.got, again.expected, again.mend) == (error.got, error.expected, error.mend)
