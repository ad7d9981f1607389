"""Text files with gaps: C sources, headers and build files that stand beside the code as data."""

from __future__ import annotations

import re
from importlib.resources import files

from edgelstm.errors import InternalError

_GAP = re.compile("@([a-z_]+)@")


def fill(package: str, template: str, /, **values: object) -> str:
    """A template of a package, its gaps (`@name@`) filled.

    Args:
        package: whose folder `templates` it stands in.
        template: the file's path there.
        values: for each gap its text; gaps in these are not filled.

    Raises:
        InternalError: gaps and values are not the same.
    """
    text = files(package).joinpath("templates", *template.split("/")).read_text("utf-8")
    gaps = set(_GAP.findall(text))
    if gaps != set(values):
        odd = ", ".join(sorted(gaps ^ set(values)))
        raise InternalError(f"template {template} and its values differ in {odd}")
    return _GAP.sub(lambda gap: str(values[gap[1]]), text)
