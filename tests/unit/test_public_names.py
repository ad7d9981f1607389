"""What the packages show to those who explore them in an interpreter."""

from __future__ import annotations

import edgelstm
import edgelstm_compiler


def test_the_runtime_shows_its_names() -> None:
    """Every public name is there."""
    assert set(edgelstm.__all__) <= set(dir(edgelstm))


def test_the_compiler_shows_its_function() -> None:
    """`compile_model` is found by completion although it is loaded when it is first used."""
    assert "compile_model" in dir(edgelstm_compiler)
    assert callable(edgelstm_compiler.compile_model)
