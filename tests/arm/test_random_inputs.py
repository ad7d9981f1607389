"""Exported C on this machine with random inputs: under sanitizers and under valgrind."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgelstm_compiler import compile_model
from tests.arm.c_project import build, export, run, tool
from tests.arm.integer_models import in_integers, save
from tests.models import stacked_model

pytestmark = pytest.mark.tvm
pytest.importorskip("tvm")

# Every block is as large as the header says and not a byte larger, weights included, so that a
# touch beside any of them is seen. Inputs are any bits; some floats are the worst.
MAIN = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "net.h"

static uint32_t seed = 1;

static uint32_t draw(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static void *room(size_t size)
{
    void *found = NULL;
    if (posix_memalign(&found, NET_ALIGNMENT, size) != 0) {
        exit(2);
    }
    return found;
}

static void fill(unsigned char *block, size_t size)
{
    static const uint32_t worst[8] = {
        0u, 0x80000000u, 0x7f7fffffu, 0xff7fffffu, 1u, 0x7f800000u, 0x7fc00000u, 0xffffffffu
    };
    size_t i;
    for (i = 0; i + 4 <= size && NET_FLOATS; i += 4) {
        float value = ((float)(draw() % 20001u) - 10000.0f) / 1000.0f;
        memcpy(block + i, draw() % 64 == 0 ? (const void *)&worst[draw() % 8] : &value, 4);
    }
    for (i = 0; i < size && !NET_FLOATS; ++i) {
        block[i] = (unsigned char)draw();
    }
}

int main(void)
{
    unsigned char *weights = room(NET_WEIGHTS_BYTES), *state = room(NET_STATE_BYTES);
    unsigned char *scratch = room(NET_SCRATCH_BYTES), *before = room(NET_STATE_BYTES);
    unsigned char *in = malloc(NET_INPUT_BYTES), *out = malloc(NET_OUTPUT_BYTES);
    unsigned char *ins = malloc(40 * NET_INPUT_BYTES), *outs = malloc(40 * NET_OUTPUT_BYTES);
    int refused = 0, taken = 0, step, code;
    memcpy(weights, net_weights, NET_WEIGHTS_BYTES);
    net_init((net_state *)state, (net_scratch *)scratch);
    for (step = 0; step < STEPS; ++step) {
        fill(in, NET_INPUT_BYTES);
        memcpy(before, state, NET_STATE_BYTES);
        code = net_step(weights, state, scratch, in, out) < 0;
        if (code != 0 && memcmp(before, state, NET_STATE_BYTES) != 0) {
            return 3; /* refused, and changed all the same */
        }
        code != 0 ? ++refused : ++taken;
        for (code = 0; code < NET_OUTPUT_BYTES; ++code) {
            refused += out[code] * 0; /* read it: valgrind knows who wrote it */
        }
        if (step % 50 == 49) {
            fill(ins, 40 * NET_INPUT_BYTES);
            net_run(weights, state, scratch, ins, outs, 40);
        }
    }
    printf("%d %d\n", taken, refused);
    free(weights);
    free(state);
    free(scratch);
    free(before);
    free(in);
    free(out);
    free(ins);
    free(outs);
    return 0;
}
"""
# Every way into the heap is ours and counts; the model may use none of them.
INTERPOSED = r"""
#include <stddef.h>
#include "net.h"
static int calls;
void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *old, size_t size);
void free(void *old);
int posix_memalign(void **found, size_t alignment, size_t size);
void *malloc(size_t size) { (void)size; ++calls; return NULL; }
void *calloc(size_t count, size_t size) { (void)count; (void)size; ++calls; return NULL; }
void *realloc(void *old, size_t size) { (void)old; (void)size; ++calls; return NULL; }
void free(void *old) { calls += old != NULL; }
int posix_memalign(void **found, size_t alignment, size_t size)
{
    (void)found; (void)alignment; (void)size; ++calls; return 12;
}
static net_state state;
static net_scratch scratch;
static net_input in[50];
static net_output out[50];
int main(void)
{
    int before = calls, code;
    net_init(&state, &scratch);
    code = net_step(net_weights, &state, &scratch, in, out) < 0;
    code |= net_run(net_weights, &state, &scratch, in, out, 50);
    code |= net_selftest(&state, &scratch);
    net_reset(&state);
    return code != 0 || calls != before;
}
"""
SCHEMES = ("fp32", "int8-full", "int8-full, integers outside")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fields = {"hidden": 19, "features": 5, "steps": None, "head": "sequence"}
    return save(stacked_model(ops=("LSTM", "GRU"), **fields), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=SCHEMES)
def project(request: pytest.FixtureRequest, model: Path, tmp_path_factory) -> Path:
    scheme = request.param
    if scheme == "fp32":
        artifact = compile_model(model, name="net", check=False)
    else:
        artifact = in_integers(model, "host", name="net", integer_io="outside" in scheme)
    folder = export(artifact, tmp_path_factory.mktemp("c"), model=model)
    floats = int(artifact.signature.inputs[0].dtype.is_float)
    (folder / "random.txt").write_text(f"#define NET_FLOATS {floats}\n{MAIN}")
    return folder


def _main(project: Path, steps: int, folder: Path) -> Path:
    main = folder / "random.c"
    start = "#define _POSIX_C_SOURCE 200112L\n"
    main.write_text(f"{start}#define STEPS {steps}\n{(project / 'random.txt').read_text()}")
    return main


def _expect_both(printed: str, project: Path) -> None:
    """Steps were taken; with floats some were refused as well."""
    taken, refused = map(int, printed.split())
    assert taken > 50
    has_floats = "NET_FLOATS 1" in (project / "random.txt").read_text()
    assert (refused > 0) == has_floats


def test_sanitizers(project: Path, tmp_path: Path) -> None:
    """Address and undefined behaviour, leaks included: nothing is found in 2,000 steps."""
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    program = build(project, *flags, main=_main(project, 2000, tmp_path))
    _expect_both(run(program).stdout, project)


def test_valgrind(project: Path, tmp_path: Path) -> None:
    """Compiled kernels touch nothing beside their blocks, and use nothing that nobody wrote."""
    valgrind = tool("valgrind")
    program = build(project, "-O1", "-g", main=_main(project, 200, tmp_path))
    done = run(valgrind, "-q", "--error-exitcode=9", "--leak-check=full", program)
    _expect_both(done.stdout, project)


def test_nothing_is_allocated(project: Path, tmp_path: Path) -> None:
    """Malloc and its kin are ours in this program; the model calls none of them."""
    main = tmp_path / "interposed.c"
    main.write_text(INTERPOSED)
    run(build(project, "-O1", main=main))
