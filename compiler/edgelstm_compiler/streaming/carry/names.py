"""What the names of an input and an output say about being one state before and after a step."""

from __future__ import annotations

import re
from collections.abc import Sequence

_BEFORE_AND_AFTER = (
    "in out input output initial init prev previous past next new present final last old "
    "cur curr current updated update n t tm1 tp1 t1"
)
BEFORE_AND_AFTER = frozenset(_BEFORE_AND_AFTER.split())
"""Words that tell the state before a step from the one after it."""

SYNONYMS = {
    "hx": "h",
    "hy": "h",
    "hn": "h",
    "hidden": "h",
    "ht": "h",
    "cx": "c",
    "cy": "c",
    "cn": "c",
    "ct": "c",
    "cell": "c",
    "states": "state",
    "caches": "cache",
    "memory": "mem",
    "buffer": "buf",
}

_SIGNALS = (
    "x y audio signal sound wave waveform frame frames mic speech sample samples data spec "
    "spectrum mag magnitude feature features feat feats mix noisy enh enhanced clean mask imu "
    "emg ecg acc gyro"
)
SIGNALS = frozenset(_SIGNALS.split())
"""Words for what streams through a model: an input and an output of these names are no state."""

_GLUED = re.compile(r"(in|out|n|prev|next|new)$")


def name_evidence(before: str, after: str) -> float:
    """How much two names speak for one state: 2 for one name and number, 1.5 for one name."""
    words, others = base_words(before), base_words(after)
    letters = [word for word in words if not word.isdigit()]
    if not letters or set(letters) <= SIGNALS:
        return 0.0
    if letters != [word for word in others if not word.isdigit()]:
        return 0.0
    return 2.0 if words == others else 1.5


def is_signal(name: str) -> bool:
    """Whether a name is that of something that streams through."""
    letters = [word for word in base_words(name) if not word.isdigit()]
    return bool(letters) and set(letters) <= SIGNALS


def base_words(name: str) -> Sequence[str]:
    """The words and numbers of a name without those that tell before from after."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [_base(word) for word in re.findall(r"[a-z]+|\d+", spaced.lower())]
    kept = [word for word in words if word and word not in BEFORE_AND_AFTER]
    if any(word.isalpha() and word != "state" for word in kept):
        kept = [word for word in kept if word != "state"]  # `hidden_state`, `state_c`
    # `h0` is the state at frame 0 as often as that of layer 0.
    return kept if kept[-1:] != ["0"] else kept[:-1]


def _base(word: str) -> str:
    if word in SYNONYMS or word in BEFORE_AND_AFTER:
        return SYNONYMS.get(word, word)
    # `hout`, `cachein`, `staten`: glued to the name of the state.
    stripped = _GLUED.sub("", word)
    known = stripped in SYNONYMS.values() or stripped in SYNONYMS
    return SYNONYMS.get(stripped, stripped) if known else word
