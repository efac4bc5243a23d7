"""What section H of a page says about time stamps: words of a verification, not the report's."""

from wardround.audit.verdicts import Stamped, Verdicts
from wardround.audit.words import Words


def stamp_words(verdicts: Verdicts | None, t: Words) -> list[str]:
    """One sentence for each stamp, or that there is none; plain text, to be escaped."""
    if verdicts is None:
        key = (
            "A time stamp is added after the report is fixed, and stands in the bundle: a page "
            "that was made from the bundle shows it."
        )
        return [t.plain(key)]
    if not verdicts.time_stamps:
        key = (
            "No time stamp of a third party: when the logs were written rests on the clocks of "
            "those who wrote them."
        )
        return [t.plain(key)]
    return [_sentence(stamped, t) for stamped in verdicts.time_stamps]


def _sentence(stamped: Stamped, t: Words) -> str:
    if stamped.checked:
        key = (
            "Time stamp: at {time} the coordinator's log stood as it is. So says {authority}, and "
            "its signature was checked with the certificates that the reader gave."
        )
    else:
        key = (
            "Time stamp: at {time} the coordinator's log stood as it is. So says {authority}, whom "
            "nobody has checked: no certificate of a time stamping authority was given."
        )
    return t.plain(key, time=stamped.time, authority=stamped.authority)
