"""A run on several processes as events: questions arrive at ranks, escalations at one server.

Each rank takes its share of the questions in blocks: its own model answers and verifies a block,
the escalated questions go to the server with so many requests in flight, and the next block begins
when the last answer is there (:func:`cascade.route.route` is called block by block, and no
rank waits for another). The server works on so many requests at a time, first come, first served.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Site:
    """What a run costs, in seconds.

    Attributes:
        slm: Of a rank's own model, a question: answer and verification.
        own: Of the cascade itself, a question.
        llm: Of the server, a request, while it works on as many as ``slots``.
        slots: Requests the server works on at a time; its rate is ``slots / llm``.
        in_flight: Requests that one rank has in flight (``llm.num_concurrent``).
        escalated: Share of the questions that are escalated.
        block: Questions of a block (``block_size``).
        ready: Before the first question: imports, models, calibration.
        merged: Of the first process, a question of another process, at the end.
        spread: Standard deviation of a request's time over its mean (gamma distributed).
    """

    slm: float
    own: float
    llm: float
    slots: int
    in_flight: int
    escalated: float
    block: int = 2048
    ready: float = 0.0
    merged: float = 0.0
    spread: float = 0.0


@dataclass(slots=True)
class Outcome:
    """How long it took, and who was busy.

    Attributes:
        wall: Seconds from start to end.
        ranks: Share of that time in which a rank's own model or process worked, the mean of all.
        server: Share of that time in which the server's slots worked, the mean of all.
        ends: Share of that time before the first question and after the last.
    """

    wall: float
    ranks: float
    server: float
    ends: float = 0.0

    @property
    def bottleneck(self) -> str:
        """The part that was busy most of the time.

        Neither is where a rank waits for the answers of its block, and the server for the next
        block: then more ranks than devices help.
        """
        if self.ends > 0.5:
            return "start and end"
        if max(self.ranks, self.server) < 0.65:
            return "ranks and server in turn"
        return "server" if self.server > self.ranks else "ranks"


@dataclass(slots=True)
class _Rank:
    """Where a rank is in its share.

    Attributes:
        blocks: Questions of each block to come, as (number, escalated).
        unsent: Requests of this block not sent yet.
        waiting: Requests of this block that the server has.
    """

    blocks: deque[tuple[int, int]]
    unsent: int = 0
    waiting: int = 0


@dataclass(slots=True)
class _Simulation:
    site: Site
    rng: np.random.Generator
    ranks: list[_Rank]
    events: list[tuple[float, int, str, int]] = field(default_factory=list)
    queue: deque[int] = field(default_factory=deque)
    free: int = 0
    number: int = 0
    served: float = 0.0

    def at(self, time: float, kind: str, rank: int) -> None:
        """Something will happen; what was said first happens first."""
        self.number += 1
        heapq.heappush(self.events, (time, self.number, kind, rank))

    def run(self) -> float:
        """The time of the last event."""
        now = self.site.ready
        self.free = self.site.slots
        for rank in range(len(self.ranks)):
            self.begin(now, rank)
        while self.events:
            now, _, kind, rank = heapq.heappop(self.events)
            if kind == "judged":
                self.send(now, rank)
            else:
                self.answered(now, rank)
        return now

    def begin(self, now: float, rank: int) -> None:
        """The next block, if there is one."""
        state = self.ranks[rank]
        if state.blocks:
            number, state.unsent = state.blocks.popleft()
            self.at(now + number * (self.site.slm + self.site.own), "judged", rank)

    def send(self, now: float, rank: int) -> None:
        """As many requests as may be in flight."""
        state = self.ranks[rank]
        while state.unsent and state.waiting < self.site.in_flight:
            state.unsent -= 1
            state.waiting += 1
            if self.free:
                self.free -= 1
                self.serve(now, rank)
            else:
                self.queue.append(rank)
        if not state.waiting:
            self.begin(now, rank)

    def serve(self, now: float, rank: int) -> None:
        """A slot of the server begins a request."""
        spread = self.site.spread**2
        seconds = self.site.llm
        if spread:
            seconds = float(self.rng.gamma(1 / spread, self.site.llm * spread))
        self.served += seconds
        self.at(now + seconds, "answered", rank)

    def answered(self, now: float, rank: int) -> None:
        """A slot is free again, and its rank goes on."""
        self.ranks[rank].waiting -= 1
        if self.queue:
            self.serve(now, self.queue.popleft())
        else:
            self.free += 1
        self.send(now, rank)


def simulate(
    questions: int, ranks: int, site: Site, seed: int = 0, escalated: Sequence[bool] | None = None
) -> Outcome:
    """One run.

    Args:
        questions: Number of questions.
        ranks: Number of processes.
        site: What it costs.
        seed: Of what is drawn.
        escalated: Which questions are escalated; None draws them.
    """
    rng = np.random.default_rng(seed)
    sent = rng.random(questions) < site.escalated if escalated is None else np.array(escalated)
    states = []
    for rank in range(ranks):
        mine = sent[rank::ranks]
        parts = [mine[i : i + site.block] for i in range(0, len(mine), site.block)]
        states.append(_Rank(deque((len(p), int(p.sum())) for p in parts)))
    simulation = _Simulation(site, rng, states)
    after = site.merged * (questions - len(sent[::ranks]))
    end = simulation.run() + after
    busy = questions * (site.slm + site.own) / ranks
    served = simulation.served / site.slots
    return Outcome(end, busy / end, served / end, (site.ready + after) / end)
