"""A consortium's own network, as a study names it: a package that every hospital has installed."""

from typing import Annotated, Protocol

from pydantic import StringConstraints, field_validator

from wardround.study.contract import Frozen

EntryName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
PackageName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
CodeDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class OwnModel(Frozen):
    """Which network, from which installed package, and the digest of its sources.

    `name` is the entry point in the group `wardround.models`, `package` the top folder that it
    leads into, `digest` what `wardround.code_digest.code_digest` finds there. No code arrives with
    a study: a hospital runs what its own people installed, and only while the digest is this one.
    """

    name: EntryName
    package: PackageName
    digest: CodeDigest

    @field_validator("package")
    @classmethod
    def _not_ours(cls, package: str) -> str:
        if package == "wardround" or package.startswith("wardround_"):
            raise ValueError(f"own model: package {package} is Wardround's, another name is due")
        return package


class NamesAnOwnModel(Protocol):
    """A study's [task]."""

    @property
    def own(self) -> OwnModel | None:
        """The own model that it names."""
        ...


def with_own_model(packages: tuple[str, ...], task: NamesAnOwnModel) -> tuple[str, ...]:
    """The packages whose digests a party of the study logs: ours, and that of its own model."""
    return packages if task.own is None else (*packages, task.own.package)
