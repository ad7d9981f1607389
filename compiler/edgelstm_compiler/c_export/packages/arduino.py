"""An Arduino library: sources in src/, the compiled model in src/CPU/, sketches in examples/.

Source: Arduino library specification, revision 2.2. `precompiled=true` and not `full`: with `full`
the sources beside a precompiled library are not compiled, and here both are needed.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgelstm_compiler.c_export.names import comment
from edgelstm_compiler.c_export.packages.readme import made_by, memory_table, remarks
from edgelstm_compiler.c_export.pieces import Pieces


def arrange(pieces: Pieces) -> dict[str, bytes]:
    """The files by path.

    Raises:
        CapabilityError: the code is for another processor than Arduino's cores know.
    """
    toolchain = pieces.expect_toolchain("Arduino libraries")
    name = pieces.name
    parts = (pieces.headers, pieces.sources, pieces.selftest, pieces.agent)
    files = {f"src/{file}": text for part in parts for file, text in part.items()}
    files[f"src/{pieces.isa}/{pieces.library_name}"] = pieces.library
    files["library.properties"] = _properties(pieces, toolchain.arduino).encode()
    files["keywords.txt"] = _keywords(name).encode()
    files["README.md"] = _readme(pieces).encode()
    files["examples/SelfTest/SelfTest.ino"] = _selftest_sketch(pieces).encode()
    if pieces.agent:
        files["examples/Agent/Agent.ino"] = _agent_sketch(name).encode()
    return files


def _library_name(name: str) -> str:
    """A name that Arduino takes: it starts with a letter or digit and has at most 63 characters."""
    return (name.lstrip("_") or "model")[:63]


def _properties(pieces: Pieces, architectures: Sequence[str]) -> str:
    artifact = pieces.artifact
    source = comment(artifact.manifest["source"]["file"]) or "an ONNX model"
    return f"""\
name={_library_name(pieces.name)}
version=1.0.0
author=edgelstm {artifact.manifest["edgelstm"]}
maintainer=edgelstm
sentence={pieces.name}: a recurrent network, compiled ahead of time for {pieces.isa}.
paragraph=Made from {source} by edgelstm. No allocation, no interpreter. {remarks(pieces)}
category=Data Processing
url=https://example.com
architectures={",".join(architectures)}
includes={pieces.name}.h
precompiled=true
ldflags=-l{pieces.name}_kernels
"""


def _keywords(name: str) -> str:
    types = [f"{name}_{kind}\tKEYWORD1" for kind in ("state", "scratch", "input", "output")]
    functions = ("init", "reset", "step", "run", "checksum", "selftest")
    return "\n".join([*types, *(f"{name}_{f}\tKEYWORD2" for f in functions), ""])


def _selftest_sketch(pieces: Pieces) -> str:
    name = pieces.name
    return f"""\
// Checks {name} on this board: its weights, and known inputs and outputs. Then steps it.
#include <{name}.h>

static {name}_state state;
static {name}_scratch scratch;
static {name}_input in;
static {name}_output out;

void setup() {{
  Serial.begin(115200);
  while (!Serial) {{
  }}
  const long result = {name}_selftest(&state, &scratch);
  if (result == 0) {{
    Serial.println("{name}: PASS");
  }} else {{
    Serial.print("{name}: FAIL ");
    Serial.println(result);
  }}
  {name}_init(&state, &scratch);
}}

void loop() {{
  // Fill `in` with a sample of your sensor here.
  const unsigned long start = micros();
  const long refused = {name}_step({name}_weights, &state, &scratch, &in, &out);
  const unsigned long taken = micros() - start;
  Serial.print(refused);
  Serial.print(" microseconds: ");
  Serial.println(taken);
  delay(1000);
}}
"""


def _agent_sketch(name: str) -> str:
    return f"""\
// Lets a computer validate {name} on this board: edgelstm validate FILE --on serial://PORT
#include <{name}_agent.h>

static {name}_state state;
static {name}_scratch scratch;

static int get(void *) {{
  while (!Serial.available()) {{
  }}
  return Serial.read();
}}

static void put(void *, uint8_t value) {{
  Serial.write(value);
}}

static uint32_t ticks(void *) {{
  return micros();
}}

void setup() {{
  Serial.begin(115200);
}}

void loop() {{
  const {name}_port port = {{get, put, ticks, 1000000, nullptr}};
  {name}_agent(&state, &scratch, &port);
}}
"""


def _readme(pieces: Pieces) -> str:
    name = pieces.name
    return f"""\
# {name}: an Arduino library for {pieces.isa}

{made_by(pieces)} `src/{name}.h` says how to use it, the sketch SelfTest shows it.
{remarks(pieces)}

Put this folder into `libraries` of your sketchbook. It needs Arduino IDE 1.8.13 or arduino-cli
0.11, which know precompiled libraries with sources. The compiled model in `src/{pieces.isa}` links
with every floating-point convention (`-mfloat-abi`) of a board's core. `maintainer` and `url` in
library.properties are for you to fill in before you publish it.

{memory_table(pieces)}"""
