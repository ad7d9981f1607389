"""The typed graph: types, operators, stages with their invariants, text form and evaluation."""
