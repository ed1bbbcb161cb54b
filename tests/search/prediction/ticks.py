"""The pipelines of `blockstep.search.prediction`, once more: state machines that tick.

An independent implementation to compare with: no generators, no conditions, no heap. Time passes
in whole ticks; in each, every machine looks at what the others have done until nothing changes.
All seconds are whole numbers of ticks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

__all__ = ["Belt", "ends_of_errors_back", "ends_of_forward_only"]

LONGEST = 100_000


@dataclass
class Belt:
    """A link: a slot, a journey with three legs, and a queue.

    Attributes:
        latency, carriage: Ticks before room is reserved, and after.
        depth: Messages that fit into the queue.
        local: Whether there is no slot and no journey.
    """

    latency: int = 0
    carriage: int = 0
    depth: int = 1
    local: bool = False
    queue: int = 0
    deepest: int = 0
    slot: bool = False
    leg: str = "none"
    left: int = 0

    def offer(self) -> bool:
        """Take a message if there is a place for it."""
        if self.local:
            if self.queue >= self.depth:
                return False
            self._arrive()
            return True
        if self.slot:
            return False
        self.slot, self.leg, self.left = True, "header", self.latency
        return True

    def take(self) -> bool:
        """Give a message if there is one."""
        if not self.queue:
            return False
        self.queue -= 1
        return True

    def look(self) -> bool:
        """Go on if a leg of the journey is over; whether anything changed."""
        if self.leg == "header" and self.left == 0:
            self.leg = "room"
        if self.leg == "room" and self.queue < self.depth:
            self.leg, self.left = "payload", self.carriage
            return True
        if self.leg == "payload" and self.left == 0:
            self.leg, self.slot = "none", False
            self._arrive()
            return True
        return False

    def tick(self) -> None:
        """A tick passes."""
        if self.leg in ("header", "payload"):
            self.left -= 1

    def _arrive(self) -> None:
        self.queue += 1
        self.deepest = max(self.deepest, self.queue)


@dataclass
class Machine:
    """A stage: a list of things to do in each step, one after the other.

    Attributes:
        plan: For a step, the actions: ("work", ticks), ("take", belt) or ("give", belt).
        steps: How many.
    """

    plan: Callable[[int], list[tuple]]
    steps: int
    step: int = 0
    actions: list[tuple] = field(default_factory=list)
    left: int | None = None
    ends: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.actions = self.plan(0)

    @property
    def over(self) -> bool:
        return self.step >= self.steps

    def look(self, now: int) -> bool:
        """Do what can be done now; whether anything changed."""
        if self.over:
            return False
        if not self.actions:
            self.ends.append(now)
            self.step += 1
            self.actions = [] if self.over else self.plan(self.step)
            return True
        kind, what = self.actions[0]
        if kind == "work":
            if self.left is None:
                self.left = what
            if self.left:
                return False
            self.left = None
        elif not (what.take() if kind == "take" else what.offer()):
            return False
        self.actions.pop(0)
        return True

    def tick(self) -> None:
        """A tick passes."""
        if self.left is not None:
            self.left -= 1


def _run(machines: Sequence[Machine], belts: Sequence[Belt]) -> None:
    for now in range(LONGEST):
        changed = True
        while changed:
            looks = [one.look(now) for one in machines] + [one.look() for one in belts]
            changed = any(looks)
        if all(one.over for one in machines):
            return
        for one in (*machines, *belts):
            one.tick()
    raise AssertionError("the machines do not end")


def ends_of_forward_only(
    ticks: Callable[[int, int], int], belts: Sequence[Belt], *, steps: int
) -> list[list[int]]:
    """Return when each stage ended each step: take, work, hand on."""

    def plan_of(number: int) -> Callable[[int], list[tuple]]:
        def plan(step: int) -> list[tuple]:
            take = [("take", belts[number - 1])] if number else []
            give = [("give", belts[number])] if number < len(belts) else []
            return [*take, ("work", ticks(number, step)), *give]

        return plan

    machines = [Machine(plan_of(number), steps) for number in range(len(belts) + 1)]
    _run(machines, belts)
    return [one.ends for one in machines]


def ends_of_errors_back(
    forward: Sequence[int], learn: Sequence[int], ahead: Sequence[Belt], back: Sequence[Belt],
    *, steps: int,
) -> list[list[int]]:  # fmt: skip
    """Return when each stage ended each step: take, forward, hand on, take the error, learn, hand
    it on; stage k of K first learns in step K - k."""
    stages = len(forward)

    def plan_of(number: int) -> Callable[[int], list[tuple]]:
        def plan(step: int) -> list[tuple]:
            actions: list[tuple] = []
            if number > 0:
                actions.append(("take", ahead[number - 1]))
            actions.append(("work", forward[number]))
            if number < stages - 1:
                actions.append(("give", ahead[number]))
            if step < stages - 1 - number:
                return actions
            if number < stages - 1:
                actions.append(("take", back[number]))
            actions.append(("work", learn[number]))
            if number > 0:
                actions.append(("give", back[number - 1]))
            return actions

        return plan

    machines = [Machine(plan_of(number), steps) for number in range(stages)]
    _run(machines, [*ahead, *back])
    return [one.ends for one in machines]
