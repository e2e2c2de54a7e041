"""How a group of units becomes few runs with the same outcome."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridgekit.store.statements import (
    Params,
    Run,
    Statement,
    Write,
    arrange,
    delete,
    insert,
    storable,
    table,
    upsert,
)

ONE = table("one", 1, k="bigint", v="bigint")
TWO = table("two", 2, k="bigint", l="bigint", v="bigint")
STATEMENTS = {
    "add": insert(ONE),
    "put": upsert(TWO),
    "remove": delete(ONE),
    "clear": delete(TWO),
    "remove_one": delete(TWO, keys=2),
    "prune": Statement(ONE, "DELETE FROM one WHERE v < $1", wide=True),
}
NAMES = {statement: name for name, statement in STATEMENTS.items()}
World = tuple[dict[Any, Any], dict[Any, Any]]


def apply(world: World, statement: Statement, params: Params) -> None:
    one, two = world
    match NAMES[statement], params:
        case "add", (k, v):
            one.setdefault(k, v)
        case "put", (k, m, v):
            two[k, m] = v
        case "remove", (k,):
            one.pop(k, None)
        case "clear", (k,):
            for pair in [pair for pair in two if pair[0] == k]:
                del two[pair]
        case "remove_one", (k, m):
            two.pop((k, m), None)
        case "prune", (int(limit),):
            for old in [k for k, v in one.items() if v < limit]:
                del one[old]


small = st.integers(0, 2)
writes = st.one_of(
    st.builds(lambda k, v: Write(STATEMENTS["add"], (k, v)), small, small),
    st.builds(lambda k, m, v: Write(STATEMENTS["put"], (k, m, v)), small, small, small),
    st.builds(lambda k: Write(STATEMENTS["remove"], (k,), Write(STATEMENTS["clear"], (k,))), small),
    st.builds(lambda k, m: Write(STATEMENTS["remove_one"], (k, m)), small, small),
    st.builds(lambda v: Write(STATEMENTS["prune"], (v,)), small),
)


@given(st.lists(st.lists(writes, max_size=4), max_size=12))
def test_arranged_runs_leave_the_same_rows_as_the_writes_one_by_one(units: list[list[Write]]):
    plain: World = ({}, {})
    for unit in units:
        for first in unit:
            write: Write | None = first
            while write is not None:
                apply(plain, write.statement, write.params)
                write = write.also
    arranged: World = ({}, {})
    for run in arrange(units):
        for params in run.rows:
            apply(arranged, run.statement, params)
    assert arranged == plain


def test_a_hundred_messages_need_four_runs():
    units: list[list[Write]] = []
    for n in range(100):
        units.append([Write(STATEMENTS["add"], (n, 0))])
        units.append(
            [
                Write(STATEMENTS["put"], (n, 0, 0)),
                Write(STATEMENTS["put"], (n, 1, 0)),
                Write(STATEMENTS["remove"], (n,), Write(STATEMENTS["clear"], (n,))),
            ]
        )
    assert [(NAMES[run.statement], len(run.rows)) for run in arrange(units)] == [
        ("add", 100),
        ("put", 200),
        ("remove", 100),
        ("clear", 100),
    ]


@given(st.text(st.characters(codec=None), max_size=5))
def test_storable_text_has_no_nul_and_encodes(text: str):
    kept = storable(text)
    assert "\0" not in kept
    assert len(kept.encode().decode()) == len(text)


def test_ordinary_text_is_stored_as_it_is():
    assert storable("Zoë 👍") == "Zoë 👍"


def test_of_several_upserts_of_one_row_the_last_is_written_and_nothing_else_is_left_out():
    rows: list[Params] = [(1, 1, 5), (1, 2, 6), (1, 1, 7)]
    assert Run(upsert(TWO), rows).lasting == [(1, 1, 7), (1, 2, 6)]
    assert Run(insert(TWO), rows).lasting == rows
