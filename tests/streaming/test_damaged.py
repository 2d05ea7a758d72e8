"""What `tests/fuzz.py` has found stays refused by documented errors, and valid files stay readable."""

import random
import warnings

import fuzz
import pytest
from fuzz_targets import TARGETS

pytest.importorskip("pyarrow", reason="some of the readers need pyarrow")
pytestmark = pytest.mark.filterwarnings("ignore")  # of other libraries about damaged files
FOUND = sorted(path for path in fuzz.CORPUS.glob("*/*"))


def refused(target, content, folder):
    """Whether the reader refuses the content; errors that are not documented are raised, subclasses included."""
    try:
        target.read(content, folder)
    except target.errors as error:
        if type(error) not in target.errors or not str(error):
            raise
        return True
    return False


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name[:6]}")
def test_what_was_found_is_refused(path, tmp_path, no_type_checks):
    assert refused(TARGETS[path.parent.name], path.read_bytes(), tmp_path)


@pytest.mark.parametrize("name", TARGETS)
def test_valid_files_are_read_and_some_damaged_ones_refused(name, tmp_path, no_type_checks):
    target, draw = TARGETS[name], random.Random(0)
    seeds = target.seeds()
    assert not all(refused(target, content, tmp_path) for content in seeds)
    mutated = (fuzz.mutate(draw, draw.choice(seeds), seeds) for _ in range(20))
    assert sum(refused(target, content, tmp_path) for content in mutated) > 1


def test_the_fuzzer_notices_what_it_is_for(tmp_path, monkeypatch):
    """A reader that unpickles, one that takes too much memory, and one that raises something else."""

    def hungry(content, folder):
        b"x" * (fuzz.MEMORY + (64 << 20))

    def crashing(content, folder):
        raise KeyError("x")

    def executing(content, folder):
        import pickle

        pickle.loads(b"cbuiltins\nlen\n.")

    watch = fuzz.Watch()
    for read, words in ((hungry, "took"), (crashing, "KeyError"), (executing, "executed")):
        monkeypatch.setitem(fuzz.TARGETS, "test", type(TARGETS["csv"])(read, list))
        assert words in (fuzz.read("test", b"", watch, tmp_path) or "")
    monkeypatch.setitem(fuzz.TARGETS, "test", type(TARGETS["csv"])(lambda content, folder: None, list))
    with warnings.catch_warnings():
        assert fuzz.read("test", b"", watch, tmp_path) is None
