"""Memory that a running kernel shares with the host: what each side sees, and when."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from tests.cuda.emulator.machine import Launch, Machine
from tests.cuda.test_emulator import HEAD

BELL, ANSWER = 64, 65  # elements of the shared array behind 64 values


def talk(body: str, host: Callable[[np.ndarray, np.ndarray], None]) -> np.ndarray:
    """Run a body on x (shared with the host, words at its end) and y; the host acts meanwhile."""
    x, y = np.zeros(66, np.float32), np.zeros(64, np.float32)
    launch = Launch(1, 64, 512)
    machine = Machine(HEAD + body + "\n\tret;\n}\n", "k", launch, [x, y], None, [x])
    thread = threading.Thread(target=machine.run, args=(200_000,), daemon=True)
    thread.start()
    host(x, x.view(np.uint32))
    thread.join(20)
    assert not thread.is_alive()
    return y


def wait_for(words: np.ndarray, place: int) -> None:
    """Until the kernel wrote 1 there."""
    end = time.monotonic() + 20
    while words[place] != 1:
        assert time.monotonic() < end
        time.sleep(0)


def poll(scope: str) -> str:
    """Wait until the bell is rung."""
    return f"""
$L1:
	ld.{scope}.global.u32 %r3, [%rd1+{4 * BELL}];
	nanosleep.u32 20;
	setp.eq.s32 %p1, %r3, 0;
	@%p1 bra $L1;
	ld.global.f32 %f1, [%rd4];
	st.global.f32 [%rd5], %f1;
"""


@pytest.mark.parametrize(
    ("scope", "seen"), [("acquire.sys", 7.0), ("relaxed.sys", 0.0), ("volatile", 0.0)]
)
def test_an_acquire_shows_what_the_host_wrote_before(scope: str, seen: float) -> None:
    """Other loads of the bell see the bell alone; the values beside it stay what they were."""

    def host(x: np.ndarray, words: np.ndarray) -> None:
        x[:64] = 7
        words[BELL] = 1

    np.testing.assert_array_equal(talk(poll(scope), host), np.full(64, seen))


@pytest.mark.parametrize(("order", "seen"), [("release", 3.0), ("relaxed", 0.0)])
def test_a_release_shows_the_host_what_was_stored_before(order: str, seen: float) -> None:
    """Without it the host finds the word of the answer, and old values beside it."""
    body = f"""
	mov.f32 %f2, 0f40400000;
	st.global.f32 [%rd4], %f2;
	barrier.sync.aligned 0, 64;
	mov.u32 %r4, 1;
	st.{order}.sys.global.u32 [%rd1+{4 * ANSWER}], %r4;
""" + poll("acquire.sys")
    found = []

    def host(x: np.ndarray, words: np.ndarray) -> None:
        wait_for(words, ANSWER)
        found.append(x[:64].copy())
        words[BELL] = 1

    assert talk(body, host)[0] == 3.0  # the kernel's own view
    np.testing.assert_array_equal(found[0], np.full(64, seen))


def test_a_fence_orders_both_ways() -> None:
    """Behind it the host's values are there, before it the kernel's are out."""
    body = poll("relaxed.sys").replace(
        "\tld.global.f32 %f1", "\tfence.acq_rel.sys;\n\tld.global.f32 %f1"
    )

    def host(x: np.ndarray, words: np.ndarray) -> None:
        x[:64] = 5
        words[BELL] = 1

    np.testing.assert_array_equal(talk(body, host), np.full(64, 5.0))


def test_the_clock_goes_on() -> None:
    """%globaltimer counts nanoseconds, more of them the more is executed."""
    x, y = np.zeros(64, np.float32), np.zeros(64, np.float32)
    body = """
	mov.u64 %rd6, %globaltimer;
	bra.uni $L1;
$L1:
	mov.u64 %rd7, %globaltimer;
	sub.s64 %rd6, %rd7, %rd6;
	cvt.u32.u64 %r3, %rd6;
	cvt.rn.f32.u32 %f1, %r3;
	st.global.f32 [%rd5], %f1;
"""
    Machine(HEAD + body + "\n\tret;\n}\n", "k", Launch(1, 64, 512), [x, y]).run()
    assert (y > 0).all()
