"""Rows of a parametrized test that repeat on another variant what a quicker row shows."""

import pytest


def slow(*values):
    """A row that `make test-all` alone has."""
    return pytest.param(*values, marks=pytest.mark.slow)


def slow_compiled(*values):
    """A row that CI has on PyTorch alone, where no step is compiled first."""
    return pytest.param(*values, marks=pytest.mark.slow_compiled)
