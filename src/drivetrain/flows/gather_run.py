"""The work of a gathering: many threads, one queue, and an outcome for every picture asked for."""

from __future__ import annotations

import queue
import ssl
import stat
import threading
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack
from enum import Enum, auto
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from drivetrain.data.gather.addresses import AddressRule, Resolve, parse_url
from drivetrain.data.gather.fetch import Fetched, Fetcher, FetchLimits
from drivetrain.data.gather.folder import GatherFolder, Picture
from drivetrain.data.gather.host_queue import HostQueue, Job
from drivetrain.data.gather.refusal import Refusal, Refused
from drivetrain.data.gather.wanted import Wanted, host_of
from drivetrain.errors import UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits, load_pixels, open_picture
from drivetrain.progress import Progress
from drivetrain.settings import Settings

if TYPE_CHECKING:
    from drivetrain.flows.gather import GatherConfig

__all__ = ["GatherRun", "Outcome", "Standing"]

_LONGEST_RETRY_AFTER_S = 60.0  # a server that asks for more is left alone for this run
_LONGEST_BACKOFF_S = 30.0
_SILENCE_S = 10.0
_WAKE_S = 0.5  # how often the main thread looks up while it waits, so that Ctrl-C is heard on every system


class Standing(Enum):
    """What became of a picture that was not refused."""

    GATHERED = auto()
    COPY = auto()
    ALREADY_THERE = auto()
    LEFT_OVER = auto()


Outcome: TypeAlias = Standing | Refusal
_Event: TypeAlias = tuple[Wanted, Outcome] | BaseException | None  # None: a worker has ended


