"""How many calls a tier made, and how many the store answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from automix_eval.types import Phase, Role

Purpose = tuple[Phase, str, Role]
Mark = tuple[Counter[Purpose], Counter[tuple[Phase, str, Role, str]], set[str]]


@dataclass(slots=True)
class CallCounts:
    """How many calls were made and how many came from the store, by phase, task and role.

    Work that a failed call has interrupted is done again from the store. Its calls were made once
    and are counted once: :meth:`rewind` forgets the interrupted attempt, but for the calls it made,
    which the next attempt finds in the store and does not count again.

    Attributes:
        events: What the calls' results note (:class:`Generation`), by kind as well.
    """

    made: Counter[Purpose] = field(default_factory=Counter)
    stored: Counter[Purpose] = field(default_factory=Counter)
    events: Counter[tuple[Phase, str, Role, str]] = field(default_factory=Counter)
    _before: set[str] = field(default_factory=set)

    def events_of(self, phase: Phase, task: str, role: Role) -> dict[str, int]:
        """Events of the calls of one kind, in the order of their names."""
        found = {k[3]: n for k, n in self.events.items() if k[:3] == (phase, task, role)}
        return dict(sorted(found.items()))

    def add(
        self,
        purpose: Purpose,
        keys: Sequence[str],
        made: Collection[str],
        events: Iterable[Sequence[str]],
    ) -> None:
        """Count calls that are done, but for those made, which count when they are made.

        Args:
            purpose: What they were for.
            keys: The key of each call.
            made: Those that the store did not hold.
            events: The events of each different call.
        """
        earlier = self._before.intersection(keys)
        self.stored[purpose] += sum(k not in made and k not in earlier for k in keys)
        self._before -= earlier
        for some in events:
            self.events.update((*purpose, event) for event in some)

    def mark(self) -> Mark:
        """A point to come back to."""
        return self.stored.copy(), self.events.copy(), set(self._before)

    def rewind(self, mark: Mark, made: Iterable[str]) -> None:
        """Come back, with the calls made since."""
        self.stored, self.events, before = mark
        self._before = before | set(made)
