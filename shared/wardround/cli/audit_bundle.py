"""`wardround audit attach`, `stamp` and `redact`: what is done to a bundle after its run."""

from pathlib import Path
from typing import Annotated

import typer

from wardround.cli.output import AsJson, say
from wardround.errors import BadInput

BundleFile = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle.zip.")]
SignatureFiles = Annotated[
    list[Path], typer.Argument(metavar="SIGNATURE...", help="Files of `review sign-off`.")
]
OutFile = Annotated[
    Path | None, typer.Option("--out", help="Write here instead of into BUNDLE itself.")
]


def attach(
    bundle: BundleFile,
    signatures: SignatureFiles,
    out: OutFile = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Add hospitals' sign-offs to a bundle. Each is checked; nothing else in it changes."""
    from wardround.audit.attach import attach as attached
    from wardround.audit.container import read_file
    from wardround.durable import write_durably
    from wardround.evidence.dsse import ENVELOPE_LIMIT_BYTES

    for path in signatures:
        if not path.is_file():
            raise BadInput(f"{path.name}: no such file; a hospital's NAME.dsse.json was due")
        if path.stat().st_size > ENVELOPE_LIMIT_BYTES:
            raise BadInput(f"{path.name}: over {ENVELOPE_LIMIT_BYTES} bytes, no signature file")
    content, added = attached(read_file(bundle), [path.read_bytes() for path in signatures])
    write_durably(out or bundle, content)
    say(
        {
            "bundle": str(out or bundle),
            "sign_offs": [decided.model_dump(mode="json") for decided in added],
        },
        "\n".join(decided.in_words() for decided in added),
        as_json=as_json,
    )


def stamp(
    bundle: BundleFile,
    authority: Annotated[
        str, typer.Option("--authority", help="URL of a time stamping authority (RFC 3161).")
    ],
    timestamp_authority: Annotated[
        Path | None,
        typer.Option("--timestamp-authority", help="PEM certificates that it has to have."),
    ] = None,
    out: OutFile = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Let an authority say when this bundle's log was there. Only a hash leaves this computer."""
    from wardround.audit.container import read_file
    from wardround.audit.timestamp import read_authorities
    from wardround.audit.timestamp_attach import stamp_bundle
    from wardround.durable import write_durably

    asked = None if timestamp_authority is None else read_authorities(timestamp_authority)
    content, stamped = stamp_bundle(read_file(bundle), authority, authorities=asked)
    write_durably(out or bundle, content)
    said = {"time": stamped.time_text, "authority": stamped.authority, "checked": asked is not None}
    whose = stamped.authority if asked else f"{stamped.authority}, not checked"
    say(
        {"bundle": str(out or bundle), "time_stamp": said},
        f"{out or bundle}: stamped at {stamped.time_text} by {whose}",
        as_json=as_json,
    )


def redact(
    bundle: BundleFile,
    out: Annotated[Path, typer.Option("--out", help="File for the redacted bundle.")],
    *,
    keep_report: Annotated[
        bool, typer.Option("--keep-report", help="It names officers and what data sets have spent.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Withhold officers, budgets and hospitals' accounts.

    All signatures and proofs still hold.
    """
    from wardround.audit.container import read_file
    from wardround.audit.redact import redact as redacted
    from wardround.durable import write_durably

    content = redacted(read_file(bundle), keep_report=keep_report)
    write_durably(out, content)
    say({"bundle": str(out), "bytes": len(content)}, f"{out}: redacted", as_json=as_json)
