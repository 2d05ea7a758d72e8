"""Whatever the page sends is checked: names from the lists, finite numbers in their ranges, and nothing else."""

import math

import pytest

from energysolve.explore.settings import CRITERIA, OPTIMIZERS, Method, Settings

PAGE = {
    "problem": 3,
    "kind": "coordinates",
    "first": 2,
    "second": 5,
    "optimizers": ["LBFGS", None, "SGD"],
    "steps": [0.5, None, 0.25],
    "criterion": "EnergyChange",
    "tolerance": 1e-3,
    "max_steps": 50,
    "start": [1, 2.5],
    "view": [-1, 1, -2.0, 2],
}


def settings(**changes):
    return Settings.of(PAGE | changes, problems=None, size=6, own=False)


def test_good_values_become_settings():
    methods = (Method("LBFGS", 0.0), None, Method("SGD", 0.25))
    expected = Settings(3, (2, 5), methods, "EnergyChange", 1e-3, 50, (1.0, 2.5), (-1.0, 1.0, -2.0, 2.0))
    assert settings() == expected
    assert hash(settings()) == hash(expected)
    assert settings(kind="principal", first=None).plane is None
    assert Settings.of(PAGE | {"first": None}, problems=None, size=2, own=False).plane == (1, 2)
    assert settings(criterion="Never", tolerance=None).tolerance == 0
    assert settings(criterion="TargetEnergy", tolerance=-3).tolerance == -3


BAD = [
    ("problem", [-1, 1.5, None, "0", True, 2**40, math.nan, [0]], "problem must be a whole number"),
    ("kind", ["", None, 3, "__class__", ["principal"]], "There is no plane"),
    ("first", [0, 7, None, "1", 5], "element|different"),
    ("optimizers", [["os.system", None, None], [{}, None, None], [3, None, None]], "There is no optimizer A"),
    ("optimizers", [["own", None, None]], "There is no optimizer A 'own'"),
    ("optimizers", ["LBFGS", None, [], ["LBFGS"] * 4, {"A": "LBFGS"}], "must send 3 values"),
    ("optimizers", [[None, None, None], ["", "", None]], "Choose an optimizer"),
    ("steps", [[1, 1, -1.0], [1, 1, math.nan], [1, 1, math.inf], [1, 1, None], [1, 1, "1"]], "step size of C must be"),
    ("criterion", ["own", None, "eval", 0, ["Never"]], "There is no halting criterion"),
    ("tolerance", [-1, None, math.nan, "1e-3", True, 1e300], "tolerance must be a number of 0 or more"),
    ("max_steps", [0, 2001, None, 10.5, "10"], "number of steps must be"),
    ("start", [[1], [1, 2, 3], "12", {"x": 1}, 5], "must send 2 values as start"),
    ("start", [[math.nan, 1], [None, 1], ["1", 2], [1, 1e300], [[1], 2]], "start must be a number"),
    ("view", [[1, -1, 0, 1], [0, 1, 0, 0]], "left, right, bottom, top"),
    ("view", [[0, 1], "abcd", [0, 1, 0, math.inf]], "view"),
]


@pytest.mark.parametrize(("name", "values", "said"), BAD, ids=[f"{name}: {said}" for name, _, said in BAD])
def test_bad_values_are_refused(name, values, said):
    for value in values:
        with pytest.raises(ValueError, match=said):
            settings(**{name: value})


def test_a_missing_value_is_refused():
    for name in PAGE:
        page = {key: value for key, value in PAGE.items() if key != name}
        if name in ("start", "view"):
            assert getattr(Settings.of(page, problems=None, size=6, own=False), name) is None
        else:
            with pytest.raises(ValueError, match=r"must|choose|Choose|two different"):
                Settings.of(page, problems=None, size=6, own=False)


def test_what_a_saved_solver_offers_and_the_rows_of_a_file():
    page = PAGE | {"optimizers": ["own", None, None], "criterion": "own"}
    assert Settings.of(page, problems=4, size=6, own=True).methods[0] == Method("own", 0.0)
    with pytest.raises(ValueError, match="from 0 to 2, got 3"):
        Settings.of(page, problems=3, size=6, own=True)


@pytest.mark.parametrize("made", [*OPTIMIZERS.items(), *CRITERIA.items()], ids=lambda made: made[0])
def test_every_name_makes_what_it_says(made):
    name, make = made
    assert type(make(0.5)).__name__ == name
