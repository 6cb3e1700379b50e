"""Verify: replay a bundle's golden answers on this machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .bundle import Bundle
from .decode import open_photo
from .scorer import Scorer, combine_raw
from .views import cut_views

__all__ = ["Check", "Verification", "verify"]

VIEW_TOLERANCE = 3
"""Grey levels by which a view cut here may differ: JPEG decoders of different builds round differently."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was compared.

    Attributes:
        what: was compared.
        difference: largest that was seen, in ``unit``.
        tolerance: largest that passes.
        unit: of both.
    """

    what: str
    difference: float
    tolerance: float
    unit: str

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance; NaN is not."""
        return self.difference <= self.tolerance


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` saw: engine, version, precision, and each check."""

    bundle: str
    engine: str
    engine_version: str
    precision: str
    parts: int
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def verify(scorer: Scorer) -> Verification:
    """Check every part's hash, then each golden photograph: its views, its members' scores, its combined score.

    Scores are computed from the stored views, so they show the engine alone; views are cut again from the stored
    photograph, so they show decoding and resizing alone.

    Raises:
        BundleHashError: a part is not what the manifest says.
        BundleFormatError: a golden view is no PNG of its view's shape.
        PhotoError: a golden photograph cannot be read here.
        EngineError: a graph's result is not finite.
    """
    bundle: Bundle = scorer.bundle
    manifest = bundle.manifest
    for name in manifest.parts:
        bundle.read(name)
    checks: list[Check] = []
    for index, golden in enumerate(manifest.golden):
        source = bundle.read(golden.source)
        raw: dict[str, float] = {}
        for member in manifest.members:
            artefact = scorer.artefacts[member.name]
            stored = bundle.golden_views(golden, member)
            cut = cut_views(open_photo(source, member.preprocess).image, member.preprocess)
            levels = max(int(np.abs(cut[view].astype(int) - stored[view].astype(int)).max()) for view in stored)
            checks.append(Check(f"{golden.name}: {member.name}: views", levels, VIEW_TOLERANCE, "grey levels"))
            raw[member.name] = scorer.run_views(member.name, stored)
            expected = float(artefact.score_map.apply(artefact.golden_raw[index]))
            difference = abs(float(artefact.score_map.apply(raw[member.name])) - expected)
            checks.append(
                Check(
                    f"{golden.name}: {member.name}: score",
                    difference,
                    artefact.golden_tolerance,
                    "score points",
                )
            )
        stored_raw = {name: artefact.golden_raw[index] for name, artefact in scorer.artefacts.items()}
        expected_score = combine_raw(manifest, scorer.artefacts, stored_raw)[0]
        if (scorer.engine, scorer.precision) == (manifest.engine, manifest.precision):
            expected_score = golden.score
        tolerance = max(artefact.golden_tolerance for artefact in scorer.artefacts.values())
        difference = abs(scorer.combine(raw)[0] - expected_score)
        checks.append(Check(f"{golden.name}: combined score", difference, tolerance, "score points"))
    return Verification(
        bundle=manifest.name,
        engine=scorer.engine,
        engine_version=scorer.engine_version,
        precision=scorer.precision,
        parts=len(manifest.parts),
        checks=tuple(checks),
    )
