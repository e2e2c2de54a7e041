"""The arithmetic of the bench: medians, ratios within a repetition, verdicts."""

from __future__ import annotations

from tests.bench import figures
from tests.bench.figures import FIGURES, Results, table, verdicts
from tests.bench.report import placed


def measured(**changed: float) -> Results:
    """A run that meets every goal, save for what is `changed` (by a figure's name)."""
    results = Results()
    for figure in FIGURES.values():
        if figure.goal is not None:
            results.add("bridge", figure.name, changed.get(figure.name, figure.goal))
    return results


def test_a_goal_that_is_reached_exactly_is_met():
    assert all(met for met, _ in verdicts(measured(), "bridge"))


def test_a_goal_is_missed_on_its_own_side_of_the_bound():
    for figure in FIGURES.values():
        if figure.goal is None:
            continue
        worse = figure.goal - figure.better * 0.01
        missed = [line for met, line in verdicts(measured(**{figure.name: worse}), "bridge") if not met]
        assert len(missed) == 1
        assert missed[0].startswith(f"missed  {figure.name} ")


def test_what_was_not_measured_is_missed():
    results = Results()
    assert not any(met for met, line in verdicts(results, "bridge") if "not measured" in line)


def test_one_lost_message_spoils_the_run():
    results = measured()
    results.faults.append("bridge, flat out: lost 1")
    assert [line for met, line in verdicts(results, "bridge") if not met] == [
        "missed  lost 0, doubled 0, late within a sender 0, right ghost, in every load"
    ]


def test_ratios_are_made_within_a_repetition():
    """A slow minute of the machine strikes both, so only their ratio in that minute says something."""
    results = Results()
    for bare, ours in ((1000, 500), (100, 50), (2000, 1500)):
        results.add("bare", figures.RATE_IN, bare)
        results.add("bridge", figures.RATE_IN, ours)
    assert results.ratio("bridge", "bare", figures.RATE_IN) == 0.5
    assert results.of("bridge", figures.RATE_IN) == 500


def test_the_table_shows_median_spread_and_ratio():
    results = Results()
    for value in (3000, 2000, 4000):
        results.add("bridge", figures.RATE_IN, value)
        results.add("bare", figures.RATE_IN, 6000)
    assert table(results, "bridge", "bare").splitlines()[2] == (
        "| IRC to Matrix, flat out | 3,000 msg/s | 2,000 to 4,000 | 6,000 msg/s | 0.50 |"
    )


def test_a_section_of_the_report_takes_the_place_of_the_one_before():
    page = "# All\n\none\n\n## Sealed\n\ntwo\n\n## Peers\n\nthree\n"
    assert placed(page, "## Sealed\n\n2\n") == "# All\n\none\n\n## Sealed\n\n2\n\n## Peers\n\nthree\n"
    assert placed(page, "# All\n\n1\n") == "# All\n\n1\n\n## Sealed\n\ntwo\n\n## Peers\n\nthree\n"
    assert placed(page, "## New\n\n4") == page + "\n## New\n\n4\n"
    assert placed("", "## New\n\n4\n") == "## New\n\n4\n"
