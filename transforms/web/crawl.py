"""Asks many hosts at once, and each as gently as if it were the only one.

All items of a host go through one `Host`, in one worker, so its limits hold over all workers; or through as many as the
policy divides them among.
"""

import collections
import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from celebface.indexing.schemas import Reason
from celebface.transforms.web import robots
from celebface.transforms.web.client import Answer, WebClient
from celebface.transforms.web.policy import FetchPolicy, WebFault
from celebface.transforms.web.robots import RobotsRules

Item = TypeVar("Item")
Result = TypeVar("Result")

_SHARE_WAITED = 0.25  # of an item's time, for its turn at a host that wants pauses


class Host:
    """One host: what it allows, when it may be asked next, and whether it is worth asking."""

    def __init__(self, name: str, client: WebClient, policy: FetchPolicy):
        """Asks nothing yet."""
        self.name = name
        self._client = client
        self._policy = policy
        self._rules: dict[str, RobotsRules | WebFault] = {}
        self._interval = policy.interval_each
        self._next = 0.0
        self._failures = 0
        self._last_failure = ""
        self._hung = 0
        self._slowest = 0.0
        self._lock = threading.Lock()
        self._robots_locks: dict[str, threading.Lock] = collections.defaultdict(threading.Lock)

    @property
    def ready_at(self) -> float:
        """When it may be asked next, by `time.monotonic`; at once if it would not be asked anyway."""
        left_alone = self._failures >= self._policy.host_failures
        too_long = self._next - time.monotonic() > self._policy.total_seconds
        return 0.0 if left_alone or too_long else self._next

    @property
    def connections(self) -> int:
        """Requests that it may have under way at once: so few that none spends its time with waiting for the others."""
        if not self._interval:
            return self._policy.connections_each
        in_time = int(_SHARE_WAITED * self._policy.total_seconds / self._interval)
        return max(1, min(self._policy.connections_each, in_time))

    @property
    def patience(self) -> float:
        """Seconds that a request may take.

        All that the policy allows, until items hang; then the less the more have done so, for each holds one of the few
        connections, but ten times as long as the slowest that came.
        """
        total = self._policy.total_seconds
        return min(total, max(total / (3 * self._hung), 10 * self._slowest)) if self._hung else total

    def get(self, url: str, **how: Any) -> Answer:
        """Asks as `WebClient.get` does, and as the host wants it.

        Raises:
          WebFault: If it cannot be had, or may not.
          Moved: As `WebClient.get`.
        """
        if self._failures >= self._policy.host_failures:
            raise WebFault(
                Reason.HOST_FAILING,
                f"left alone after {self._policy.host_failures} failures in a row, the last {self._last_failure}",
            )
        start = time.monotonic()
        try:
            look_at = robots.check_headers if self._policy.opt_outs else (lambda headers: None)
            answer = self._client.get(
                url, may_ask=self._may_ask, look_at=look_at, told=self._told, seconds=self.patience, **how
            )
        except WebFault as fault:
            self._told(fault)
            self._count(fault)
            raise
        self._slowest = max(self._slowest, time.monotonic() - start)
        self._failures = 0
        return answer

    def rules(self, url: str) -> RobotsRules:
        """The robots.txt that holds for a URL.

        Raises:
          WebFault: If the host cannot be asked.
        """
        origin = "/".join(url.split("/", 3)[:3])
        with self._lock:
            lock = self._robots_locks[origin]
        with lock:
            if origin not in self._rules:
                try:
                    self._rules[origin] = RobotsRules.load(
                        url, lambda place, **how: self._client.get(place, may_ask=self._wait, told=self._told, **how)
                    )
                except WebFault as fault:
                    self._rules[origin] = fault
            found = self._rules[origin]
        if isinstance(found, WebFault):  # it was tried again, and is not for each item
            raise WebFault(found.reason, str(found), of_host=found.of_host)
        return found

    def _may_ask(self, url: str, seconds: float) -> None:
        start = time.monotonic()
        if self._policy.robots:
            rules = self.rules(url)
            rules.check(url)
            self._interval = max(self._interval, rules.delay * self._policy.host_workers)
        self._wait(url, seconds - (time.monotonic() - start))

    def _wait(self, url: str, seconds: float) -> None:
        """Waits for the host's turn, if that comes in time."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            if start - now > max(seconds, 0.0):  # an item whose time is up is late, whatever its host wants
                raise WebFault(Reason.RATE_LIMITED, f"its host is not to be asked for another {start - now:.0f} s")
            self._next = start + self._interval
        if start > now:
            time.sleep(start - now)

    def _told(self, fault: WebFault) -> None:
        if fault.retry_after:
            with self._lock:
                self._next = max(self._next, time.monotonic() + fault.retry_after)

    def _count(self, fault: WebFault) -> None:
        self._hung += fault.reason == Reason.TIMEOUT
        if fault.of_host:
            self._failures += 1
            self._last_failure = str(fault.reason)
        elif fault.reason not in (Reason.ROBOTS_DISALLOWED, Reason.PRIVATE_ADDRESS, Reason.RATE_LIMITED):
            self._failures = 0


class Crawl(Generic[Item, Result]):
    """Works through items, host by host, with a pool of threads.

    A host is first asked by one thread; when that has an answer, by as many as it may be. Results wait in a queue of
    bounded length, so no more is held than threads and queue can hold.
    """

    def __init__(self, work: Callable[[Host, Item], Result], client: WebClient, policy: FetchPolicy):
        """Starts the threads.

        Args:
          work: What to do with an item of a host. What it raises is raised by `results`.
          client: Asks.
          policy: How many at once.
        """
        self._work = work
        self._client = client
        self._policy = policy
        self._lanes: dict[str, _Lane] = {}
        self._tickets: list[tuple[float, int, _Lane]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._unfinished = 0
        self._results: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(policy.threads)
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(policy.threads)]
        for thread in self._threads:
            thread.start()

    def add(self, host: str, item: Item) -> None:
        """Adds an item of a host."""
        self._unfinished += 1
        with self._changed:
            if host not in self._lanes:
                self._lanes[host] = _Lane(Host(host, self._client, self._policy))
            lane = self._lanes[host]
            lane.items.append(item)
            if lane.tickets < (lane.host.connections if lane.answered else 1):
                self._issue(lane)

    def end(self, host: str) -> None:
        """Tells that no more items of a host will be added, so it can be forgotten when they are done."""
        with self._changed:
            if lane := self._lanes.get(host):
                lane.ended = True
                self._forget_if_done(lane)

    def results(self, down_to: int = 0) -> Iterator[Result]:
        """Hands out results as they come, until so many items at most are unfinished."""
        while self._unfinished > down_to:
            result, error = self._results.get()
            if error is not None:
                raise error
            self._unfinished -= 1
            yield result

    def close(self) -> None:
        """Ends the threads; what is unfinished stays so."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            while thread.is_alive():
                while not self._results.empty():
                    self._results.get()
                thread.join(0.05)

    def _issue(self, lane: "_Lane") -> None:
        lane.tickets += 1
        heapq.heappush(self._tickets, (lane.host.ready_at, next(self._numbers), lane))
        self._changed.notify()

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            lane, item = taken
            try:
                outcome: tuple[Any, BaseException | None] = (self._work(lane.host, item), None)
            except BaseException as error:  # handed to whoever asks for results
                outcome = (None, error)
            self._results.put(outcome)
            with self._changed:
                lane.answered = True
                lane.tickets -= 1
                wanted = min(len(lane.items), lane.host.connections)
                while lane.tickets < wanted:
                    self._issue(lane)
                self._forget_if_done(lane)

    def _forget_if_done(self, lane: "_Lane") -> None:
        if lane.ended and not lane.items and not lane.tickets:
            self._lanes.pop(lane.host.name, None)

    def _take(self) -> "tuple[_Lane, Any] | None":
        """Waits for a host that may be asked; None when closed."""
        with self._changed:
            while not self._closed:
                wait = None
                if self._tickets:
                    wait = self._tickets[0][0] - time.monotonic()
                    if wait <= 0:
                        _, number, lane = heapq.heappop(self._tickets)
                        if not lane.items:
                            lane.tickets -= 1
                            self._forget_if_done(lane)
                        elif lane.host.ready_at > time.monotonic():  # it was asked since, and no thread waits for it
                            heapq.heappush(self._tickets, (lane.host.ready_at, number, lane))
                        else:
                            return lane, lane.items.popleft()
                        continue
                self._changed.wait(wait)
            return None


class _Lane:
    """The items of one host that wait, and how many threads it may have for them."""

    def __init__(self, host: Host):
        self.host = host
        self.items: collections.deque[Any] = collections.deque()
        self.tickets = 0
        self.answered = False
        self.ended = False
