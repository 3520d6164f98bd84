from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import metaloom


def test_every_name_is_there_and_says_what_it_is():
    homes = [name for names in metaloom._HOMES.values() for name in names]
    assert sorted(homes) == sorted(metaloom.__all__)
    for name in metaloom.__all__:
        thing = getattr(metaloom, name)
        assert inspect.getdoc(thing), name
        members = vars(thing).items() if inspect.isclass(thing) else ()
        methods = [each for key, each in members if inspect.isfunction(each) and not key.startswith("_")]
        assert all(inspect.getdoc(each) for each in methods), name
    assert set(metaloom.__all__) <= set(dir(metaloom))


def test_what_is_not_there_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'Lerner'"):
        metaloom.Lerner  # noqa: B018


def test_importing_it_and_what_deploys_needs_no_torch():
    code = (
        "import sys, metaloom; metaloom.predict, metaloom.verify, metaloom.MetaloomError; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
