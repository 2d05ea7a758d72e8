"""What training on higher noise levels would gain there."""

import json

import pytest

pytest.importorskip("skimage")

import noisier
import render_results


def test_the_command_and_its_table(tmp_path):
    output = tmp_path / "noisier.json"
    # The photographs of scikit-image, and so few iterations that the energy remains the shipped one.
    noisier.main(["--output", str(output), "--images", "1", "--iterations", "1"])
    result = json.loads(output.read_text())
    assert {level: len(found) for level, found in result["levels"].items()} == {"65": 1, "75": 1}
    for level, found in result["levels"].items():
        ((name, value),) = found.items()
        assert 20 < value < 40
        found["again"] = value  # of a single image there is no standard error
        known = {"images": {name: {"psnr": value - 0.2}, "again": {"psnr": value - 0.3}}}
        (tmp_path / f"best-told-{level}.json").write_text(json.dumps(known))
    shown = render_results.noisier(result, tmp_path)
    assert "| 65 |" in shown
    assert shown.count("+0.250 ± 0.050") == 2
