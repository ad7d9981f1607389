"""All entries, and the targets made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgelstm_compiler.target import Target
from edgelstm_targets.processors.boards import BOARDS
from edgelstm_targets.processors.cortex_a import CORTEX_A
from edgelstm_targets.processors.cortex_m import CORTEX_M
from edgelstm_targets.processors.processor import Processor
from edgelstm_targets.processors.x86 import HOST

PROCESSORS: Mapping[str, Processor] = {
    processor.target: processor for processor in (HOST, *CORTEX_A, *CORTEX_M)
}
"""By name of the target."""


class CpuTargets:
    """One target for each processor (`edgelstm_compiler.target.TargetFamily`)."""

    def processors(self) -> Mapping[str, Processor]:
        """By name of the target."""
        return PROCESSORS

    def boards(self) -> Sequence[tuple[str, str]]:
        """What people call their boards, and the targets that compile for them."""
        return BOARDS

    def make(self, name: str) -> Target:
        """The target of that name, a key of `processors`."""
        if name == HOST.target:
            from edgelstm_targets.tvm_cpu.target import HostTarget

            return HostTarget()
        from edgelstm_targets.tvm_cpu.arm_target import ArmTarget

        return ArmTarget(PROCESSORS[name])
