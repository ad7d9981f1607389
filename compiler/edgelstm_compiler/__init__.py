"""The compiler: a trained recurrent network in ONNX in, an artifact for a target out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgelstm_compiler.driver import compile_model

__all__ = ["compile_model"]


def __getattr__(name: str) -> Any:
    # Rooms below the driver import this package too: the driver is loaded when it is asked for.
    if name == "compile_model":
        from edgelstm_compiler.driver import compile_model

        return compile_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
