from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from textwrap import dedent
from types import FunctionType

import pytest

import metaloom


def test_every_name_is_there_and_says_what_it_is():
    homes = [name for names in metaloom._HOMES.values() for name in names]
    assert sorted(homes) == sorted(metaloom.__all__)
    for name in metaloom.__all__:
        thing = getattr(metaloom, name)
        assert inspect.getdoc(thing), name
    assert set(metaloom.__all__) <= set(dir(metaloom))


def functions() -> dict[str, FunctionType]:
    """Every public function, method, class method and property, by its name."""
    found = {}
    for name in metaloom.__all__:
        thing = getattr(metaloom, name)
        members = vars(thing).items() if inspect.isclass(thing) else [(name, thing)]
        for key, each in members:
            function = getattr(each, "__func__", getattr(each, "fget", each))
            if inspect.isfunction(function) and not key.startswith("_"):
                found[function.__qualname__] = function
    return found


def test_every_function_documents_its_arguments_and_what_it_raises():
    for name, function in functions().items():
        said = inspect.getdoc(function)
        assert said, name
        arguments = [each for each in inspect.signature(function).parameters if each not in ("self", "cls")]
        described = said.partition("Args:")[2]
        assert all(re.search(rf"^ +{each}: \w", described, re.MULTILINE) for each in arguments), name
        raises = any(isinstance(node, ast.Raise) for node in ast.walk(ast.parse(dedent(inspect.getsource(function)))))
        assert not raises or "Raises:" in said, name


def test_what_is_not_there_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'Lerner'"):
        metaloom.Lerner  # noqa: B018


def test_importing_it_and_what_deploys_needs_no_torch():
    code = (
        "import sys, metaloom; metaloom.predict, metaloom.verify, metaloom.MetaloomError; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
