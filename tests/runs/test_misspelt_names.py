"""What is misspelt, or looked for in the wrong place, is answered with the name that was meant."""

from __future__ import annotations

import inspect

import pytest

import tracking_core as tracking


@pytest.mark.parametrize(
    ("function", "keywords", "meant"),
    [
        (tracking.start_run, {"confg": {}}, "did you mean 'config'"),
        (tracking.start_run, {"backend": "none"}, "did you mean 'backends'"),
        (tracking.open_store, {"rot": "."}, "did you mean 'root'"),
        (tracking.open_store, {"zzz": "."}, "it has root"),
    ],
)
def test_an_argument(function, keywords, meant):
    with pytest.raises(TypeError, match=rf"{function.__name__}\(\) got an unexpected keyword argument.*{meant}"):
        function(**keywords)
    assert tracking.current_run() is None


def test_the_signature_is_what_it_was():
    assert list(inspect.signature(tracking.start_run).parameters)[:3] == ["project", "name", "run_id"]
    assert "Start or continue a run" in tracking.start_run.__doc__


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("log", "a run has it: run = start_run(...), then run.log"),
        ("log_scalars", "a run has it"),
        ("strat_run", "did you mean 'start_run'"),
        ("nothing", "has no attribute 'nothing'"),
    ],
)
def test_an_attribute_of_the_package(name, says):
    with pytest.raises(AttributeError, match="module 'tracking_core' has no attribute") as caught:
        getattr(tracking, name)
    assert says in str(caught.value)
    assert not hasattr(tracking, name)
