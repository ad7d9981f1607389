"""The options of `edgelstm compile` that are about quantization, and what they mean together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from edgelstm.commands.report import progress_bar
from edgelstm.errors import CapabilityError
from edgelstm_compiler.commands.recordings import float_step_graph, read_recordings
from edgelstm_compiler.driver import CompileOptions
from edgelstm_compiler.lowering.signature import make_signature
from edgelstm_compiler.onnx_import.fixed_inputs import fix_inputs
from edgelstm_compiler.onnx_import.read import read_model
from edgelstm_compiler.quant.calibration import Calibration
from edgelstm_compiler.quant.recordings import Recordings
from edgelstm_compiler.quant.scheme import AUTO, Observer, QuantizeOptions, Scheme

_F = TypeVar("_F", bound=Callable[..., Any])

_FLOAT = ("float", "fp32")

SCHEMES = [scheme.value for scheme in Scheme] + [AUTO]


def quantize_options(function: _F) -> _F:
    """Adds the options; the command gets them as keyword arguments."""
    options = (
        click.option(
            "--quantize",
            "schemes",
            multiple=True,
            metavar="SCHEME",
            help=f"{', '.join(SCHEMES)}; or LAYER=SCHEME, once for each layer.",
        ),
        click.option(
            "--calibrate",
            "calibrate",
            multiple=True,
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Recording to calibrate with (call mode: NPZ windows). Without --quantize, only "
            "the ranges of its columns are kept. May be repeated.",
        ),
        click.option(
            "--calibration",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE.json",
            help="What `edgelstm calibrate` wrote, in place of recordings.",
        ),
        click.option(
            "--columns",
            metavar="A,B,...",
            help="Columns that feed the inputs, in the order of their elements: of the recordings "
            "here, and kept in the artifact for `run`. Quote names that hold commas.",
        ),
        click.option(
            "--holdout",
            multiple=True,
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Recording to measure on. May be repeated.  [default: last fifth of --calibrate]",
        ),
        click.option(
            "--keep",
            multiple=True,
            metavar="LAYER[=float]",
            help="Layer that stays in float32 beside --quantize SCHEME. May be repeated.",
        ),
        click.option(
            "--force", is_flag=True, help="Write a quantized model under 10 dB all the same."
        ),
        click.option(
            "--max-error",
            type=click.FloatRange(min=0, min_open=True),
            help="auto: bound of any output's error on the recordings.",
        ),
        click.option(
            "--ranges",
            type=click.Choice([observer.value for observer in Observer]),
            default=Observer.MIN_MAX.value,
            show_default=True,
            help="How ranges of activations are found; all but min-max leave glitches out.",
        ),
        click.option(
            "--percentile",
            type=click.FloatRange(50, 100),
            default=99.99,
            show_default=True,
            help="Share of values inside of the range, for --ranges percentile.",
        ),
        click.option("--equalize", is_flag=True, help="Move scale between dense layers (ReLU)."),
        click.option(
            "--integer-io",
            is_flag=True,
            help="int8-full: inputs and outputs are the integers, no floating point at all.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def parse_schemes(values: Sequence[str]) -> str | dict[str, str] | None:
    """One scheme for all layers, or schemes by layer.

    Raises:
        click.UsageError: both, or two schemes for all layers.
    """
    if not values:
        return None
    if len(values) == 1 and "=" not in values[0]:
        return values[0]
    schemes: dict[str, str] = {}
    for text in values:
        layer, equals, scheme = text.rpartition("=")
        if not equals or not layer:
            raise click.UsageError(
                f"--quantize {text}: give one scheme, or LAYER=SCHEME for each layer"
            )
        schemes[layer] = scheme
    return schemes


def parse_kept(values: Sequence[str]) -> list[str]:
    """Names of layers that stay in float32.

    Raises:
        click.UsageError: kept in anything else.
    """
    kept = []
    for text in values:
        layer, equals, scheme = text.rpartition("=")
        if equals and scheme not in _FLOAT:
            raise click.UsageError(f"--keep {text}: a layer is kept as {' or '.join(_FLOAT)}")
        kept.append(layer if equals else text)
    return kept


def expect_consistent(
    schemes: str | Mapping[str, str] | None,
    calibrate: Sequence[Path],
    calibration: Path | None,
    max_error: float | None,
    holdout: Sequence[Path] = (),
) -> None:
    """Refuse options that have no meaning together.

    Raises:
        click.UsageError: says which.
    """
    given = (calibration is not None, max_error is not None, holdout)
    if schemes is None and any(given):
        raise click.UsageError("--calibration, --holdout and --max-error are for --quantize SCHEME")
    if calibrate and calibration is not None:
        raise click.UsageError("give --calibrate FILE or --calibration FILE.json, not both")
    if schemes == AUTO and max_error is None:
        raise click.UsageError("--quantize auto needs a bound: --max-error E")
    if schemes != AUTO and max_error is not None:
        raise click.UsageError("--max-error is for --quantize auto")


def read_calibration_data(
    model: Path,
    options: CompileOptions,
    calibrate: Sequence[Path],
    calibration: Path | None,
    columns: str | None,
    described: Sequence[str] = (),
) -> Calibration | Recordings | None:
    """What the files hold.

    Raises:
        RecordingError: a recording cannot be read.
        CapabilityError: the JSON file is no calibration.
    """
    if calibration is not None:
        return read_calibration(calibration)
    if not calibrate:
        return None
    fixed = fix_inputs(read_model(model), options.constants)
    _, faced, _ = float_step_graph(fixed, options)
    signature = make_signature(faced)
    with progress_bar("reading", len(calibrate)) as advance:
        recordings = read_recordings(calibrate, signature, columns, advance, described)
    return [dict(recording) for recording in recordings]


def read_holdout(
    model: Path,
    options: CompileOptions,
    files: Sequence[Path],
    columns: str | None,
    described: Sequence[str] = (),
) -> Recordings | None:
    """Recordings to measure on, or None where no files are given.

    Raises:
        RecordingError: a recording cannot be read.
    """
    found = read_calibration_data(model, options, files, None, columns, described)
    assert not isinstance(found, Calibration)
    return found


def read_calibration(path: Path) -> Calibration:
    """The calibration of a JSON file.

    Raises:
        CapabilityError: it cannot be read, or is none.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CapabilityError(f"{path}: cannot be read as a calibration: {error}") from error
    return Calibration.from_json(data)


