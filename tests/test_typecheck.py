"""What the tests check at every call: shapes and types of arrays, in the modules that have them."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError
from typecheck import typecheck, with_arrays

from metaloom.methods.model import class_weights


def test_an_array_of_another_shape_or_type_is_an_error():
    with pytest.raises(TypeCheckError, match="class_weights"):
        class_weights(torch.zeros(3), torch.float32)
    assert typecheck(inside := lambda: None) is inside  # made again whenever this function is called
    assert "metaloom.methods.model" in with_arrays() and "metaloom.cli.app" not in with_arrays()
