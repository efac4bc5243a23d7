"""The end of a run: a time stamp for its bundle, where coordinator.toml names an authority."""

import logging
from dataclasses import dataclass
from pathlib import Path

from wardround.audit.container import read_file
from wardround.audit.timestamp import Authorities, read_authorities
from wardround.audit.timestamp_attach import stamp_bundle
from wardround.audit.timestamp_request import checked_url
from wardround.canonical import Json
from wardround.durable import write_durably
from wardround.errors import WardroundError
from wardround_server.home import CoordinatorHome

log = logging.getLogger("wardround.coordinator")


@dataclass(frozen=True, slots=True)
class TimeStamping:
    """Who is asked, and whose certificates its stamps have to have (None: anybody's)."""

    url: str
    authorities: Authorities | None

    @classmethod
    def of(cls, home: CoordinatorHome) -> "TimeStamping | None":
        """As coordinator.toml says; None where it names nobody.

        Raises BadInput for what is no URL, and for a file without certificates.
        """
        settings = home.settings()
        if settings.time_stamp_authority is None:
            return None
        ca = settings.time_stamp_ca
        authorities = None if ca is None else read_authorities(home.directory / ca)
        return cls(checked_url(settings.time_stamp_authority), authorities)


def stamp_at_the_end(home: CoordinatorHome, bundle: Path) -> Json:
    """Stamp a finished run's bundle; `{"time_stamp": ...}` for its result, {} if nobody is named.

    It never raises: the run is over, its bundle is written, and a stamp can be added later. What
    went wrong stands in the result and in the service's log.
    """
    try:
        stamping = TimeStamping.of(home)
        if stamping is None:
            return {}
        content, stamp = stamp_bundle(
            read_file(bundle), stamping.url, authorities=stamping.authorities
        )
        write_durably(bundle, content)
    except Exception as error:  # noqa: BLE001  # nothing that an authority does may lose a run
        why = str(error) if isinstance(error, WardroundError) else type(error).__name__
        log.error("NO TIME STAMP: %s; `wardround audit stamp` adds one", why)  # noqa: TRY400  # its text says it
        return {"time_stamp": {"missing": why}}
    log.info("bundle stamped at %s by %s", stamp.time_text, stamp.authority)
    return {"time_stamp": {"time": stamp.time_text, "authority": stamp.authority}}