def make_options(
    ranges: str, percentile: float, equalize: bool, integer_io: bool
) -> QuantizeOptions:
    """The options of the quantizer."""
    return QuantizeOptions(
        observer=Observer(ranges),
        percentile=percentile,
        equalize=equalize,
        integer_io=integer_io,
    )


def describe_quantization(
    record: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Lines of text about a manifest's quantization record: layers, bytes, errors, the search.

    Args:
        record: the manifest's.
        layers: all of them, those in float32 too.
    """
    before, after = (
        sum(layer[name] for layer in layers) for name in ("bytes_before", "bytes_after")
    )
    share = f", {after / before:.2f} of it" if before else ""
    lines = [f"  quantized {record['scheme']}: {before} bytes of fp32 -> {after} bytes{share}"]
    width = max((len(layer["name"]) for layer in layers), default=0)
    lines += [
        f"    {layer['name'].ljust(width)}  {layer['scheme']:<9} "
        f"{layer['bytes_before']:>8} -> {layer['bytes_after']:<8} "
        f"output {_decibel(layer['output_sqnr_db'])}"
        for layer in layers
    ]
    held_out = record["held_out"]
    lines.append(f"  measured on {held_out['on']}: {held_out['frames']} frames")
    for name, error in held_out["outputs"].items():
        agreement = error["agreement"]
        same = "" if agreement is None else f", same decision on {100 * agreement:.2f} %"
        lines.append(
            f"    {name}: {_decibel(error['sqnr_db'])}, max error "
            f"{error['max_error']:.3g}, mean {error['mean_error']:.3g}{same}"
        )
    if record["search"]:
        taken = [trial for trial in record["search"] if trial["taken"]]
        lines.append(f"  search: {len(record['search'])} trials, bound {record['max_error']:g}")
        lines += [
            f"    {trial['bytes']:>8} bytes  error {trial['error']:<9.3g} "
            + " ".join(f"{name}={scheme}" for name, scheme in trial["schemes"].items())
            for trial in taken
        ]
        if taken[-1]["error"] > record["max_error"]:
            lines.append("    no choice of schemes keeps the bound")
    return lines


def _decibel(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} dB"
