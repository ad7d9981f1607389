"""Runtime of edgelstm: loads compiled recurrent networks and steps them over live streams.

```
import edgelstm
session = edgelstm.load("model.edgelstm").session()
y = session.step(x)
```
Importing it loads NumPy and nothing else.
"""

from __future__ import annotations

from edgelstm.artifact import Artifact, load
from edgelstm.errors import (
    ArtifactError,
    ArtifactFormatError,
    ArtifactVersionError,
    EdgeLSTMError,
    ModelError,
    NonFiniteSampleError,
    SampleShapeError,
    SampleTypeError,
    SampleTypeWarning,
    StreamError,
    TargetError,
    TargetUnavailableError,
)
from edgelstm.sessions import Session
from edgelstm.signature import Signature, StateSpec, TensorSpec
from edgelstm.snapshot import Snapshot
from edgelstm.version import VERSION

__version__ = VERSION

__all__ = [
    "Artifact",
    "ArtifactError",
    "ArtifactFormatError",
    "ArtifactVersionError",
    "EdgeLSTMError",
    "ModelError",
    "NonFiniteSampleError",
    "SampleShapeError",
    "SampleTypeError",
    "SampleTypeWarning",
    "Session",
    "Signature",
    "Snapshot",
    "StateSpec",
    "StreamError",
    "TargetError",
    "TargetUnavailableError",
    "TensorSpec",
    "__version__",
    "load",
]
