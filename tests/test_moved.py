"""Import paths of version 0.1 that the documentation named still work, and say where to go."""

import importlib
import sys

import pytest

import surrogate
from surrogate.moved import MOVED


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_path_leads_to_the_new_module(old: str, new: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=new.replace(".", r"\.")):
        module = importlib.import_module(old)
    assert module is importlib.import_module(new)


def test_public_names_are_found_where_they_live() -> None:
    for name in surrogate.__all__:
        assert getattr(surrogate, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = surrogate.nothing
