"""The manifest of a bundle: what it holds, as records with a JSON round trip.

``docs/bundle-format.md`` is the specification; the limits here are its limits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal

import msgspec
import numpy as np

from .errors import require_field
from .preprocess import Flip, Preprocess
from .score_map import Isotonic, ScoreMap

__all__ = [
    "FORMAT",
    "INT8_ON_ARM",
    "INT8_ON_VNNI",
    "INT8_ON_X86",
    "SUPPORTED_REQUIREMENTS",
    "Artefact",
    "Combine",
    "Engine",
    "GateRecord",
    "Golden",
    "Manifest",
    "Mean",
    "Median",
    "Member",
    "Part",
    "Precision",
    "Provenance",
    "ScoreScale",
    "StoredAs",
    "Target",
    "WeightedMean",
    "is_plain_name",
    "requirements",
]

FORMAT = "1.0"
SUPPORTED_REQUIREMENTS: frozenset[str] = frozenset({"flip", "isotonic"})
"""What ``requires`` may name. A later capability that changes scores is added here with the code that honours it."""

Target = Literal["onnx", "openvino", "tensorrt"]
Engine = Literal["onnxruntime", "openvino", "tensorrt"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
StoredAs = Literal["fp32", "fp16", "int8"]

INT8_ON_VNNI = "x86-64 with VNNI"
"""The capability of an INT8 graph with 8-bit weights, whose sums saturate on x86 processors without VNNI."""
INT8_ON_X86 = "x86-64"
"""That of an INT8 graph with 7-bit weights, whose sums do not."""
INT8_ON_ARM = "Arm"
"""That of an INT8 graph with int8 activations, as Arm multiplies them."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_plain_name(name: str) -> bool:
    """Whether a member or a bundle may have that name."""
    return _NAME.fullmatch(name) is not None


_require = partial(require_field, mend="make the bundle again with edgeiqa export")


class Mean(msgspec.Struct, frozen=True, tag="mean", forbid_unknown_fields=True):
    """The mean of the members' mapped scores."""

    def __call__(self, scores: np.ndarray[Any, np.dtype[np.float64]]) -> float:
        """Combine mapped scores, float64 ``[members]``."""
        return float(np.mean(scores))


class WeightedMean(msgspec.Struct, frozen=True, tag="weighted_mean", forbid_unknown_fields=True):
    """The mean weighted by ``weights``, positive, one a member, of any sum."""

    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        positive = all(math.isfinite(weight) and weight > 0 for weight in self.weights)
        _require(positive and len(self.weights) >= 1, f"weights {self.weights}", "positive finite weights")

    def __call__(self, scores: np.ndarray[Any, np.dtype[np.float64]]) -> float:
        """Combine mapped scores, float64 ``[members]``."""
        # Relative to the largest, so that no sum of weights overflows.
        return float(np.average(scores, weights=np.asarray(self.weights) / max(self.weights)))


class Median(msgspec.Struct, frozen=True, tag="median", forbid_unknown_fields=True):
    """The median of the members' mapped scores; of an even number, the mean of the middle two."""

    def __call__(self, scores: np.ndarray[Any, np.dtype[np.float64]]) -> float:
        """Combine mapped scores, float64 ``[members]``."""
        return float(np.median(scores))


Combine = Mean | WeightedMean | Median


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A file inside the bundle."""

    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        _require(re.fullmatch("[0-9a-f]{64}", self.sha256) is not None, f"sha256 {self.sha256!r}", "64 hex digits")
        _require(self.size_bytes >= 0, f"a part of {self.size_bytes} bytes", "a size of 0 or more")


class GateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a gate saw: its kind, whether it passed, and its report as data."""

    kind: str
    passed: bool
    report: dict[str, Any]


