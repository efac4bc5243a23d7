"""Who has all counts and knows the rule tries to learn how large a hidden group of a hospital is.

The attacker lists every table that a hospital could have and that gives the same counts. What is
the same in all of them is known. That is the most that anybody can conclude from the counts.
"""

from collections import defaultdict

import numpy as np
import pytest

from wardround.evaluation.suppression import Standing, standings, told_at_the_source


def tables(cells, most):
    """All tables of so many cells and at most so many patients."""
    if not cells:
        return [()]
    return [(first, *rest) for first in range(most + 1) for rest in tables(cells - 1, most - first)]


def of_kinds(*kinds):
    """Tables of one outcome each -> one table of cells with patients of each outcome."""
    return tuple(zip(*kinds, strict=True))


def published(table, smallest, rule):
    """What the counts say: the groups that are told, and the total of each outcome."""
    told = rule(table, smallest)
    shown = (c if t else (0,) * len(c) for c, t in zip(table, told, strict=True))
    return tuple(shown), tuple(np.sum(table, axis=0).tolist())


def known_of(every_table, smallest, rule):
    """For each hidden small group: its counts, those it could have, and whether any are told."""
    same = defaultdict(list)
    for table in every_table:
        same[published(table, smallest, rule)].append(table)
    for (shown, totals), candidates in same.items():
        for at in range(len(shown)):
            if not any(any(t[at]) and min(t[at]) < smallest for t in candidates):
                continue
            for kind, total in enumerate(totals):
                could = {table[at][kind] for table in candidates}
                yield could, total, any(map(any, shown))


def as_before(table, smallest):
    """The smallest large group is hidden with a small one, until both together are large."""
    told = standings(table, smallest, exact=True)
    return tuple(word in {Standing.SHOWN, Standing.NOBODY} for word in told)


def careless(table, smallest):
    """Small groups alone are hidden."""
    return tuple(not any(cell) or min(cell) >= smallest for cell in table)


ONE_OUTCOME = [pytest.param(3, 5, 13, marks=pytest.mark.slow), (5, 4, 22)]


@pytest.mark.parametrize(("smallest", "cells", "most"), ONE_OUTCOME)
def test_no_hidden_group_of_a_crossing_has_a_size_that_anybody_can_tell(smallest, cells, most):
    """Cells: the pairs of groups, and who is not known."""
    every = [of_kinds(table) for table in tables(cells, most)]
    found = list(known_of(every, smallest, told_at_the_source))
    assert len(found) > 100
    for could, _, told in found:
        assert len(could) > 1
        assert not told or len(could) >= smallest - 1
        assert not told or min(could) <= 1


def test_with_two_outcomes_neither_can_be_told_where_there_is_one():
    one = tables(3, 8)
    every = [of_kinds(without, with_it) for without in one for with_it in one]
    found = list(known_of(every, 3, told_at_the_source))
    assert any(told for _, _, told in found)
    for could, total, told in found:
        assert len(could) > 1 or not total
        assert not told or len(could) >= 2


@pytest.mark.parametrize("rule", [as_before, careless])
@pytest.mark.parametrize(("smallest", "cells", "most"), ONE_OUTCOME)
def test_the_attacker_can_win(rule, smallest, cells, most):
    """Of four groups [5, 5, 4, 4] the rule before this one told that the last are 4 and 4."""
    every = [of_kinds(table) for table in tables(cells, most)]
    assert any(len(could) == 1 for could, _, _ in known_of(every, smallest, rule))
    if rule is as_before and smallest == 5:
        assert published(of_kinds((5, 5, 4, 4)), 5, rule)[0][2:] == ((0,), (0,))


SIDES = ((0, 1), (2, 3))  # of a crossing of two and two groups, those of the first column


def test_a_margin_beside_its_crossing_opens_what_is_hidden():
    """Why exact counts refuse both: sex 0 less (sex 0, young) is (sex 0, old)."""
    same = defaultdict(set)
    for table in tables(4, 16):
        crossing = of_kinds(table)
        margin = of_kinds(tuple(sum(table[at] for at in side) for side in SIDES))
        seen = tuple(published(each, 3, told_at_the_source) for each in (crossing, margin))
        same[seen].add(crossing)
    opened = [
        seen
        for seen, candidates in same.items()
        for at in range(4)
        if any(0 < table[at][0] < 3 for table in candidates)
        and len({table[at] for table in candidates}) == 1
    ]
    assert opened


@pytest.mark.slow
def test_a_grouping_by_other_columns_tells_nothing_more_of_a_crossing():
    """Every pair of tables with one total has patients who give both, so each says no more than
    alone. Shown by all patients of two groupings by two columns, [2 x 2 groups, 2 wards]."""
    alone, beside = defaultdict(set), defaultdict(set)
    for table in tables(8, 8):
        cells = np.reshape(table, (4, 2))
        crossing = of_kinds(tuple(cells.sum(axis=1).tolist()))
        ward = of_kinds(tuple(cells.sum(axis=0).tolist()))
        seen = published(crossing, 3, told_at_the_source)
        alone[seen].add(crossing)
        beside[seen, published(ward, 3, told_at_the_source)].add(crossing)
    assert len(beside) > len(alone)
    for (seen, _), candidates in beside.items():
        assert candidates == alone[seen]
