"""Forgeries about controls (SCAFFOLD): one hospital's differs from the others', or is made up."""

from collections.abc import Callable
from functools import lru_cache

from tests.support.federation_evidence import Federation, federation
from tests.support.forgeries import VICTIM, Change, Forgery, rewritten, sealed, set_to

from wardround.audit.evidence import hospital_place
from wardround.canonical import Json

HIS = hospital_place(VICTIM)
KEPT: Json = {"training": {"control": "scaffold"}, "evaluation": {"bins": 10}}
FIRST, SECOND, EVALUATION = 0, 1, 2


@lru_cache(maxsize=1)
def keeping() -> Federation:
    """All begin in the first round and keep their control in the second."""
    return federation(rounds=2, changes=KEPT, witnessed=True)


def shown_two(changes: Json | None = None) -> Federation:
    """The coordinator repeats a void attempt without the one that had signed, and asks it again.

    By its own log everybody was in the last sum; by those of the others one was not.
    """
    return federation(
        rounds=2,
        changes=changes,
        void=(0,),
        lost={"bergen": (0, "deadline")},
        returned={"bergen"},
        witnessed=True,
    )


def saying(change: Change, nth: int) -> Callable[[Federation], bytes]:
    def forge(_: Federation) -> bytes:
        fed = keeping().fork()
        rewritten(fed.hospitals[VICTIM], "release-reserved", change, nth)
        return sealed(fed.parts())

    return forge


def where_there_is_none(fed: Federation) -> bytes:
    rewritten(fed.hospitals[VICTIM], "release-reserved", set_to(control="kept"), SECOND)
    return sealed(fed.parts())


def unsaid(body: Json) -> None:
    del body["control"]


def control(name: str, forge: Callable[[Federation], bytes], place: str) -> Forgery:
    return Forgery(f"control-{name}", forge, "complete", "control-differs", place=place)


CONTROL_FORGERIES = (
    control("begun-alone", saying(set_to(control="begun"), SECOND), HIS),
    control("kept-at-first", saying(set_to(control="kept"), FIRST), HIS),
    control("unsaid", saying(unsaid, SECOND), HIS),
    control("of-counts", saying(set_to(control="kept"), EVALUATION), HIS),
    control("of-none", where_there_is_none, HIS),
    control("shown-two", lambda _: sealed(shown_two(KEPT).parts()), "coordinator"),
)