class Artefact(msgspec.Struct, frozen=True, kw_only=True):
    """One graph of a member, for one target in one precision.

    Attributes:
        target: the form of the graph.
        precision: of the arithmetic.
        stored_as: of the weights in the file; ``int8``: of those that are quantized, the others FP32.
        files: the graph's parts, the one to open first; an OpenVINO graph has two (xml, bin), a TensorRT one its ONNX
            graph and, where one was built, the engine.
        outputs: names, ``score`` first.
        score_map: this graph's raw score -> quality.
        golden_raw: its raw score of each golden photograph.
        golden_tolerance: largest difference of a mapped score that `verify` takes for the same, in score points.
        capability: what the graph is made for, for a person: a GPU, or of INT8 a processor (`INT8_ON_VNNI`,
            `INT8_ON_X86`, `INT8_ON_ARM`); empty where anything will do.
        macs: strict multiply-adds of one photograph; None where not counted.
        parameters: of the graph; None where not counted.
        gates: reports of the gates it passed.
    """

    target: Target
    precision: Precision
    stored_as: StoredAs
    files: tuple[str, ...]
    outputs: tuple[str, ...]
    score_map: ScoreMap
    golden_raw: tuple[float, ...]
    golden_tolerance: float
    capability: str = ""
    macs: int | None = None
    parameters: int | None = None
    gates: tuple[GateRecord, ...] = ()

    def __post_init__(self) -> None:
        _require(
            1 <= len(self.files) <= 2,
            f"an artefact of files {self.files}",
            "one file, or two for OpenVINO and TensorRT",
        )
        _require("score" in self.outputs[:1], f"outputs {self.outputs}", "score first")
        _require(all(math.isfinite(raw) for raw in self.golden_raw), "golden raw scores", "finite numbers")
        positive = math.isfinite(self.golden_tolerance) and self.golden_tolerance > 0
        _require(positive, f"a golden tolerance of {self.golden_tolerance}", "one above 0")


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One network of the ensemble: its preprocessing and its artefacts."""

    name: str
    preprocess: Preprocess
    artefacts: tuple[Artefact, ...]

    def __post_init__(self) -> None:
        _require(is_plain_name(self.name), f"a member named {self.name!r}", "letters, digits, . _ -")
        _require(len(self.artefacts) >= 1, f"member {self.name!r} without artefacts", "at least one")
        kinds = [(artefact.target, artefact.precision, artefact.capability) for artefact in self.artefacts]
        _require(
            len(set(kinds)) == len(kinds),
            f"artefacts {kinds}",
            "one for each target, precision and capability",
        )


def requirements(members: Iterable[Member]) -> tuple[str, ...]:
    """What a bundle of these members must name in ``requires``, sorted.

    ``flip`` where a view has that operation, ``isotonic`` where a score map has that step.
    """
    needed: set[str] = set()
    for member in members:
        if any(isinstance(operation, Flip) for view in member.preprocess.views for operation in view.operations):
            needed.add("flip")
        if any(isinstance(step, Isotonic) for artefact in member.artefacts for step in artefact.score_map.steps):
            needed.add("isotonic")
    return tuple(sorted(needed))


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """A photograph whose answers are known.

    Attributes:
        name: for a person.
        source: part that holds the photograph's file, from which a device cuts the views again.
        views: by member name, by view name, the PNG part with the view's pixels (``T`` images one below the other).
        score: combined, in the bundle's default engine and precision.
    """

    name: str
    source: str
    views: dict[str, dict[str, str]]
    score: float


class ScoreScale(msgspec.Struct, frozen=True, kw_only=True):
    """The outer scale: ``low`` to ``high``, and whether scores compare anywhere or only inside a scene."""

    low: float = 0.0
    high: float = 100.0
    higher_is_better: bool = True
    comparable: Literal["global", "scene"] = "global"

    def __post_init__(self) -> None:
        _require(
            math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high,
            f"a scale of [{self.low}, {self.high}]",
            "finite numbers, low < high",
        )


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bundle comes from, for people: nothing here changes a score."""

    created: str
    versions: dict[str, str]
    commands: tuple[str, ...] = ()
    data: str = ""
    citation: str = ""
    licence: str = ""
    notes: dict[str, Any] = {}


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle holds.

    Fields that are not known are passed over: a later minor format may add some, and one that changes scores must also
    be named in ``requires``, which an older runtime refuses.

    Attributes:
        format: ``major.minor``.
        requires: capabilities without which it must not be used; at least the `requirements` of its members.
        extensions: anything; unknown ones are passed over.
        name: of the bundle.
        engine: what runs it unless the caller names another.
        precision: likewise.
        members: of the ensemble, in order.
        combine: of the members' mapped scores.
        scale: the outer scale.
        golden: photographs with known answers.
        provenance: where it comes from.
        parts: every other file in the bundle, by path.
    """

    format: str
    name: str
    engine: Engine
    precision: Precision
    members: tuple[Member, ...]
    combine: Combine
    scale: ScoreScale
    golden: tuple[Golden, ...]
    provenance: Provenance
    parts: dict[str, Part]
    requires: tuple[str, ...] = ()
    extensions: dict[str, Any] = {}

    def __post_init__(self) -> None:
        _require(is_plain_name(self.name), f"a bundle named {self.name!r}", "letters, digits, . _ -")
        names = [member.name for member in self.members]
        _require(1 <= len(names) <= 64, f"{len(names)} members", "1 to 64")
        _require(len(set(names)) == len(names), f"members named {names}", "a name of its own for each")
        unsaid = sorted(set(requirements(self.members)) - set(self.requires))
        # Or an older reader would call the bundle damaged, and not itself too old.
        _require(
            not unsaid,
            f"requires {list(self.requires)} with views or score maps of {unsaid}",
            "each of them in requires",
        )
        _require(len(self.golden) >= 1, "no golden photograph", "at least one, or nothing could be verified")
        if isinstance(self.combine, WeightedMean):
            agree = len(self.combine.weights) == len(names)
            _require(agree, f"{len(self.combine.weights)} weights for {len(names)} members", "one weight a member")
        used: set[str] = {photo.source for photo in self.golden}
        for member in self.members:
            for artefact in member.artefacts:
                used.update(artefact.files)
                agree = len(artefact.golden_raw) == len(self.golden)
                _require(
                    agree,
                    f"{len(artefact.golden_raw)} golden scores",
                    f"{len(self.golden)}, one a golden photo",
                )
                bounds = (artefact.score_map.low, artefact.score_map.high)
                inside = self.scale.low <= bounds[0] and bounds[1] <= self.scale.high
                _require(
                    inside,
                    f"a score map to {bounds}",
                    f"a range inside [{self.scale.low}, {self.scale.high}]",
                )
            for photo in self.golden:
                views = photo.views.get(member.name, {})
                _require(set(views) == set(member.preprocess.shapes), f"golden views {sorted(views)}", "every view")
                used.update(views.values())
        missing = sorted(used - set(self.parts))
        _require(not missing, f"parts that are used and not listed: {missing}", "each part listed")
