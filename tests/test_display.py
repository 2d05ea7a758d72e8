"""What notebooks show: escaped, and the same facts as in `print`."""

import xml.etree.ElementTree as ElementTree

import pytest
import torch
from torch import nn

from energysolve import SGD, Energy, EnergySolver, Solution, Status, Trainer, Uniform
from energysolve.display import card, folded
from energysolve.tasks import Addition

EVIL = "<script>alert('&\"')</script>"


def texts(html):
    """All texts, which an XML parser finds and unescapes; it refuses tags that are not closed."""
    return [text.strip() for text in ElementTree.fromstring(html).itertext() if text.strip()]


def test_all_text_is_escaped():
    html = card(EVIL, [(EVIL, EVIL)], folded(EVIL, [EVIL], [[EVIL]]))
    assert "<script" not in html
    assert texts(html) == [EVIL] * 6


def test_a_solution_shows_its_samples():
    count, status = torch.tensor([3, 30]), torch.tensor([Status.CONVERGED, Status.NONFINITE])
    energy, slope = torch.tensor([0.25, 8.0]), torch.tensor([1e-3, 2.0])
    html = Solution(torch.zeros(2, 5), None, energy, count, status, None, count + 1, slope)._repr_html_()
    found = texts(html)
    assert "1 CONVERGED, 1 NONFINITE" in found
    assert "mean 4.125, min 0.25, max 8" in found
    assert "(2, 5)" in found
    first = found.index("0")
    headings = ["sample", "status", "steps", "evaluations", "energy", "gradient norm"]
    assert found[first - 6 : first] == headings
    assert found[first:] == ["0", "CONVERGED", "3", "4", "0.25", "0.001", "1", "NONFINITE", "30", "31", "8", "2"]


def test_a_large_solution_shows_the_first_samples_and_an_empty_one_says_so():
    many = texts(Solution.of_answers(torch.zeros(1000, 2))._repr_html_())
    assert "first 10 of 1,000 samples" in many
    assert "1000 MAX_STEPS" in many
    solver = EnergySolver(lambda x, y: (x - y).square().sum(-1), init=Uniform((2,)))
    assert texts(solver.minimize(torch.zeros(0, 2))._repr_html_()) == ["Solution", "samples", "none"]


class Named(Energy):
    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(2, 3)

    def evaluate(self, context, y):
        return self.weight(y - context).square().sum(-1)

    def extra_repr(self):
        return EVIL


def test_a_solver_shows_its_parts():
    html = EnergySolver(Named(), SGD(lr=0.1), init=Uniform((2,)), max_steps=7)._repr_html_()
    found = texts(html)
    assert "<script" not in html
    assert found[found.index("optimizer") + 1] == "SGD(lr=0.1)"
    assert found[found.index("max_steps") + 1] == "7"
    assert found[found.index("parameters") + 1] == "9"
    assert EVIL in found[found.index("energy") + 1]


def test_a_solver_of_a_function_shows_its_name():
    def my_energy(x, y):
        return (x - y).square().sum(-1)

    assert any("my_energy" in text for text in texts(EnergySolver(my_energy)._repr_html_()))


@pytest.mark.filterwarnings("ignore:.*cpu.*")
def test_a_trainer_shows_where_it_is():
    trainer = Trainer(EnergySolver(Named(), SGD(0.1), init=Uniform((2,))), Addition(1), lr=0.5)
    found = texts(trainer._repr_html_())
    assert found[0] == "Trainer of Named for Addition(size=1)"
    assert "lr=0.5" in found[found.index("settings") + 1]
    assert found[found.index("iteration") + 1] == "0"
