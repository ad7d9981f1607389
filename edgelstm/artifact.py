"""Class `Artifact`: a compiled model, from a file or straight from the compiler.

The manifest is a JSON object:

```
format        2; 1 where compiled code returns no mask of new outputs
edgelstm      version that compiled it
signature     Signature.to_json()
target        {"name", "engine", "options": {...}, "facts": {...}}
              facts of compiled code: "isas": [{"section", "requires": [cpu flags], "cpu",
              "text_bytes", "rodata_bytes", "data_bytes"}], best first; for microcontrollers also
              "bare": true and "stack_bytes" (null where it is not known)
memory        {"weights_bytes", "state_bytes", "scratch_bytes"}
source        {"sha256", "file", "producer", "opset"}              of the ONNX model
check         {"done", "against", "max_error", ...}                of the self-check
macs          multiply-accumulates of one step (stream) or call
layers        [{"name", "kind", "params", "macs", ...}]
options       of the compilation
description   Description.to_json() where there is any: columns, units, ranges, rate, class labels
window        {"frames"} where the model was trained on windows of one length and is stepped
warnings      [text] about the model as a stream
quantization  {"scheme", "layers", "outputs", ...} where there is any, by the compiler's quant room
identity      SHA-256 of constants, recipe and signature: snapshots fit artifacts of equal identity
provenance    {"edgelstm", "packages": {name: version}}            what made it
```
Sections: `weights`, `state_init`, `header.h`, and the target's: `code/ISA` with `object/ISA` (for
`export-c`; never loaded), or `program`. `known/inputs` and `known/outputs` hold blocks of some
steps from a fresh state, as the reference engine computed them, for self-tests; `known/frames` and
`known/answers` those of a window model.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, overload

from edgelstm.container import FORMAT_VERSION, Container
from edgelstm.description import Description
from edgelstm.engines import find_engine
from edgelstm.engines.base import Kernel, OffersDoorbell
from edgelstm.errors import (
    ArtifactFormatError,
    CapabilityError,
    EdgeLSTMError,
    TargetUnavailableError,
    UntrustedArtifactError,
)
from edgelstm.manifest import contradictions, read_manifest
from edgelstm.outputs import Protected
from edgelstm.sessions import Session, mode_of
from edgelstm.signature import Signature
from edgelstm.snapshot import model_id
from edgelstm.stream_set import StreamSet
from edgelstm.trust import TrustedKey, TrustStore, signature_of, store_in_force
from edgelstm.version import VERSION

HEADER_SECTION = "header.h"
STATE_SECTION = "state_init"
WEIGHTS_SECTION = "weights"
KNOWN_INPUTS = "known/inputs"
KNOWN_OUTPUTS = "known/outputs"
KNOWN_FRAMES = "known/frames"
KNOWN_ANSWERS = "known/answers"


class Artifact:
    """A compiled model: immutable, shared by all of its sessions.

    Args:
        container: what the file holds.

    Raises:
        ArtifactFormatError: the manifest and the sections contradict each other.
    """

    __slots__ = (
        "_container",
        "_description",
        "_is_borrowed",
        "_kernel",
        "_lock",
        "_refusal",
        "_signature",
        "_signed_by",
    )

    def __init__(self, container: Container) -> None:
        self._container = container
        self._signature = _check(container)
        self._description = _read_description(container, self._signature)
        self._kernel: Kernel | None = None
        self._refusal: EdgeLSTMError | None = None
        self._signed_by: TrustedKey | None = None
        self._is_borrowed = False
        self._lock = threading.Lock()

    @classmethod
    def create(
        cls,
        *,
        signature: Signature,
        engine: str,
        target: str,
        weights: bytes,
        state_init: bytes,
        scratch_bytes: int,
        sections: Mapping[str, bytes],
        header: str = "",
        options: Mapping[str, Any] | None = None,
        target_options: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        source: Mapping[str, Any] | None = None,
        check: Mapping[str, Any] | None = None,
        macs: int = 0,
        layers: Sequence[Mapping[str, Any]] = (),
        quantization: Mapping[str, Any] | None = None,
        identity: str | None = None,
        provenance: Mapping[str, Any] | None = None,
        description: Description | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """Put together what the compiler made; nothing is written to disk.

        Args:
            signature: what goes in and out.
            engine: which of `edgelstm.engines` runs it.
            target: name of the target that made it.
            weights: the weight blob.
            state_init: the state block before the first step.
            scratch_bytes: size of the working memory.
            sections: the target's sections, `code/x86-64-v3` or `program`.
            header: the C header.
            options: of the compilation.
            target_options: of the target.
            facts: of the target, see above.
            source: of the ONNX model, see above.
            check: of the self-check, see above.
            macs: multiply-accumulates of one step.
            layers: one JSON object each.
            quantization: schemes and errors, None where everything is in float32.
            identity: see above; None: the source and the signature stand for it.
            provenance: see above.
            description: columns, units, ranges, rate and class labels, where they are known.
            notes: further entries of the manifest: `window`, `warnings`.
        """
        manifest: dict[str, Any] = {
            "format": FORMAT_VERSION,
            "edgelstm": VERSION,
            "signature": signature.to_json(),
            "target": {
                "name": target,
                "engine": engine,
                "options": dict(target_options or {}),
                "facts": dict(facts or {}),
            },
            "memory": {
                "weights_bytes": len(weights),
                "state_bytes": len(state_init),
                "scratch_bytes": scratch_bytes,
            },
            "source": {"sha256": "", "file": "", "producer": "", "opset": None, **(source or {})},
            "check": {"done": False, "against": None, "max_error": None, **(check or {})},
            "macs": macs,
            "layers": [dict(layer) for layer in layers],
            "options": dict(options or {}),
        }
        if quantization is not None:
            manifest["quantization"] = dict(quantization)
        if identity is not None:
            manifest["identity"] = identity
        if provenance is not None:
            manifest["provenance"] = dict(provenance)
        if description:
            manifest["description"] = description.to_json()
        manifest.update(notes or {})
        content = {
            WEIGHTS_SECTION: weights,
            STATE_SECTION: state_init,
            HEADER_SECTION: header.encode(),
            **sections,
        }
        return cls(Container(manifest, content))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        mmap: bool = False,
        trust: str | os.PathLike[str] | None = None,
    ) -> Artifact:
        """Read a file; see `edgelstm.load`."""
        store = store_in_force() if trust is None else TrustStore(Path(trust))
        if store is not None and mmap:
            raise UntrustedArtifactError(
                f"{path}: a mapped file can be changed after its signature was checked; load it "
                "without mmap (--mmap)"
            )
        try:
            artifact = cls(Container.read(path, mmap=mmap))
        except ArtifactFormatError as exc:
            if str(path) in str(exc):
                raise
            raise ArtifactFormatError(f"{path}: {exc}") from exc
        if store is not None:
            artifact._check_signature(store, path, is_strict=trust is not None)
        return artifact

    def _check_signature(
        self, store: TrustStore, path: str | os.PathLike[str], *, is_strict: bool
    ) -> None:
        """See who signed what was read; without such a signature it is only to be looked at."""
        try:
            self._signed_by = store.verify(self._container.digest, signature_of(path), str(path))
        except (UntrustedArtifactError, TargetUnavailableError) as exc:
            if is_strict:
                raise
            self._refusal = exc  # the latter where the package that checks signatures is missing

    def save(self, path: str | os.PathLike[str], *, protect: Iterable[Protected] = ()) -> int:
        """Write the file, whole or not at all; equal artifacts give equal bytes.

        Args:
            path: where to. A FIFO or a device is written into.
            protect: files that must not be written over, such as the model.

        Returns:
            How many bytes it has.

        Raises:
            ArtifactError: it cannot be written.
        """
        return self._container.write(path, protect)

    @overload
    def session(self, streams: None = None, *, latency: str | None = None) -> Session: ...

    @overload
    def session(
        self, streams: int, *, check_states: bool = True, threads: int = 1
    ) -> StreamSet: ...

    def session(
        self,
        streams: int | None = None,
        *,
        latency: str | None = None,
        check_states: bool = True,
        threads: int = 1,
    ) -> Session | StreamSet:
        """A new stream through the model, with its initial state; or many, stepped together.

        Args:
            streams: None for one stream; else how many places for streams there are, which are
                stepped together.
            latency: None, or "doorbell": on a GPU, a kernel stays there and waits for frames. It
                takes that part of the GPU for itself while frames come; one stream only.
            check_states: for many streams only. A model with unbounded activations can bring its
                state to infinity; one stream is checked in every step, many cannot be. False
                accepts that a stream to which it happens gives NaN until it is reset. Compiled code
                for CPUs checks them all.
            threads: for many streams on a CPU only: how many threads share them.

        Raises:
            TargetUnavailableError: this machine cannot run the artifact.
            CapabilityError: the engine has no such sessions: `streams`, or `latency`.
        """
        if latency is not None and (latency != "doorbell" or streams is not None):
            raise ValueError(f"latency={latency!r} with streams={streams!r}: see Artifact.session")
        if streams is None and not (check_states and threads == 1):
            raise ValueError(
                "check_states=False and threads are for many streams: see Artifact.session"
            )
        memory = self.manifest["memory"]
        if streams is not None:
            return StreamSet(
                kernel=self.kernel,
                signature=self._signature,
                state_init=self._container.section(STATE_SECTION),
                scratch_bytes=memory["scratch_bytes"],
                streams=streams,
                model_id=self.model_id,
                check_states=check_states,
                threads=threads,
            )
        return mode_of(self._signature.mode).session_of(self._signature)(
            kernel=self.kernel if latency is None else self._kernel_with_doorbell(),
            signature=self._signature,
            state_init=self._container.section(STATE_SECTION),
            scratch_bytes=memory["scratch_bytes"],
            model_id=self.model_id,
        )

    @property
    def kernel(self) -> Kernel:
        """The model made ready to run on this machine; done once, shared by all sessions.

        Raises:
            TargetUnavailableError: this machine cannot run the artifact.
            UntrustedArtifactError: `EDGELSTM_TRUST` is set, and no trusted key signed the file.
        """
        with self._lock:
            if self._kernel is None:
                if self._refusal is not None:
                    raise self._refusal
                engine = find_engine(self.manifest["target"]["engine"])
                self._kernel = engine.load(self._container, self._signature.of_kernel)
            return self._kernel

    @property
    def runs_as(self) -> Mapping[str, str]:
        """What would run the model here: `engine`, `isa` and the like; nothing of it is executed.

        Raises:
            TargetUnavailableError: this machine cannot run the artifact.
            ArtifactFormatError: its code or program is not what the engine expects.
        """
        if self._kernel is not None:
            return self._kernel.facts
        if self._refusal is not None:
            raise self._refusal
        engine = find_engine(self.manifest["target"]["engine"])
        return engine.describe(self._container, self._signature.of_kernel)

    def _kernel_with_doorbell(self) -> Kernel:
        if not isinstance(self.kernel, OffersDoorbell):
            engine = self.kernel.facts.get("engine", "this engine")
            raise CapabilityError(
                f"engine {engine} has no doorbell, which is for GPUs: open the session without "
                "latency"
            )
        return self.kernel.with_doorbell()

    @property
    def signed_by(self) -> TrustedKey | None:
        """The trusted key that signed the file; None where nobody asked, or nobody did."""
        return self._signed_by

    def close(self) -> None:
        """Let go of the code: it is unloaded when the last session ends.

        The artifact stays usable; a later session loads the code again.
        """
        with self._lock:
            if not self._is_borrowed:
                self._kernel = None

    def __enter__(self) -> Artifact:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its bytes: unpickling one is trusting a file, as `load` is.

        Raises:
            TypeError: it runs on a kernel of this process (`on`), which bytes do not hold.
        """
        if self._is_borrowed:
            raise TypeError(
                f"{self!r} runs on a kernel of this process and is not pickled: pickle the "
                "artifact that it was made of"
            )
        return _from_bytes, (self._container.to_bytes(), self._refusal, self._signed_by)

    def on(self, kernel: Kernel) -> Artifact:
        """The same model, run by another kernel (an emulated processor, a test's own)."""
        other = Artifact(self._container)
        other._kernel, other._is_borrowed = kernel, True
        return other

    @property
    def container(self) -> Container:
        """Manifest and sections."""
        return self._container

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest, see above; treat it as read-only."""
        return self._container.manifest

    @property
    def signature(self) -> Signature:
        """What goes in and out."""
        return self._signature

    @property
    def description(self) -> Description:
        """What the numbers mean, as far as it is known."""
        return self._description

    @property
    def name(self) -> str:
        """Name of the model, a C identifier."""
        return self._signature.name

    @property
    def window_frames(self) -> int | None:
        """Frames of the windows that a stream's model was trained on; None: of any length."""
        window = self.manifest.get("window")
        frames = window.get("frames") if isinstance(window, dict) else None
        return frames if isinstance(frames, int) and not isinstance(frames, bool) else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the compiler had to say about the model as a stream."""
        found = self.manifest.get("warnings")
        return tuple(map(str, found)) if isinstance(found, list) else ()

    @property
    def header(self) -> str:
        """The C header, or ""."""
        sections = self._container.sections
        return bytes(sections.get(HEADER_SECTION, b"")).decode(errors="replace")

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each section."""
        return {name: len(data) for name, data in self._container.sections.items()}

    @property
    def model_id(self) -> str:
        """Tells models apart: a snapshot fits artifacts of equal weights, scales and signature.

        Artifacts from before there was an identity fall back on source and signature.
        """
        identity = self.manifest.get("identity")
        if isinstance(identity, str):
            return identity
        source = self.manifest["source"].get("sha256") or ""
        return model_id(self._signature, source, self._container.section(WEIGHTS_SECTION))

    def __repr__(self) -> str:
        target = self.manifest["target"]["name"]
        return f"<edgelstm.Artifact {self.name} {self._signature.mode} for {target}>"


