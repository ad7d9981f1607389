"""Commands that write, with what they read: the cases of `test_output_matrix.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REFERENCE = ("--target", "reference", "--no-check")


@dataclass
class Desk:
    """A folder with a model whose data lies beside it, its artifacts, and recordings.

    Args:
        folder: where all of it is.
        inputs: the files a command may read, by what they are.
        contents: what the files held at the start.
    """

    folder: Path
    inputs: dict[str, Path] = field(default_factory=dict)
    contents: dict[Path, bytes] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Path:
        return self.inputs[name]

    def lost(self) -> list[str]:
        """Inputs that are not what they were."""
        return [
            name
            for name, path in self.inputs.items()
            if not path.is_file() or path.read_bytes() != self.contents[path]
        ]


@dataclass(frozen=True)
class Case:
    """A command that writes.

    Args:
        option: the one that names the output.
        words: the command line but for the output.
        reads: files of the desk that it reads.
        of: the output's option belongs to this command.
    """

    of: str
    option: str
    words: Callable[[Desk], Sequence[object]]
    reads: tuple[str, ...]


CASES: dict[str, Case] = {
    "compile": Case(
        "compile",
        "--output",
        lambda d: ["compile", d["gait.onnx"], *REFERENCE],
        ("gait.onnx", "gait.data"),
    ),
    "compile from recordings": Case(
        "compile",
        "--output",
        lambda d: [
            *("compile", d["gait.onnx"], *REFERENCE),
            *("--quantize", "int8", "--calibrate", d["walk.csv"], "--holdout", d["other.csv"]),
        ],
        ("gait.onnx", "gait.data", "walk.csv", "other.csv"),
    ),
    "compile from a calibration": Case(
        "compile",
        "--output",
        lambda d: [
            *("compile", d["gait.onnx"], *REFERENCE),
            *("--quantize", "int8", "--calibration", d["c.json"]),
        ],
        ("gait.onnx", "c.json"),
    ),
    "compile with a description": Case(
        "compile",
        "--output",
        lambda d: ["compile", d["gait.onnx"], *REFERENCE, "--description", d["said.toml"]],
        ("gait.onnx", "said.toml"),
    ),
    "audit": Case(
        "audit",
        "--output",
        lambda d: [
            *("audit", d["gait.edgelstm"], "--recordings", d.folder / "trials"),
            *(
                "--groups",
                d["people.csv"],
                "--labels",
                "sit,stand,walk,turn",
                "--output-name",
                "Y",
                "--rate",
                "50",
            ),
        ],
        ("gait.edgelstm", "people.csv", "trials/one.csv"),
    ),
    "report-patient": Case(
        "report-patient",
        "--output",
        lambda d: ["report-patient", d["ward.db"], "P1"],
        ("ward.db",),
    ),
    "calibrate": Case(
        "calibrate",
        "--output",
        lambda d: ["calibrate", d["gait.onnx"], "--input", d["walk.csv"]],
        ("gait.onnx", "gait.data", "walk.csv"),
    ),
    "report": Case(
        "report",
        "--output",
        lambda d: [
            *("report", d["w8.edgelstm"], "--model", d["gait.onnx"], "--input", d["walk.csv"]),
            *("--seconds", 0, "--drift-steps", 0),
        ],
        ("w8.edgelstm", "gait.onnx", "gait.data", "walk.csv"),
    ),
    "demo": Case("demo", "--keep", lambda d: ["demo", "--target", "reference"], ()),
    "run": Case(
        "run",
        "--output",
        lambda d: [
            *("run", d["gait.edgelstm"], "--input", d["walk.csv"]),
            *("--output-format", "csv"),
        ],
        ("gait.edgelstm", "walk.csv"),
    ),
    "run to arrays": Case(
        "run",
        "--output",
        lambda d: [
            *("run", d["gait.edgelstm"], "--input", d["walk.csv"]),
            *("--output-format", "npz"),
        ],
        ("gait.edgelstm", "walk.csv"),
    ),
    "run a call": Case(
        "run",
        "--output",
        lambda d: [
            *("run", d["call.edgelstm"], "--input", d["windows.npz"]),
            *("--output-format", "npz"),
        ],
        ("call.edgelstm", "windows.npz"),
    ),
}

FOLDERS: dict[str, Case] = {
    "export-c": Case(
        "export-c",
        "--output",
        lambda d: ["export-c", d["m4.edgelstm"], "--model", d["gait.onnx"], "--steps", 2],
        ("m4.edgelstm",),
    ),
    "compile --dump": Case(
        "compile",
        "--dump",
        lambda d: ["compile", d["gait.onnx"], *REFERENCE, "-o", d.folder / "new.edgelstm"],
        ("gait.onnx",),
    ),
}

STATE = Case(
    "run",
    "--state-file",
    lambda d: ["run", d["gait.edgelstm"], "--input", d["walk.csv"], "-o", d.folder / "out.csv"],
    ("gait.edgelstm", "walk.csv"),
)

READ_ONLY = {
    ("audit", "artifact"),
    ("audit", "recordings"),
    ("audit", "table"),
    ("bench", "artifact"),
    ("compile", "python"),
    ("run", "decode"),
    ("doctor", "artifacts"),
    ("doctor", "folder"),
    ("bench", "model"),
    ("calibrate", "files"),
    ("calibrate", "model"),
    ("compile", "calibrate"),
    ("compile", "calibration"),
    ("compile", "check_files"),
    ("compile", "description"),
    ("compile", "holdout"),
    ("compile", "model"),
    ("debug", "artifact"),
    ("debug", "files"),
    ("debug", "model"),
    ("export-c", "artifact"),
    ("export-c", "model"),
    ("export-c", "source"),
    ("inspect", "file"),
    ("monitor", "artifact"),
    ("monitor", "config"),
    ("monitor", "decode"),
    ("monitor", "reference"),
    ("monitor", "tls_cert"),
    ("monitor", "tls_key"),
    ("report-patient", "store"),
    ("report", "artifact"),
    ("report", "calibrate"),
    ("report", "files"),
    ("report", "model"),
    ("run", "artifact"),
    ("run", "config"),
    ("sbom", "artifact"),
    ("sign", "artifact"),
    ("sign", "key"),
    ("validate", "artifact"),
    ("validate", "model"),
    ("validate", "source"),
    ("verify", "artifact"),
    ("verify", "model"),
    ("verify", "source"),
}
"""Parameters that are paths of files which are read."""

SINKS = {("monitor", "outputs")}
"""Parameters that are addresses of sinks, which are those of `run`."""
