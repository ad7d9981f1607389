"""Ways to a device, one file each, by the scheme of their address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, urlsplit

from edgelstm.errors import LinkError
from edgelstm.remote.link import Link, LinkOptions

Open = Callable[[SplitResult, LinkOptions], Link]


def _ssh(url: SplitResult, options: LinkOptions) -> Link:
    from edgelstm.remote.transports.ssh import open_ssh

    return open_ssh(url, options)


def _serial(url: SplitResult, options: LinkOptions) -> Link:
    from edgelstm.remote.transports.serial import open_serial

    return open_serial(url, options)


TRANSPORTS: Mapping[str, Open] = {"ssh": _ssh, "serial": _serial}
"""By scheme; each is imported when it is first asked for."""


def open_link(address: str, options: LinkOptions) -> Link:
    """Connect to a device.

    Args:
        address: `ssh://user@host:port`, `serial:///dev/ttyACM0`, `serial://ttyACM0?baud=921600`.
        options: see there.

    Raises:
        LinkError: there is no such way, or it leads nowhere.
    """
    try:
        url = urlsplit(address)
    except ValueError as error:
        raise LinkError(f"{address!r} is no address: {error}") from error
    if url.scheme not in TRANSPORTS:
        known = " or ".join(f"{scheme}://..." for scheme in TRANSPORTS)
        raise LinkError(f"there is no way to {address!r}: expected {known}")
    return TRANSPORTS[url.scheme](url, options)
