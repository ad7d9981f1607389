"""The typed graph: types, operators, stages, their law, their text form and their evaluation."""
