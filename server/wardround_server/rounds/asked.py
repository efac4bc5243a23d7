"""For which sum without noise hospitals were last asked to sign: it may be open, whatever follows.

A coordinator that dies then does not know who has signed. It must not ask for another sum of that
round (PROTOCOL 7), and hospitals would refuse; so what was asked is on disk before it is asked.
"""

from dataclasses import dataclass
from pathlib import Path

from wardround.canonical import canonical_bytes, parse_canonical
from wardround.durable import write_durably
from wardround.masking.round_spec import Purpose, RoundSpec

_LIMIT_BYTES = 1000


@dataclass(frozen=True, slots=True)
class AskedToSign:
    """One small file of a run."""

    file: Path

    def note(self, spec: RoundSpec) -> None:
        """Survivors of this attempt are about to be asked for; on disk when this returns."""
        value = {"purpose": spec.purpose.value, "round": spec.round}
        write_durably(self.file, canonical_bytes(value))

    def covers(self, purpose: Purpose, round_number: int) -> bool:
        """Whether hospitals were asked to sign for a sum of this round. Raises BadInput."""
        if not self.file.exists():
            return False
        value = parse_canonical(
            self.file.read_bytes(), what=self.file.name, limit_bytes=_LIMIT_BYTES
        )
        return bool(value == {"purpose": purpose.value, "round": round_number})
