"""Settings shared by all the tests."""

import os

import jaxtyping
import pytest
from hypothesis import settings

# Continuous integration repeats the same examples, so that it fails for a change and not by chance; everywhere else
# every run draws new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile("searching", deadline=None)
settings.load_profile("repeatable" if os.environ.get("CI") else "searching")


@pytest.fixture
def no_type_checks():
    """As users run the library: its own argument checks are all there is."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
