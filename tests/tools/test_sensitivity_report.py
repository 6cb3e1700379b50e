"""The chart and the page of a sensitivity report: bars as long as their errors, every block and every try told."""

from __future__ import annotations

import io
import re

import numpy as np
from edgeiqa.export.auto_mixed import MixedSearch
from edgeiqa.export.quant_recipe import RECIPES
from edgeiqa.export.sensitivity import BlockSensitivity, SensitivityReport
from edgeiqa.tools.report.sensitivity_charts import MOST_BLOCKS, sensitivity_png, sensitivity_svg
from edgeiqa.tools.report.sensitivity_report import sensitivity_page
from numpy.typing import NDArray
from PIL import Image

from .report_page import HOSTILE, Drawing, is_affine, read_page, series

WHOLE = 2.0


def block(name: str, alone: float, without: float) -> BlockSensitivity:
    return BlockSensitivity(
        block=name,
        macs_share=0.125,
        alone_rmse=alone,
        alone_largest=3 * alone,
        alone_shift=-0.5,
        without_rmse=without,
        without_largest=2 * without,
        without_shift=0.25,
        gain=WHOLE - without,
        alone_by_distortion={"none": alone / 2, "blur": 1.5 * alone},
        without_by_distortion={"none": without / 2, "blur": 1.5 * without},
    )


def report(*blocks: BlockSensitivity) -> SensitivityReport:
    return SensitivityReport(
        recipe=RECIPES["vit-onnx"],
        engine="onnxruntime 1.31",
        views=8,
        distortions={"none": 2, "blur": 6},
        whole_rmse=WHOLE,
        whole_largest=5.0,
        whole_shift=0.75,
        whole_by_distortion={"none": 1.0, "blur": 2.5},
        blocks=blocks,
    )


BLOCKS = (block("stem", 1.5, 0.8), block("blocks.1", 0.7, 1.9), block("head", 0.3, 2.6))


def bars(drawing: Drawing, colour: str) -> NDArray[np.float64]:
    """Both ends of each bar, ``[n, 2]``, in drawing units."""
    found = []
    for path in drawing.root.iter("{http://www.w3.org/2000/svg}path"):
        if f"fill: {colour}" in path.get("style", "") and path.get("clip-path"):
            xs = [float(x) for x in re.findall(r"[ML] (\S+) \S+", path.get("d", ""))]
            found.append((min(xs), max(xs)))
    return np.array(found).reshape(-1, 2)


def test_bars_are_as_long_as_their_errors_and_begin_at_zero() -> None:
    drawing = Drawing(sensitivity_svg(report(*BLOCKS)))
    alone, gain = bars(drawing, series(1)), bars(drawing, series(2))
    values = [(0, 1.5), (0, 0.7), (0, 0.3), (0, 1.2), (0, 0.1), (-0.6, 0)]
    assert is_affine(np.concatenate([*alone, *gain]), np.array(values).ravel())
    assert {"stem", "blocks.1", "head", "1.50, +1.20", "0.30, -0.60"} <= set(drawing.text)
    assert drawing.alt.endswith("head: 0.30 and -0.60.")


def test_of_many_blocks_the_first_are_drawn_and_it_says_so() -> None:
    many = report(*(block(f"block{place}", 1.0, 1.0) for place in range(MOST_BLOCKS + 3)))
    drawing = Drawing(sensitivity_svg(many))
    assert len(bars(drawing, series(1))) == MOST_BLOCKS
    assert f"The first {MOST_BLOCKS} of {MOST_BLOCKS + 3} blocks." in drawing.text
    assert "No block was quantized." in Drawing(sensitivity_svg(report())).alt


def test_the_png_is_the_chart_on_white() -> None:
    data = sensitivity_png(report(*BLOCKS))
    assert data == sensitivity_png(report(*BLOCKS))
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).reshape(-1, 3)
    assert (pixels[0] == 255).all() and (pixels == 255).all(axis=1).mean() > 0.5
    # Both bars' colours are there.
    assert all(
        (np.abs(pixels.astype(int) - colour).max(axis=1) < 60).any() for colour in ((11, 95, 165), (217, 72, 15))
    )


def test_the_page_tells_all_blocks_kinds_and_tries() -> None:
    search = MixedSearch(float_blocks=("stem",), tries=(((), False), (("stem",), True)))
    html = sensitivity_page("Sensitivity", report=report(*BLOCKS), search=search, facts={"engine": "onnxruntime"})
    page = read_page(html, sorts=True)
    text = " ".join(page.texts("p"))
    assert "2.00 points" in text and "+0.75" in text and "Float stay stem: 12.5% of the multiply-adds." in text
    cells = [cell.strip() for cell in page.texts("td")]
    assert {"passed", "failed", "none", "stem", "-0.60", "3.90"} <= set(cells)
    assert any("blur (6)" in heading for heading in page.texts("th"))


def test_the_page_of_a_search_without_a_result_and_of_none() -> None:
    def words(search: MixedSearch | None) -> str:
        page = read_page(sensitivity_page("S", report=report(*BLOCKS), search=search, facts={}), sorts=True)
        return " ".join(page.texts("p") + page.texts("h2"))

    assert "not even all blocks float" in words(MixedSearch(float_blocks=None, tries=(((), False),)))
    assert "None need stay float" in words(MixedSearch(float_blocks=(), tries=(((), True),)))
    assert "fewest float blocks" not in words(None)


def test_names_are_text_and_nothing_else() -> None:
    hostile = report(*(block(name, 1.0, 1.5) for name in HOSTILE))
    page = read_page(sensitivity_page(HOSTILE[0], report=hostile, search=None, facts={}), sorts=True)
    assert page.texts("h1") == [HOSTILE[0]]
