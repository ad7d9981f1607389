"""Bills of materials in CycloneDX: of a compiled model, and of this installation.

Equal inputs give equal documents: the serial number is made of the content, and there is no time
stamp. Nothing of an artifact is executed.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from hashlib import sha256
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

from edgelstm.artifact import Artifact
from edgelstm.container import canonical_json
from edgelstm.errors import InternalError, TargetUnavailableError
from edgelstm.extras import load_extra
from edgelstm.install_hint import install_hint
from edgelstm.manifest import read_manifest
from edgelstm.version import VERSION

_NAMESPACE = uuid.UUID("5e1a3c1e-7d43-5d0c-9a5e-0c6f5d1b8a52")
_PACKAGE = "edgelstm"
_OURS = (_PACKAGE, "edgelstm-compiler", "edgelstm-targets")
"""Our distributions: their extras count where they are installed."""


def artifact_bill(artifact: Artifact) -> str:
    """What a compiled model consists of and was made from, as CycloneDX JSON.

    Raises:
        TargetUnavailableError: the library is not installed.
    """
    cyclonedx = _library()
    manifest = read_manifest(artifact.manifest)
    digest = artifact.container.digest
    image = sha256(artifact.container.to_bytes()).hexdigest()
    properties = {
        "edgelstm:digest": digest,
        "edgelstm:model_id": artifact.model_id,
        "edgelstm:mode": artifact.signature.mode,
        "edgelstm:target": manifest.target.name,
        "edgelstm:engine": manifest.target.engine,
        "edgelstm:options": canonical_json(artifact.manifest.get("options", {})).decode(),
        "edgelstm:target_options": canonical_json(dict(manifest.target.options)).decode(),
    }
    if manifest.quantization is not None:
        schemes = sorted(set(manifest.quantization.schemes.values()))
        properties["edgelstm:quantization"] = ", ".join(schemes) or "none"
    model = cyclonedx.component(
        name=artifact.name,
        version=digest[:16],
        kind="machine-learning-model",
        ref=f"artifact:{digest}",
        sha256=image,
        properties=properties,
    )
    parts = []
    if manifest.source.sha256:
        parts.append(
            cyclonedx.component(
                name=manifest.source.file or "model.onnx",
                version=manifest.source.sha256[:16],
                kind="machine-learning-model",
                ref=f"source:{manifest.source.sha256}",
                sha256=manifest.source.sha256,
                properties={
                    "edgelstm:role": "source, with the data outside of its file",
                    "edgelstm:producer": manifest.source.producer,
                    "edgelstm:opset": str(manifest.source.opset or "unknown"),
                },
            )
        )
    made_by = artifact.manifest.get("edgelstm") or "unknown"
    for name, version in sorted({_PACKAGE: made_by, **manifest.packages}.items()):
        parts.append(
            cyclonedx.package(name, version, properties={"edgelstm:role": "made the artifact"})
        )
    for name, section in artifact.container.sections.items():
        parts.append(
            cyclonedx.component(
                name=name,
                version=None,
                kind="machine-learning-model" if name == "weights" else "data",
                ref=f"section:{name}",
                sha256=sha256(section).hexdigest(),
                properties={"edgelstm:role": "section", "edgelstm:bytes": str(len(section))},
            )
        )
    return cyclonedx.document(model, parts, seed=digest)


def installation_bill() -> str:
    """Edgelstm and the packages that it and its installed extras need, as CycloneDX JSON.

    Raises:
        TargetUnavailableError: the library is not installed.
    """
    cyclonedx = _library()
    root = cyclonedx.package(_PACKAGE, VERSION, kind="application")
    found = _installed()
    parts = [
        cyclonedx.package(
            name,
            each.version,
            license=_license(each),
        )
        for name, each in sorted(found.items())
    ]
    seed = ",".join(f"{name}={each.version}" for name, each in sorted(found.items()))
    return cyclonedx.document(root, parts, seed=f"{VERSION},{seed}")


def _installed() -> dict[str, Distribution]:
    """Every installed package that edgelstm requires, directly or not, extras included."""
    found: dict[str, Distribution] = {}
    waiting = [*_OURS[1:], *_requirements(_PACKAGE)]
    while waiting:
        name = waiting.pop()
        if name in found or name == _PACKAGE:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        waiting += _requirements(name)
    return found


def _license(package: Distribution) -> str:
    """Its SPDX expression, where it has one."""
    metadata: Any = package.metadata
    return str(metadata.get("License-Expression") or "")


def _requirements(name: str) -> Iterable[str]:
    """Names that a package requires; of extras those of ours only."""
    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError:
        return []
    wanted = [line for line in lines if name in _OURS or "extra ==" not in line]
    return [_normal(line) for line in wanted]


def _normal(requirement: str) -> str:
    """The package's name in a requirement, as indexes write it."""
    end = next((i for i, c in enumerate(requirement) if not (c.isalnum() or c in "-_.")), None)
    return requirement[:end].replace("_", "-").replace(".", "-").lower()


