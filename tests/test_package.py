"""What the package promises as a whole: light to import, imports that point one way, the names of DESIGN."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import energysolve

ROOT = Path(__file__).parents[1]
NAMES = """
    EnergySolver Energy MLPEnergy Solution Status StepInfo SGD Momentum Adam RMSProp TorchOpt Projected
    Halting halting EnergyChange GradientNorm StepNorm TargetEnergy EnergyIncrease After Never Detached Unroll
    Truncated Implicit Uniform Normal Zeros FromInput Nothing BestSoFar Trajectory Dense Segment compose
    Box Ball Simplex CG Trainer LeastSquares LBFGS Backtracking NewtonCG LevenbergMarquardt FixedPoint Clipped
""".split()  # noqa: SIM905
MODULES = sorted((ROOT / "energysolve").rglob("*.py"))


def test_the_public_names():
    assert sorted(energysolve.__all__) == sorted(NAMES)
    assert all(hasattr(energysolve, name) for name in NAMES)


def test_the_trainer_is_imported_at_its_first_use():
    assert "Trainer" in dir(energysolve)
    assert energysolve.Trainer.__module__.startswith("energysolve.training")
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        energysolve.Nonsense  # noqa: B018


def test_importing_stays_light():
    program = "import sys, energysolve; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "torchopt" in loaded
    heavy = {"accelerate", "torch_geometric", "huggingface_hub", "hypothesis", "matplotlib", "typer", "rich", "scipy"}
    heavy |= {"ray", "pyarrow", "pandas", "PIL", "skimage", "tifffile", "bm3d", "dash", "plotly", "flask"}
    assert not heavy & set(loaded)


def test_imports_point_one_way():
    found = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_stay_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert not body or body[-1].end_lineno - body[0].lineno < 40, node.name
