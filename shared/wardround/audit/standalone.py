"""`wardround-verify`: `audit verify` alone, for an auditor who installs nothing else of Wardround.

The same four verdicts, options and exit codes as `wardround audit verify`, by the standard
library's argparse: neither the command line's libraries nor a renderer are needed.
"""

import argparse
import json
import sys
from pathlib import Path

from wardround.audit.compare import verify_bundles
from wardround.audit.pins import read_pins
from wardround.errors import BadInput, VerificationFailed, WardroundError


def run(arguments: list[str]) -> int:
    """Verify bundles and print the verdicts; return the exit code: 0, 4 or 7."""
    try:
        options = _options().parse_args(arguments)
    except SystemExit as stop:
        # argparse ends with 2, which is "unreachable" in Wardround's list.
        return BadInput.exit_code if stop.code else 0
    try:
        verdicts = verify_bundles(
            options.bundle,
            pins=read_pins(options.coordinator_key, options.roster, options.timestamp_authority),
        )
    except WardroundError as error:
        sys.stderr.write(f"wardround-verify: {error}\n")
        return error.exit_code
    said = json.dumps(verdicts.to_json()) if options.json else "\n".join(verdicts.lines())
    sys.stdout.write(f"{said}\n")
    return 0 if verdicts.ok else VerificationFailed.exit_code


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wardround-verify", description=__doc__)
    verify = parser.add_subparsers(required=True, metavar="verify").add_parser(
        "verify", help="Say whether a bundle is authentic, intact, complete and recomputed."
    )
    verify.add_argument(
        "bundle", type=Path, nargs="+", metavar="BUNDLE", help="a bundle.zip, or several of one run"
    )
    verify.add_argument(
        "--coordinator-key", default="", help="the coordinator's fingerprint, from elsewhere"
    )
    verify.add_argument(
        "--roster", type=Path, help='JSON {"hospital": "fingerprint"}, from elsewhere'
    )
    verify.add_argument(
        "--timestamp-authority",
        type=Path,
        help="PEM certificates of who may have stamped it (needs rfc3161-client)",
    )
    verify.add_argument("--json", action="store_true", help="one JSON value instead of text")
    return parser


def main() -> None:
    """The zipapp's entry point."""
    sys.exit(run(sys.argv[1:]))