def _library() -> _CycloneDx:
    _cyclonedx("model.bom")
    return _CycloneDx()


def _cyclonedx(module: str) -> Any:
    return load_extra(f"cyclonedx.{module}", "sbom", "bills of materials")


class _CycloneDx:
    """The few words of the library that are needed here."""

    def component(
        self,
        *,
        name: str,
        version: str | None,
        kind: str,
        ref: str,
        sha256: str | None = None,
        properties: dict[str, str] | None = None,
        purl: Any = None,
        license: str = "",
    ) -> Any:
        """One component."""
        model, component = _cyclonedx("model"), _cyclonedx("model.component")
        expression = _cyclonedx("model.license").LicenseExpression
        kind_of_hash = model.HashAlgorithm.SHA_256
        hashes = [] if sha256 is None else [model.HashType(alg=kind_of_hash, content=sha256)]
        return component.Component(
            name=name,
            version=version,
            type=component.ComponentType(kind),
            bom_ref=ref,
            hashes=hashes,
            purl=purl,
            licenses=[expression(license)] if license else [],
            properties=[model.Property(name=k, value=v) for k, v in (properties or {}).items()],
        )

    def package(
        self,
        name: str,
        version: str,
        *,
        kind: str = "library",
        properties: dict[str, str] | None = None,
        license: str = "",
    ) -> Any:
        """A package of the Python index."""
        urls = load_extra("packageurl", "sbom", "bills of materials")
        purl = urls.PackageURL("pypi", name=name, version=version)
        return self.component(
            name=name,
            version=version,
            kind=kind,
            ref=purl.to_string(),
            properties=properties,
            purl=purl,
            license=license,
        )

    def document(self, root: Any, parts: list[Any], seed: str) -> str:
        """The whole bill, seen to be valid; `seed` decides its serial number."""
        missing = _cyclonedx("exception").MissingOptionalDependencyException
        validation = _cyclonedx("validation.json")
        version = _cyclonedx("schema").SchemaVersion.V1_6
        bom = _cyclonedx("model.bom").Bom(
            components=parts, serial_number=uuid.uuid5(_NAMESPACE, seed)
        )
        bom.metadata.component = root
        bom.register_dependency(root, parts)
        output = _cyclonedx("output.json").JsonV1Dot6(bom)
        text = _without_time(output.output_as_string(indent=2))
        try:
            problem = validation.JsonStrictValidator(version).validate_str(text)
        except missing as exc:
            raise TargetUnavailableError(
                "a bill of materials is checked before it is written, by what is missing here: "
                f"{install_hint('sbom')}"
            ) from exc
        if problem is not None:
            raise InternalError(f"the bill of materials is not valid CycloneDX: {problem}")
        return text


def _without_time(text: str) -> str:
    """The document without the moment at which it was written."""
    data = json.loads(text)
    data["metadata"].pop("timestamp", None)
    return json.dumps(data, indent=2, sort_keys=True)
