"""Which Flower node is which hospital: one at a time each; those of before are remembered."""

from dataclasses import dataclass, field

from wardround.errors import BadInput, Unreachable
from wardround_server.refusals import NodeNotYours, NodeReplaced


@dataclass(slots=True)
class Nodes:
    """A hospital gets a fresh node whenever its process registers."""

    _current: dict[str, int] = field(default_factory=dict)
    _hospital_of: dict[int, str] = field(default_factory=dict)
    _active: set[str] = field(default_factory=set)

    def bind(self, hospital: str, node_id: int) -> None:
        """Make this the hospital's node; it cannot be sent messages before `activate`."""
        self._current[hospital] = node_id
        self._hospital_of[node_id] = hospital
        self._active.discard(hospital)

    def activate(self, hospital: str) -> None:
        """The node can be sent messages."""
        self._active.add(hospital)

    def forget(self, hospital: str) -> None:
        """The hospital has no node any more."""
        self._current.pop(hospital, None)
        self._active.discard(hospital)

    def check(self, hospital: str, node_id: int) -> None:
        """Raise unless this is the hospital's node: NodeReplaced when it was, else NodeNotYours."""
        current = self._current.get(hospital)
        if current == node_id:
            return
        if current is not None and self._hospital_of.get(node_id) == hospital:
            raise NodeReplaced(f"{hospital} has registered a newer node")
        raise NodeNotYours(f"the node is not the one of {hospital}")

    def current(self, hospital: str) -> int | None:
        """The hospital's node, if it has one."""
        return self._current.get(hospital)

    def node_of(self, hospital: str) -> int:
        """The hospital's node. Raises Unreachable when it has none."""
        node_id = self._current.get(hospital)
        if node_id is None:
            raise Unreachable(f"hospital {hospital} is not connected")
        return node_id

    def hospital_of(self, node_id: int) -> str:
        """Whose node it is or was. Raises BadInput for a node that never was."""
        try:
            return self._hospital_of[node_id]
        except KeyError as error:
            raise BadInput(f"node {node_id}: no hospital has registered it") from error

    def active(self) -> frozenset[str]:
        """The hospitals that can be sent messages."""
        return frozenset(self._active)

    def live(self) -> frozenset[int]:
        """All current nodes."""
        return frozenset(self._current.values())
