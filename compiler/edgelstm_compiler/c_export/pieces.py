"""What every package of an exported model is put together from."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgelstm.artifact import WEIGHTS_SECTION, Artifact
from edgelstm.engines.native import CODE_PREFIX
from edgelstm.errors import ArtifactFormatError, CapabilityError, TargetUnavailableError
from edgelstm.footprint import Footprint, footprint
from edgelstm.install_hint import install_hint
from edgelstm_compiler.assembly import OBJECT_PREFIX
from edgelstm_compiler.c_export.agent import agent_example, agent_header, agent_source
from edgelstm_compiler.c_export.archive import static_library
from edgelstm_compiler.c_export.golden import Golden
from edgelstm_compiler.c_export.header import public_header
from edgelstm_compiler.c_export.renaming import rename_symbols
from edgelstm_compiler.c_export.sources import example_source, model_source, selftest_source
from edgelstm_compiler.c_export.weights import WEIGHTS
from edgelstm_compiler.c_export.windows import expect_exportable, kernel_names
from edgelstm_compiler.processor import Processor, Toolchain
from edgelstm_compiler.target import find_processor, processors


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How a project is to be.

    Args:
        isa: instruction set; None: the least demanding one of the artifact.
        package: a key of `packages.PACKAGES`.
        weights: a key of `weights.WEIGHTS`.
        agent: with the agent for `edgelstm validate`.
        meanings: what inputs and outputs mean, in words for the header, by name.
    """

    isa: str | None = None
    package: str = "cmake"
    weights: str = "c"
    agent: bool = False
    meanings: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Pieces:
    """The files of a model without their places.

    Args:
        artifact: the model.
        isa: the instruction set that is exported.
        processor: whose it is.
        headers: files by name, to be included.
        sources: C, assembler and what it includes, by name: the model itself.
        selftest: sources that are linked on request; the same for `agent`.
        agent: empty where none is wanted.
        code: the object file.
        library: the same as a static library.
        examples: `main.c`, and `agent.c` where there is an agent.
        memory: flash and RAM.
    """

    artifact: Artifact
    isa: str
    processor: Processor
    headers: Mapping[str, bytes]
    sources: Mapping[str, bytes]
    selftest: Mapping[str, bytes]
    agent: Mapping[str, bytes]
    code: bytes
    library: bytes
    examples: Mapping[str, bytes]
    memory: Footprint

    @property
    def name(self) -> str:
        """Of the model, a C identifier."""
        return self.artifact.name

    @property
    def library_name(self) -> str:
        """`libNAME_kernels.a`."""
        return f"lib{self.name}_kernels.a"

    @property
    def compiler_flags(self) -> str:
        """What arm-none-eabi-gcc has to be told to make code that fits; "" for other compilers."""
        toolchain = self.processor.toolchain
        return "" if toolchain is None else toolchain.gcc

    def expect_toolchain(self, kind: str) -> Toolchain:
        """What tools for microcontrollers call the processor.

        Args:
            kind: of projects that are for them alone, in the plural.

        Raises:
            CapabilityError: it is none.
        """
        toolchain = self.processor.toolchain
        if toolchain is None:
            names = [name for name, each in processors().items() if each.toolchain is not None]
            raise CapabilityError(
                f"{kind} are for microcontrollers, this code is for {self.isa}: compile with "
                f"--target {' or '.join(names)}"
            )
        return toolchain


def make_pieces(artifact: Artifact, golden: Golden, options: ExportOptions) -> Pieces:
    """All files of a model.

    Raises:
        TargetUnavailableError: the artifact has no code for a CPU, or not this one.
        CapabilityError: a meaning is given of something that is neither input nor output, or the
            windows do what C does not.
    """
    expect_exportable(artifact.signature)
    isa, facts = _choose(artifact, options.isa)
    meanings = options.meanings or {}
    _expect_known(artifact, meanings)
    name = artifact.name
    checksum = zlib.crc32(artifact.container.section(WEIGHTS_SECTION))
    functions = ["step", "run"] if facts.get("bare") else ["step", "run", "read", "sizes"]
    names = kernel_names(artifact, functions)
    code = _named(bytes(artifact.container.section(f"{OBJECT_PREFIX}{isa}")), names)
    headers = {f"{name}.h": public_header(artifact, isa, checksum, meanings).encode()}
    examples = {"main.c": example_source(artifact).encode()}
    agent: dict[str, bytes] = {}
    if options.agent:
        headers[f"{name}_agent.h"] = agent_header(artifact).encode()
        agent[f"{name}_agent.c"] = agent_source(artifact).encode()
        examples["agent.c"] = agent_example(artifact).encode()
    return Pieces(
        artifact=artifact,
        isa=isa,
        processor=_processor(isa),
        headers=headers,
        sources={
            f"{name}.c": model_source(artifact).encode(),
            **WEIGHTS[options.weights](artifact),
        },
        selftest={f"{name}_selftest.c": selftest_source(artifact, golden).encode()},
        agent=agent,
        code=code,
        library=static_library(f"{name}_kernels.o", code, [*names.values()]),
        examples=examples,
        memory=footprint(artifact, facts),
    )


def _named(code: bytes, names: Mapping[str, str]) -> bytes:
    """The object under the names of the export.

    Raises:
        ArtifactFormatError: it lacks a function.
    """
    others = {old: new for old, new in names.items() if old != new}
    if not others:
        return code
    try:
        return rename_symbols(code, others)
    except ValueError as error:
        raise ArtifactFormatError(f"{error}: compile the model again") from error


def _choose(artifact: Artifact, isa: str | None) -> tuple[str, Mapping[str, Any]]:
    entries = artifact.manifest["target"]["facts"].get("isas") or []
    found = {str(entry["section"]).removeprefix(CODE_PREFIX): entry for entry in entries}
    found = {key: e for key, e in found.items() if f"{OBJECT_PREFIX}{key}" in artifact.sizes}
    if not found:
        raise TargetUnavailableError(
            f"an artifact for target {artifact.manifest['target']['name']!r} holds no object code: "
            f"compile for a CPU: --target {' or '.join(processors())}"
        )
    chosen = isa or list(found)[-1]
    if chosen not in found:
        raise TargetUnavailableError(
            f"the artifact has no code for {chosen!r}; it has {', '.join(found)}"
        )
    return chosen, found[chosen]


def _processor(isa: str) -> Processor:
    processor = find_processor(isa)
    if processor is None:
        known = [name for each in processors().values() for name in each.code_names]
        raise TargetUnavailableError(
            f"no installed target makes code for {isa!r}, and nobody else knows how a project for "
            f"it is built; known are {', '.join(known) or 'none'}: {install_hint('targets')}"
        )
    return processor


def _expect_known(artifact: Artifact, meanings: Mapping[str, str]) -> None:
    signature = artifact.signature
    known = [spec.name for spec in (*signature.inputs, *signature.outputs)]
    unknown = sorted(set(meanings) - set(known))
    if unknown:
        raise CapabilityError(
            f"{unknown[0]!r} is no input or output of {artifact.name}: it has {', '.join(known)}"
        )
