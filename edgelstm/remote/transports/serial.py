"""`serial://`: a serial line of a POSIX system, by termios."""

from __future__ import annotations

import importlib.util
import os
from urllib.parse import SplitResult, parse_qs

from edgelstm.errors import LinkError, TargetUnavailableError
from edgelstm.remote.link import DescriptorLink, LinkOptions


def open_serial(url: SplitResult, options: LinkOptions) -> DescriptorLink:
    """Open a port, raw, 8 data bits, no parity, one stop bit, no flow control.

    Args:
        url: `serial:///dev/ttyACM0` or `serial://ttyACM0`; `?baud=921600` goes before the option.
        options: `baud`, `timeout_s`.

    Raises:
        LinkError: there is no such port, or it cannot be opened at this speed.
        TargetUnavailableError: this system has no termios (Windows).
    """
    if importlib.util.find_spec("termios") is None:
        raise TargetUnavailableError("serial:// needs a POSIX system: use Linux, macOS or WSL")
    import termios
    import tty

    path = url.path if not url.netloc else f"/dev/{url.netloc}{url.path}"
    if not path:
        raise LinkError("serial:// needs a port: serial:///dev/ttyACM0")
    baud = parse_qs(url.query).get("baud", [str(options.baud)])[0]
    speed = getattr(termios, f"B{baud}", None)
    if speed is None:
        raise LinkError(f"{path}: this system knows no speed of {baud} baud")
    try:
        port = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        remedy = "; give your user the group dialout" if isinstance(error, PermissionError) else ""
        raise LinkError(f"cannot open the port {path}: {error.strerror}{remedy}") from error
    try:
        tty.setraw(port, termios.TCSANOW)
        settings = termios.tcgetattr(port)
        settings[2] |= termios.CLOCAL | termios.CREAD
        settings[2] &= ~(termios.CRTSCTS | termios.CSTOPB)
        settings[4] = settings[5] = speed
        termios.tcsetattr(port, termios.TCSANOW, settings)
        termios.tcflush(port, termios.TCIOFLUSH)
    except termios.error as error:
        os.close(port)
        raise LinkError(f"{path} is no serial port: {error.args[-1]}") from error
    return DescriptorLink(port, port, options.timeout_s, path)
