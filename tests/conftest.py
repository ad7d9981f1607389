"""What all tests share: hypothesis profiles, golden files, the corpus of recordings and models."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

GOLDEN = Path(__file__).parent / "golden"
CORPUS = Path(__file__).parents[2] / "shared" / "corpus"
NO_CORPUS = f"the corpus is not there: {CORPUS}"

# Machines that run the tests are shared and slow: time says nothing about an example.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "fuzz",
    deadline=None,
    max_examples=3000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Before NumPy is loaded: as many tests run at once as there are cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Most of the time that compiling takes: tests of many streams ask for it.
os.environ.setdefault("EDGELSTM_STREAMS", "no")
# Most of the rest: code for other instruction sets, which only some tests load: they use
# `every_instruction_set`.
os.environ.setdefault("EDGELSTM_CPU", "best")

GoldenCheck = Callable[[str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of this suite."""
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files from what the code gives now; read the diff before you commit",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that read the corpus bear its mark, and are skipped where it is not there."""
    for item in items:
        if "corpus" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.corpus)
        if item.get_closest_marker("corpus") is not None and not CORPUS.is_dir():
            item.add_marker(pytest.mark.skip(reason=NO_CORPUS))


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder with public recordings and models; the test is skipped where it is not there."""
    if not CORPUS.is_dir():
        pytest.skip(NO_CORPUS)
    return CORPUS


@pytest.fixture(scope="module")
def every_instruction_set() -> Iterator[None]:
    """Artifacts have code for every instruction set of x86-64, as users get it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("EDGELSTM_CPU")
        yield


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> GoldenCheck:
    """Compare text with a file under tests/golden, or write it with --update-golden."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            return
        if not path.exists():
            pytest.fail(f"{path} is missing: run pytest --update-golden and read what it wrote")
        expected = path.read_text(encoding="utf-8")
        if text != expected:
            lines = difflib.unified_diff(
                expected.splitlines(), text.splitlines(), str(path), "now", lineterm=""
            )
            pytest.fail("\n".join(lines), pytrace=False)

    return check
