"""NPY and NPZ: whole arrays `(n, *frame)`, by input name where there are several."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgelstm.errors import RecordingError
from edgelstm.io.base import Array, Batch
from edgelstm.io.columns import to_frames
from edgelstm.io.frame_arrays import as_frames
from edgelstm.io.limits import BLOCK_ROWS, MAX_ARRAY_BYTES, MAX_ARRAY_HEADER_BYTES
from edgelstm.signature import Signature, TensorSpec


class ArraySource:
    """Frames out of arrays that are there as a whole.

    Args:
        arrays: by name, looked up only where they are needed; a lone one may have any name.
        origin: name of the recording, for messages.
        signature: what the model takes.
        columns: indices along the last axis, in the order of the elements; empty for all.
        keep: names of arrays that pass through.
        batch_size: frames a batch.
    """

    def __init__(
        self,
        arrays: Mapping[str, Array],
        origin: str,
        signature: Signature,
        columns: Sequence[str] = (),
        keep: Sequence[str] = (),
        batch_size: int = BLOCK_ROWS,
    ) -> None:
        self._origin = origin
        self._specs = signature.inputs
        self._batch_size = batch_size
        self._arrays = pick_arrays(arrays, self._specs, origin, ignore=keep)
        self._columns = tuple(columns)
        if columns:
            self._arrays = self._pick_columns(columns)
        for spec in self._specs:
            self._arrays[spec.name] = as_frames(self._arrays[spec.name], spec, origin)
            to_frames(self._arrays[spec.name][:0], spec, origin)
        self._kept = {name: arrays[name] for name in keep if name in arrays}
        missing = [name for name in keep if name not in self._kept or not self._kept[name].ndim]
        if missing:
            raise RecordingError(f"{origin}: no array {', '.join(map(repr, missing))} to keep")
        lengths = {name: len(array) for name, array in {**self._arrays, **self._kept}.items()}
        if len(set(lengths.values())) > 1:
            raise RecordingError(f"{origin}: arrays of different lengths: {lengths}")
        self._n_frames = next(iter(lengths.values()))
        self._done = 0

    @property
    def kept(self) -> tuple[str, ...]:
        """Arrays that pass through."""
        return tuple(self._kept)

    @property
    def mapping(self) -> Mapping[str, Sequence[str]]:
        """Which arrays, or columns of the array, feed which input."""
        if self._columns:
            return {self._specs[0].name: self._columns}
        return {spec.name: [spec.name] for spec in self._specs}

    @property
    def units(self) -> Mapping[str, Sequence[str]]:
        """Arrays tell none."""
        return {}

    @property
    def time_name(self) -> str | None:
        """Arrays have no names of columns."""
        return None

    @property
    def remarks(self) -> Sequence[str]:
        """Nothing."""
        return ()

    @property
    def total(self) -> int | None:
        """Frames to read."""
        return self._n_frames

    @property
    def done(self) -> int:
        """Frames read so far."""
        return self._done

    def batches(self) -> Iterator[Batch]:
        """All frames in order."""
        for start in range(0, self._n_frames, self._batch_size):
            part = slice(start, start + self._batch_size)
            where = f"{self._origin}: frame {start}"
            frames = {
                spec.name: to_frames(self._arrays[spec.name][part], spec, where)
                for spec in self._specs
            }
            kept: dict[str, Any] = {name: array[part] for name, array in self._kept.items()}
            self._done = min(start + self._batch_size, self._n_frames)
            yield Batch(frames, partial(self._where, start), kept)

    def _where(self, start: int, index: int) -> str:
        return f"{self._origin}: frame {start + index}"

    def _pick_columns(self, columns: Sequence[str]) -> dict[str, Array]:
        if len(self._specs) != 1:
            raise RecordingError("--columns on arrays needs a model with one input")
        (spec,) = self._specs
        array = self._arrays[spec.name]
        try:
            return {spec.name: array[..., [int(column) for column in columns]]}
        except (ValueError, IndexError) as exc:
            raise RecordingError(
                f"{self._origin}: --columns of an array are indices along its last axis "
                f"(shape {array.shape}): {exc}"
            ) from exc


class ArraySink:
    """Predictions as arrays, written when the stream ends.

    Args:
        file: the open file.
        signature: what the model gives.
        kept: names of the columns that pass through.
        is_npz: several arrays in one file; else the model must have one output.
        is_single: the only prediction is written without an axis of its own.
    """

    def __init__(
        self,
        file: IO[bytes],
        signature: Signature,
        kept: Sequence[str] = (),
        is_npz: bool = True,
        is_single: bool = False,
    ) -> None:
        if not is_npz and (len(signature.outputs) > 1 or kept):
            names = [*kept, *(spec.name for spec in signature.outputs)]
            raise RecordingError(f"NPY holds one array; use NPZ for {', '.join(names)}")
        self._file = file
        self._specs = signature.outputs
        self._is_npz = is_npz
        self._is_single = is_single
        self._kept: dict[str, list[Any]] = {name: [] for name in kept}
        self._parts: dict[str, list[Array]] = {spec.name: [] for spec in self._specs}

    def write(self, outputs: Mapping[str, Array], kept: Mapping[str, Sequence[Any]]) -> None:
        """Collect arrays."""
        for name, parts in self._parts.items():
            parts.append(outputs[name])
        for name, values in self._kept.items():
            values.extend(kept[name])

    def flush(self) -> None:
        """Nothing can be handed on before the end."""

    def finish(self) -> None:
        """Write the arrays."""
        arrays: dict[str, Array] = {name: _column(values) for name, values in self._kept.items()}
        for spec in self._specs:
            empty = np.empty((0, *spec.shape), spec.dtype.numpy)
            stacked = np.concatenate([empty, *self._parts[spec.name]])
            arrays[spec.name] = stacked[0] if self._is_single else stacked
        write_arrays(self._file, arrays, self._is_npz)


def read_arrays(data: Path | bytes, origin: str) -> Mapping[str, Array]:
    """The arrays of an NPY file (one, named "") or an NPZ file.

    NPY files are read into memory of their own, so that nobody changes them meanwhile; the arrays
    of NPZ files are unpacked when they are asked for.

    Raises:
        RecordingError: it is neither, or damaged, or holds Python objects.
    """
    # Files are opened here: NumPy forgets to close them when they are damaged.
    try:
        with io.BytesIO(data) if isinstance(data, bytes) else open(data, "rb") as file:
            if file.read(2) == b"PK":
                return Archive(data, origin)
            file.seek(0)
            _check_header(file)
            file.seek(0)
            return {"": np.load(file, allow_pickle=False)}
    except RecordingError:
        raise
    except Exception as exc:  # whatever NumPy makes of damaged bytes
        raise _unreadable(origin, exc) from exc


class Archive(Mapping[str, Array]):
    """The arrays of an NPZ file, each unpacked when it is asked for, and not before.

    Args:
        data: the file, or its bytes.
        origin: name of the recording, for messages.

    Raises:
        RecordingError: it is no archive.
    """

    def __init__(self, data: Path | bytes, origin: str) -> None:
        self._data = data
        self._origin = origin
        with self._open() as archive:
            infos = archive.infolist()
        self._members = {
            info.filename.removesuffix(".npy"): info
            for info in infos
            if info.filename.endswith(".npy")
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, name: str) -> Array:
        info = self._members[name]
        if info.file_size > MAX_ARRAY_BYTES:
            raise RecordingError(
                f"{self._origin}: array {name!r} unpacks to {info.file_size} bytes, more than the "
                f"limit of {MAX_ARRAY_BYTES}; save it as an NPY file, which is read in pieces"
            )
        try:
            with self._open() as archive, archive.open(info) as member:
                _check_header(member, info.file_size)
                member.seek(0)
                array: Array = np.lib.format.read_array(member, allow_pickle=False)
                return array
        except Exception as exc:  # whatever NumPy and zipfile make of damaged bytes
            raise _unreadable(f"{self._origin}: array {name!r}", exc) from exc

    def _open(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(
            io.BytesIO(self._data) if isinstance(self._data, bytes) else self._data
        )


def _check_header(file: IO[bytes], size: int | None = None) -> None:
    """See that a header announces an array of numbers or text.

    Args:
        file: at the header.
        size: bytes that there are, where they are known.

    Raises:
        ValueError: it is none, one of Python objects, or announces more bytes than there are.
    """
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version, np.lib.format.read_array_header_2_0)
    shape, _, dtype = read(file, max_header_size=MAX_ARRAY_HEADER_BYTES)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if any(extent < 0 for extent in shape):
        raise ValueError(f"shape {shape}")
    announced = math.prod(shape) * int(dtype.itemsize)
    if size is not None and announced > size:
        raise ValueError(f"its header announces {announced} bytes, there are {size}")


def _unreadable(what: str, exc: Exception) -> RecordingError:
    text = str(exc).strip().split("\n")[0][:200] or type(exc).__name__
    return RecordingError(f"{what}: not a readable NPY or NPZ file: {text}")


def write_arrays(file: IO[bytes], arrays: Mapping[str, Array], is_npz: bool) -> None:
    """Write an NPZ file, or the only array as an NPY file."""
    if not is_npz:
        (array,) = arrays.values()
        np.save(file, _storable(array), allow_pickle=False)
        return
    # np.savez takes names as keywords, so that `file` could not be one; and it stamps the time.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.save(entry, _storable(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue())


def pick_arrays(
    arrays: Mapping[str, Array],
    specs: Sequence[TensorSpec],
    origin: str,
    ignore: Sequence[str] = (),
) -> dict[str, Array]:
    """The array of each input, by name; a lone array may have any name.

    Raises:
        RecordingError: inputs are missing.
    """
    others = [name for name in arrays if name not in ignore]
    if not others:
        raise RecordingError(f"{origin}: it holds no arrays besides those to keep")
    if len(specs) == 1 and len(others) == 1:
        picked = {specs[0].name: arrays[others[0]]}
    else:
        missing = [spec.name for spec in specs if spec.name not in arrays]
        if missing:
            raise RecordingError(
                f"{origin}: no array for input {', '.join(map(repr, missing))}; "
                f"it holds: {', '.join(map(repr, arrays)) or 'none'}"
            )
        picked = {spec.name: arrays[spec.name] for spec in specs}
    return picked


def _column(values: list[Any]) -> Array:
    """Kept values as an array of numbers where they are numbers, else of text."""
    try:
        return np.array([float(value) for value in values])
    except (TypeError, ValueError, OverflowError):
        return np.array([str(value) for value in values], dtype=np.str_)


def _storable(array: Array) -> Array:
    """The array; bfloat16, which NumPy's files do not have, as the same numbers in float32."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