class GatherRun:
    """Gathers what is wanted into `folder`; used once."""

    def __init__(
        self,
        config: GatherConfig,
        settings: Settings,
        folder: GatherFolder,
        *,
        resolve: Resolve,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._max_bytes = min(config.max_bytes, settings.image_max_bytes)
        self._decode_limits = DecodeLimits(max_bytes=self._max_bytes, max_pixels=settings.image_max_pixels)
        # decoded pictures are the memory this costs, not the connections
        self._decoders = threading.BoundedSemaphore(settings.worker_threads)
        self._random = Random()  # noqa: S311 - spreads retries, guards nothing
        self._fetcher = Fetcher(
            limits=FetchLimits(
                max_bytes=self._max_bytes,
                timeout_s=config.timeout_s,
                silence_s=min(_SILENCE_S, config.timeout_s),
            ),
            rule=AddressRule(allow_private=config.allow_private),
            user_agent=_name_us(config.contact),
            connections=config.connections,
            resolve=resolve,
            ssl_context=ssl_context,
        )

    def go(self, wanted: Sequence[Wanted], progress: Progress) -> Generator[tuple[Wanted, Outcome], None, None]:
        """Every picture wanted, with its outcome, as they come."""
        todo: list[Wanted] = []
        for one in wanted:
            known = self._recall(one)
            if known is None:
                todo.append(one)
            else:
                yield one, known
        sizes = Counter(one.label for one in todo)
        with ExitStack() as stack:
            stack.callback(self._fetcher.close)
            bars = {label: stack.enter_context(progress.task(label, size)) for label, size in sizes.items()}
            for rows in _deal_rounds(todo):
                for one, outcome in self._go_round(rows):
                    bars[one.label](1)
                    yield one, outcome

    def _recall(self, wanted: Wanted) -> Outcome | None:
        """What an earlier run found out, if that still holds."""
        path = self._folder.find(wanted)
        if path is not None:
            return Standing.ALREADY_THERE if path else Refusal(reason="removed", detail="by you, from its class")
        refusal = None if self._config.retry_refused else self._folder.find_refusal(wanted)
        if refusal is None or refusal.is_passing:
            return None
        config = self._config
        limits = {
            "",
            f"min-size {config.min_size}",
            f"max-bytes {self._max_bytes}",
            f"allow-private {str(config.allow_private).lower()}",
        }
        return refusal if refusal.limit in limits else None

    def _go_round(self, rows: Sequence[Wanted]) -> Generator[tuple[Wanted, Outcome], None, None]:
        there = self._folder.count_labels()
        most = self._config.max_per_class
        jobs = [Job(wanted=one, host=host_of(one)) for one in rows]
        turns = HostQueue(
            jobs,
            per_host=self._config.per_host,
            delay_s=self._config.delay_s,
            room={one.label: None if most is None else max(0, most - there[one.label]) for one in rows},
        )
        events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        n_threads = min(self._config.connections, len(jobs))
        # Daemons, so that after Ctrl-C nobody waits for a server that says nothing.
        threads = [
            threading.Thread(target=self._work, args=(turns, events), name=f"gather-{n}", daemon=True)
            for n in range(n_threads)
        ]
        left = {id(one): one for one in rows}
        try:
            for thread in threads:
                thread.start()
            for one, outcome in _listen(events, n_threads):
                del left[id(one)]
                yield one, outcome
        finally:
            turns.close()
        for thread in threads:
            thread.join()
        for one in left.values():
            yield one, Standing.LEFT_OVER

    def _work(self, turns: HostQueue, events: queue.SimpleQueue[_Event]) -> None:
        try:
            while (job := turns.take()) is not None:
                outcome = self._try(turns, job)
                if outcome is not None:
                    events.put((job.wanted, outcome))
        except BaseException as exc:  # the edge of a thread: told to the one who waits, who ends the run with it
            events.put(exc)
        finally:
            events.put(None)

    def _try(self, turns: HostQueue, job: Job) -> Outcome | None:
        """Gather one picture and give the turn back; None where it is to be tried again."""
        is_kept = False
        try:
            data = self._get(turns, job)
            turns.report(job.host, failure=None)
            _, is_kept = self._folder.keep(job.wanted, self._check(data))
        except Refused as exc:
            turns.report(job.host, failure=exc.refusal if exc.host_failed else None)
            wait_s = self._plan_retry(turns, job, exc)
            if wait_s is not None:
                job.tries += 1
                turns.put_back(job, host_of(job.wanted), wait_s=wait_s)
                return None
            self._folder.refuse(job.wanted, exc.refusal)
            turns.finish(job, is_kept=False)
            return exc.refusal
        turns.finish(job, is_kept=is_kept)
        return Standing.GATHERED if is_kept else Standing.COPY

    def _plan_retry(self, turns: HostQueue, job: Job, exc: Refused) -> float | None:
        """Seconds until the next try; None where there is none."""
        if not exc.may_retry:
            return None
        asked_s = exc.wait_s or 0.0
        if asked_s > _LONGEST_RETRY_AFTER_S:
            told = f"{job.host} asks to be left alone for {asked_s:,.0f} s"
            turns.shut(job.host, Refusal(reason=exc.refusal.reason, detail=told))
            return None
        turns.pause(job.host, asked_s)
        if job.tries >= self._config.retries or turns.why_shut(job.host):
            return None
        backoff_s = min(_LONGEST_BACKOFF_S, self._config.backoff_s * 2.0**job.tries)
        return max(asked_s, backoff_s * self._random.uniform(0.5, 1.0))

    def _get(self, turns: HostQueue, job: Job) -> Fetched:
        """The bytes: from the disk, from another class that has them, or from the web."""
        wanted = job.wanted
        if wanted.file is not None:
            return Fetched(data=self._read_file(wanted.file), url=wanted.url)
        if (known := self._folder.read_known(wanted.url)) is not None:
            return Fetched(data=known[0], url=known[1])

        def enter(host: str) -> None:
            turns.move(job, host)
            if (why := turns.why_shut(host)) is not None:
                raise Refused(why)

        return self._fetcher.fetch(parse_url(wanted.url), enter=enter)

    def _read_file(self, file: Path) -> bytes:
        try:
            about = file.stat()
            if not stat.S_ISREG(about.st_mode):  # a pipe would never end
                raise Refused(Refusal(reason="no_file", detail="not a regular file"))
            if about.st_size > self._max_bytes:
                detail = f"{about.st_size:,} bytes, and at most {self._max_bytes:,} are taken"
                raise Refused(Refusal(reason="too_large", detail=detail, limit=f"max-bytes {self._max_bytes}"))
            return file.read_bytes()
        except OSError as exc:
            raise Refused(Refusal(reason="no_file", detail=exc.strerror or str(exc))) from None

    def _check(self, fetched: Fetched) -> Picture:
        """The bytes as a picture that is large enough and decodes to its end. Raises Refused."""
        try:
            image = open_picture(fetched.data, name=fetched.url, limits=self._decode_limits)
            width, height = image.size
            if min(width, height) < self._config.min_size:
                detail = f"{width} x {height} pixels, and the shorter side must have {self._config.min_size}"
                raise Refused(Refusal(reason="too_small", detail=detail, limit=f"min-size {self._config.min_size}"))
            with self._decoders:
                image.draft(image.mode, (1, 1))  # a JPEG at an eighth: all its data is read, few pixels are made
                load_pixels(image, name=fetched.url)
        except UnreadablePicture as exc:
            raise Refused(Refusal(reason="unreadable", detail=exc.reason)) from None
        return Picture(data=fetched.data, format=str(image.format), width=width, height=height, final_url=fetched.url)


def _listen(events: queue.SimpleQueue[_Event], n_workers: int) -> Generator[tuple[Wanted, Outcome], None, None]:
    """What the workers tell, until all have ended."""
    while n_workers:
        try:
            event = events.get(timeout=_WAKE_S)
        except queue.Empty:
            continue
        if event is None:
            n_workers -= 1
        elif isinstance(event, BaseException):
            raise event
        else:
            yield event


def _deal_rounds(wanted: Iterable[Wanted]) -> list[list[Wanted]]:
    """An address wanted in several classes is asked for in the first round, and its bytes taken from there later."""
    rounds: list[list[Wanted]] = []
    seen: defaultdict[str, int] = defaultdict(int)
    for one in wanted:
        if seen[one.url] == len(rounds):
            rounds.append([])
        rounds[seen[one.url]].append(one)
        seen[one.url] += 1
    return rounds


def _name_us(contact: str) -> str:
    about = f"gathers pictures for a data set; {contact}" if contact else "gathers pictures for a data set"
    return f"drivetrain/{version('drivetrain')} ({about})"
