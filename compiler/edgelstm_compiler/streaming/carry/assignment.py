"""The assignment of rows to columns with the largest sum, where rows may stay alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Scores = Mapping[tuple[int, int], float]
"""Scores by (row, column), all above zero; what is left out is not allowed."""

_LEAST = 1e-9


def assign(rows: int, columns: int, scores: Scores) -> dict[int, int]:
    """The column of each row that gets one.

    Source: the Hungarian method with potentials (Kuhn 1955, Munkres 1957), on a square of costs in
    which staying alone costs nothing.
    """
    size = rows + columns
    costs = [[-scores.get((r, c), 0.0) for c in range(size)] for r in range(size)]
    matched = _hungarian(costs)
    return {
        row: column for row, column in enumerate(matched) if scores.get((row, column), 0.0) > _LEAST
    }


def total(chosen: Mapping[int, int], scores: Scores) -> float:
    """The sum of what was chosen."""
    return sum(scores[pair] for pair in chosen.items())


def best_with_a_row_left(rows: int, columns: int, scores: Scores) -> dict[int, int]:
    """The best assignment in which at least one row stays alone."""
    best = assign(rows, columns, scores)
    if len(best) < rows:
        return best
    found = []
    for left in range(rows):
        rest = {pair: score for pair, score in scores.items() if pair[0] != left}
        found.append(assign(rows, columns, rest))
    return max(found, key=lambda chosen: total(chosen, scores))


def equally_good(
    rows: int, columns: int, scores: Scores, chosen: Mapping[int, int]
) -> list[dict[int, int]]:
    """Other assignments with the same sum: one for each chosen pair that can be done without."""
    found: list[dict[int, int]] = []
    for pair in chosen.items():
        rest = {other: score for other, score in scores.items() if other != pair}
        other = best_with_a_row_left(rows, columns, rest)
        if total(other, scores) >= total(chosen, scores) - _LEAST and other not in found:
            found.append(other)
    if len(chosen) == rows - 1:
        # Every row but one is taken: another one may stay alone just as well.
        for left in chosen:
            rest = {p: score for p, score in scores.items() if p[0] != left}
            other = assign(rows, columns, rest)
            if total(other, scores) >= total(chosen, scores) - _LEAST and other not in found:
                found.append(other)
    return found


def _hungarian(costs: Sequence[Sequence[float]]) -> list[int]:
    """The column of every row of a square, at the smallest sum of costs."""
    size = len(costs)
    infinity = float("inf")
    row_potential, column_potential = [0.0] * (size + 1), [0.0] * (size + 1)
    row_of, way = [0] * (size + 1), [0] * (size + 1)
    for row in range(1, size + 1):
        row_of[0], column = row, 0
        least, used = [infinity] * (size + 1), [False] * (size + 1)
        while True:
            used[column] = True
            at, step, following = row_of[column], infinity, 0
            for other in range(1, size + 1):
                if used[other]:
                    continue
                reduced = costs[at - 1][other - 1] - row_potential[at] - column_potential[other]
                if reduced < least[other]:
                    least[other], way[other] = reduced, column
                if least[other] < step:
                    step, following = least[other], other
            for other in range(size + 1):
                if used[other]:
                    row_potential[row_of[other]] += step
                    column_potential[other] -= step
                else:
                    least[other] -= step
            column = following
            if row_of[column] == 0:
                break
        while column:
            row_of[column], column = row_of[way[column]], way[column]
    found = [0] * size
    for column in range(1, size + 1):
        found[row_of[column] - 1] = column - 1
    return found
