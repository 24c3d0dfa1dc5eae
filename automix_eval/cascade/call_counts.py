"""How many model calls a tier has made, and how many it took from the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from automix_eval.types import Phase, Role

Purpose = tuple[Phase, str, Role]
_Mark = tuple[Counter[Purpose], Counter[tuple[Phase, str, Role, str]], set[str]]


@dataclass(slots=True)
class CallCounts:
    """How many calls were made and how many came from the store, by phase, task and role.

    Work that a failed call has interrupted is done again from the store. Its calls were made once
    and are counted once: :meth:`rewind` forgets the interrupted attempt, but for the calls it made,
    which the next attempt finds in the store and does not count again.

    Attributes:
        events: What the calls' results note (:class:`Generation`), by kind as well.
        lost_system: Prompts whose system message the model's template dropped.
    """

    made: Counter[Purpose] = field(default_factory=Counter)
    stored: Counter[Purpose] = field(default_factory=Counter)
    events: Counter[tuple[Phase, str, Role, str]] = field(default_factory=Counter)
    lost_system: Counter[Purpose] = field(default_factory=Counter)
    _before: set[str] = field(default_factory=set)
    _repeated: set[Purpose] = field(default_factory=set)

    @contextmanager
    def repeating(self, purpose: Purpose) -> Iterator[None]:
        """Calls for a purpose that were asked for and counted before: only those made count."""
        self._repeated.add(purpose)
        try:
            yield
        finally:
            self._repeated.remove(purpose)

    def events_of(self, phase: Phase, task: str, role: Role) -> dict[str, int]:
        """Events of the calls of one kind, in the order of their names."""
        found = {k[3]: n for k, n in self.events.items() if k[:3] == (phase, task, role)}
        return dict(sorted(found.items()))

    def lost_system_of(self, phase: Phase, task: str) -> int:
        """Prompts of a phase of a task that lost their system message."""
        return sum(n for k, n in self.lost_system.items() if k[:2] == (phase, task))

    def add(
        self,
        purpose: Purpose,
        keys: Sequence[str],
        made: Collection[str],
        events: Mapping[str, Sequence[str]],
    ) -> None:
        """Count calls that are done, but for those made, which count when they are made.

        Args:
            purpose: What they were for.
            keys: The key of each call; one that comes again is in the store by then.
            made: Those that the store did not hold.
            events: Those of each different call, by its key.
        """
        earlier = self._before.intersection(keys)
        self._before -= earlier
        repeated = purpose in self._repeated
        if not repeated:
            self.stored[purpose] += len(keys) - len(made) - len(earlier)
        for key, some in events.items():
            if not repeated or key in made:
                self.events.update((*purpose, event) for event in some)

    def lose_system(self, purpose: Purpose) -> None:
        """Count a prompt whose system message the model's template dropped."""
        self.lost_system[purpose] += purpose not in self._repeated

    def mark(self) -> _Mark:
        """A point to come back to."""
        return self.stored.copy(), self.events.copy(), set(self._before)

    def rewind(self, mark: _Mark, made: Iterable[str]) -> None:
        """Come back, with the calls made since."""
        self.stored, self.events, before = mark
        self._before = before | set(made)