def _from_bytes(
    data: bytes, refusal: EdgeLSTMError | None = None, signed_by: TrustedKey | None = None
) -> Artifact:
    artifact = Artifact(Container.parse(data))
    artifact._refusal, artifact._signed_by = refusal, signed_by
    return artifact


def load(
    path: str | os.PathLike[str],
    *,
    mmap: bool = False,
    trust: str | os.PathLike[str] | None = None,
) -> Artifact:
    """Read a compiled model into memory of its own; every byte of it is checked.

    Args:
        path: the file.
        mmap: map the file in place of copying it. Nothing protects a mapped file: whoever writes
            into it changes what running sessions compute, whoever shortens it ends the process.
        trust: folder of public keys, one of which has to have signed the file (`PATH.sig`). Where
            this is None, but the environment variable `EDGELSTM_TRUST` names such a folder, a file
            without such a signature can be looked at, and making a session of it is refused.

    Raises:
        ArtifactFormatError: no artifact, or a damaged one.
        ArtifactVersionError: in a newer format than this runtime reads.
        UntrustedArtifactError: `trust` is given, and no key in it signed the file.
        ArtifactError: the file cannot be opened.
    """
    return Artifact.load(path, mmap=mmap, trust=trust)


def _check(container: Container) -> Signature:
    """The signature, once everything that native code relies on is known to hold."""
    manifest = read_manifest(container.manifest)
    mode_of(manifest.signature.mode)
    faults = contradictions(manifest, container.section)
    if faults:
        raise ArtifactFormatError(
            f"the manifest contradicts itself: {'; '.join(faults)}; compile the model again"
        )
    return manifest.signature


def _read_description(container: Container, signature: Signature) -> Description:
    try:
        return Description.from_json(container.manifest.get("description"), signature)
    except ValueError as exc:
        raise ArtifactFormatError(
            f"the manifest is malformed ({exc}); compile the model again"
        ) from exc
