"""Who makes the samples: other ranks, which are told and asked by letters, or this one in turns with the training.

A maker of samples has its lanes of flows (`closures.training.online.lane.Lane`) and takes them in turn, so the samples
of a lane come in order, and in all there is one order: sample n is of lane n modulo the number of lanes. With
`deterministic` the weights that lead its flow are those of a step that n decides, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from closures.operators.predictor import Scaling
from closures.training.online.lane import Carried, Lane, Sample
from closures.training.online.student import Student
from solver.errors import Diverged
from solver.parallel.mailbox import Mailbox

Weights = Mapping[str, Tensor]
AHEAD = 2  # samples of a rank that the trainer has not taken up, of each of its lanes


@dataclass(frozen=True)
class Begin:
    """The trainer to a producer: go on from here, with a network of these units."""

    carried: dict[int, Carried | None]
    units: Scaling


@dataclass(frozen=True)
class NewWeights:
    """The trainer to a producer: the weights before a step of the optimiser."""

    step: int
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Taken:
    """The trainer to a producer: one of your samples is in the buffer."""


@dataclass(frozen=True)
class Stop:
    """The trainer to a producer: no more."""


@dataclass(frozen=True)
class Lost:
    """A producer to the trainer: flow after flow was lost."""

    reason: str


class Producers(Protocol):
    """The trainer's view of those who make samples."""

    def begin(self, carried: Sequence[Carried | None], units: Scaling) -> None:
        """Start, or go on, with every lane; the network has these units."""
        ...

    def publish(self, step: int, weights: Weights) -> None:
        """Send out the weights before a step."""
        ...

    def next(self, lane: int | None) -> Sample:
        """Wait for the next sample of a lane, or of any; raises Diverged if there can be none."""
        ...

    def has(self) -> bool:
        """Whether a sample is there."""
        ...

    def taken(self, sample: Sample) -> None:
        """A sample is in the buffer."""
        ...

    def stop(self) -> None:
        """No more samples are wanted."""
        ...


class Maker:
    """Makes the samples of some lanes.

    Parameters
    ----------
    lanes : makes a lane from its number and where it is.
    student : makes the network from its units; None where the teacher leads all flows.
    due : of the sample with a lane's count, the step whose weights it needs; None: the newest will do.
    """

    def __init__(
        self,
        lanes: Callable[[int, Carried | None], Lane],
        student: Callable[[Scaling], Student] | None,
        due: Callable[[int, int], int] | None,
    ) -> None:
        self.make, self.make_student, self.due = lanes, student, due
        self.student: Student | None = None
        self.lanes: dict[int, Lane] = {}
        self.versions: dict[int, Weights] = {}

    def begin(self, carried: Mapping[int, Carried | None], units: Scaling) -> None:
        """Take over these lanes where they are."""
        self.student = self.make_student(units) if self.make_student is not None else None
        self.lanes = {lane: self.make(lane, place) for lane, place in sorted(carried.items())}

    @property
    def turn(self) -> int:
        """The lane that is next: of those that have given the fewest samples the first."""
        return min(self.lanes, key=lambda lane: (self.lanes[lane].carried.place.count, lane))

    def learn(self, step: int, weights: Weights) -> None:
        """Keep the weights before a step."""
        self.versions[step] = weights

    def version(self, lane: int) -> int | None:
        """The weights that the next sample of a lane needs: -1 none; None if they have not come yet."""
        if self.student is None:
            return -1
        if self.due is None:
            return max(self.versions, default=None)
        step = self.due(lane, self.lanes[lane].carried.place.count)
        return step if step in self.versions else None

    def sample(self, lane: int) -> Sample:
        """The next sample of a lane; its weights have come."""
        version = self.version(lane)
        assert version is not None
        if self.student is not None and self.student.version != version:
            self.student.take(version, self.versions[version])
            self.versions = {step: weights for step, weights in self.versions.items() if step >= version}
        return self.lanes[lane](self.student)


class Here:
    """This process makes a sample whenever the training asks for one."""

    def __init__(self, maker: Maker) -> None:
        self.maker = maker

    def begin(self, carried: Sequence[Carried | None], units: Scaling) -> None:
        """See `Producers`."""
        self.maker.begin(dict(enumerate(carried)), units)

    def publish(self, step: int, weights: Weights) -> None:
        """See `Producers`."""
        self.maker.learn(step, weights)

    def next(self, lane: int | None) -> Sample:
        """See `Producers`; of a lane that is named, for here the order is always the same."""
        assert lane is not None
        return self.maker.sample(lane)

    def has(self) -> bool:
        """Nothing is made unasked."""
        return False

    def taken(self, sample: Sample) -> None:
        """It knows."""

    def stop(self) -> None:
        """It has."""


class Remote:
    """All ranks but this one make samples; lanes are dealt out in turn.

    Parameters
    ----------
    mailbox : of rank 0.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox, self.others = mailbox, range(1, mailbox.size)
        self.waiting: dict[int, deque[Sample]] = {}

    def begin(self, carried: Sequence[Carried | None], units: Scaling) -> None:
        """See `Producers`."""
        self.waiting = {lane: deque() for lane in range(len(carried))}
        for rank in self.others:
            own = {lane: place for lane, place in enumerate(carried) if self._rank_of(lane) == rank}
            self.mailbox.send(rank, Begin(own, units))

    def publish(self, step: int, weights: Weights) -> None:
        """See `Producers`."""
        for rank in self.others:
            self.mailbox.send(rank, NewWeights(step, dict(weights)))

    def next(self, lane: int | None) -> Sample:
        """See `Producers`."""
        while True:
            queues = self.waiting.values() if lane is None else [self.waiting[lane]]
            found = next((queue for queue in queues if queue), None)
            if found is not None:
                return found.popleft()
            self._receive(None if lane is None else self._rank_of(lane))

    def has(self) -> bool:
        """See `Producers`."""
        while self.mailbox.has():
            self._receive(None)
        return any(self.waiting.values())

    def taken(self, sample: Sample) -> None:
        """See `Producers`."""
        self.mailbox.send(self._rank_of(sample.lane), Taken())

    def stop(self) -> None:
        """See `Producers`."""
        for rank in self.others:
            self.mailbox.send(rank, Stop())

    def _receive(self, rank: int | None) -> None:
        _, letter = self.mailbox.receive(rank)
        if isinstance(letter, Lost):
            raise Diverged(letter.reason)
        self.waiting[letter.lane].append(letter)

    def _rank_of(self, lane: int) -> int:
        return 1 + lane % len(self.others)


def serve(mailbox: Mailbox, maker: Maker) -> None:
    """What a producer does: make samples, in turn of its lanes, until it is told to stop.

    It waits where the trainer has not taken up as many as it may be ahead, and for weights that it needs.
    """
    ahead = 0
    while True:
        while mailbox.has(0) or ahead >= AHEAD * len(maker.lanes) or maker.version(maker.turn) is None:
            _, letter = mailbox.receive(0)
            if isinstance(letter, Stop):
                return
            if isinstance(letter, Begin):
                maker.begin(letter.carried, letter.units)
            elif isinstance(letter, NewWeights):
                maker.learn(letter.step, letter.weights)
            else:
                ahead -= 1
        try:
            sample = maker.sample(maker.turn)
        except Diverged as problem:
            mailbox.send(0, Lost(str(problem)))
            return
        mailbox.send(0, sample)
        ahead += 1
