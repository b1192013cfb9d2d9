"""Fuzzing of everything that reads a file or a request: 100,000 inputs, half of them guided by atheris.

python -m tests.robustness.fuzz [--inputs 100000] [--only parquet] [--seed 0] [--out fuzz_findings]

Each reader runs in a separate process. An input must be accepted, or refused by an error of TwinCar's tree, within
`SECONDS` and within the memory that its reader is allowed. A fault is written to a file in the folder of findings:
another error, a crash, too much time or memory, a file opened outside the scratch folder, a network connection, a
program started, code executed by a pickle. All inputs are derived from the seed, except those that atheris chooses.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.robustness.mutations import mutate
from twincar.core.labels import slug

SECONDS = 20
"""Longest that one input may take."""
_ADDRESS_SPACE = 8 * 2**30  # bytes, beyond what a process begins with
_MOST = 1 << 18  # bytes of an input
_SHARED = (
    "/usr/",
    "/lib",
    "/proc/",
    "/sys/",
    "/dev/",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/ssl/",
    "/etc/os-release",
    "/opt/",
)


class TooSlow(BaseException):
    """Not an `Exception`, so that no reader catches it."""


@dataclass
class Outcome:
    """Results of a reader's inputs."""

    answered: int = 0
    refused: int = 0
    faulty: int = 0
    slowest: float = 0.0
    """Seconds."""
    grown: int = 0
    """Bytes of memory at most, beyond what the process held before."""
    faults: dict[str, str] = field(default_factory=dict)
    """File of the input by what happened; one a kind."""

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return self.answered + self.refused + self.faulty


class Watch:
    """Records side effects of a reader through Python's audit events, which last for the rest of the process."""

    def __init__(self) -> None:
        self.visible_box: list[str] = []
        """What should not have happened since `on`."""
        self.scratch = Path()
        """The only folder with files to read."""
        self._active = False
        here = str(Path(__file__).resolve().parents[2])
        hub = os.environ.get("HF_HOME", here)
        self._allowed = (sys.prefix, sys.base_prefix, here, hub, *_SHARED)
        self._hosts = ("127.0.0.1", b"127.0.0.1")  # the server that is fuzzed; what is asked for is on port 9
        sys.addaudithook(self._hear)

    def _hear(self, event: str, values: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if event == "open" and isinstance(values[0], str | bytes):
            self._opened(os.path.abspath(os.fsdecode(values[0])))  # noqa: PTH100  # resolving would look at the disk
        elif event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
            address = values[1] if event == "socket.connect" else values
            if address[0] not in self._hosts or address[1:2] == (9,):
                self.visible_box.append(f"{event} {address!r}"[:200])
        elif event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "pickle.find_class"):
            self.visible_box.append(f"{event} {values[:2]!r}"[:200])

    def _opened(self, path: str) -> None:
        secrets = tuple(str(self.scratch / name) for name in ("secret.jpg", "secret.bin", "canary"))
        if path in secrets or not path.startswith((*self._allowed, str(self.scratch))):
            self.visible_box.append(f"opened {path[:200]}")

    @contextmanager
    def on(self) -> Iterator[None]:
        """Watch while one input is read."""
        self.visible_box, self._active = [], True
        try:
            yield
        finally:
            self._active = False


@cache
def the_watch() -> Watch:
    """The watch of this process; there is one, because an audit hook cannot be removed."""
    return Watch()


def readers() -> dict[str, Any]:
    """All of them by name; imported late, so that atheris can instrument their imports."""
    from tests.robustness import fuzz_demo, fuzz_exported, fuzz_folders, fuzz_models, fuzz_network, fuzz_targets

    modules = (fuzz_targets, fuzz_folders, fuzz_models, fuzz_exported, fuzz_network, fuzz_demo)
    return {name: reader for module in modules for name, reader in module.READERS.items()}


class Fuzzer:
    """Feeds inputs to one reader, and counts the results."""

    def __init__(self, name: str, scratch: Path, out: Path | None) -> None:
        from twincar.core.errors import TwinCarError

        self._expected = TwinCarError
        self.name, self.out, self.scratch = name, out, scratch
        self.outcome = Outcome()
        self.watch = the_watch()
        reader = readers()[name]
        self.memory = reader.memory
        (scratch / "secret.jpg").write_bytes(b"")
        self.target = reader.make(scratch)
        from tests.robustness.fuzz_targets import photos

        (scratch / "secret.jpg").write_bytes(photos()[0])

    def feed(self, data: bytes) -> str:
        """Feed one input; returns the fault, or an empty string."""
        fault, before, started = "", reset_peak(), time.perf_counter()
        try:
            self.watch.scratch = self.scratch
            with self.watch.on(), time_limit(SECONDS):
                self.target.run(data)
            self.outcome.answered += 1
        except self._expected as error:
            if re.search(r"Traceback|object at 0x", str(error)) or len(str(error)) > 20_000:
                fault = f"a message that is no sentence: {str(error)[:200]!r}"
            else:
                self.outcome.refused += 1
        except TooSlow:
            fault = "too slow"
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)
            place = next((f for f in reversed(last) if "twincar/" in f.filename), last[-1])
            fault = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:200]}"
        grown = max(0, peak() - before)
        self.outcome.slowest = max(self.outcome.slowest, time.perf_counter() - started)
        self.outcome.grown = max(self.outcome.grown, grown)
        if not fault and grown > self.memory:
            fault = f"{grown >> 20} MiB of memory"
        if not fault and self.watch.visible_box:
            fault = self.watch.visible_box[0]
        if not fault and (self.scratch / "canary").exists():
            (self.scratch / "canary").unlink()
            fault = "a pickle was obeyed"
        if fault:
            self._keep(fault, data)
        return fault

    def _keep(self, fault: str, data: bytes) -> None:
        self.outcome.faulty += 1
        kind = re.sub(r"[0-9]{2,}", "#", fault)[:90]
        if kind in self.outcome.faults or self.out is None:
            self.outcome.faults.setdefault(kind, fault)
            return
        path = self.out / f"{slug(self.name)}-{hashlib.sha256(data).hexdigest()[:8]}"
        path.write_bytes(data)
        self.outcome.faults[kind] = f"{path}: {fault}"


def inputs(target: Any, count: int, seed: int) -> Iterator[bytes]:
    """Each seed unchanged, and then mutations of them."""
    rng = random.Random(seed)
    yield from target.seeds[:count]
    for _ in range(count - len(target.seeds)):
        yield change(target, rng.choice(target.seeds), rng)


def change(target: Any, data: bytes, rng: random.Random) -> bytes:
    """Mutate; half of the time by the target's own mutator, if it has one."""
    if target.mutator and rng.random() < 0.5:
        changed: bytes = target.mutator(data, rng)[:_MOST]
        return changed
    return mutate(data, target.seeds, rng, most=_MOST)


def mutator_for_atheris(target: Any, mutate_bytes: Callable[[bytes, int], bytes]) -> Callable[[bytes, int, int], bytes]:
    """The same with atheris's mutations of bytes, which are guided by coverage."""

    def changed(data: bytes, most: int, drawn: int) -> bytes:
        own = target.mutator and drawn % 2
        result: bytes = target.mutator(data, random.Random(drawn)) if own else mutate_bytes(data, most)
        return result[:most]

    return changed


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise `TooSlow` in code that takes longer; for the main thread only."""

    def stop(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def reset_peak() -> int:
    """Reset the peak of memory; returns the bytes resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return _status("VmRSS")


def peak() -> int:
    """Peak of resident bytes since the reset."""
    return _status("VmHWM")


def _status(what: str) -> int:
    return int(Path("/proc/self/status").read_text(encoding="utf-8").split(f"{what}:")[1].split()[0]) * 1024


def work(name: str, count: int, seed: int, out: Path, first: Path | None, *, guided: bool) -> None:
    """In a separate process: feed one reader, and write the counts to a file; atheris ends the process."""
    if guided:
        import atheris

        with atheris.instrument_imports(include=["twincar", "benchmarks"]):
            readers()
    scratch = Path(tempfile.mkdtemp(prefix="fuzz-")).resolve()
    fuzzer = Fuzzer(name, scratch, out)
    tally, current = out / f"tally-{os.getpid()}.json", (out / f"current-{os.getpid()}").open("wb")
    limit = (
        int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize() + _ADDRESS_SPACE
    )
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def feed(data: bytes) -> None:
        os.pwrite(current.fileno(), data, 0)
        os.ftruncate(current.fileno(), len(data))
        fuzzer.feed(data)
        done = fuzzer.outcome.inputs
        if done % 50 == 0 or done >= count:
            tally.write_text(json.dumps(asdict(fuzzer.outcome)))

    for path in sorted(first.glob("*")) if first else []:
        feed(path.read_bytes())
    if not guided:
        for data in inputs(fuzzer.target, count, seed):
            feed(data)
        tally.write_text(json.dumps(asdict(fuzzer.outcome)))
        os._exit(0)  # without waiting for a server's threads
    corpus = scratch / "corpus"
    corpus.mkdir()
    for number, data in enumerate(fuzzer.target.seeds):
        (corpus / str(number)).write_bytes(data)
    fed = 0

    def one(data: bytes) -> None:
        nonlocal fed
        feed(data)
        fed += 1
        if fed >= count:
            tally.write_text(json.dumps(asdict(fuzzer.outcome)))
            os._exit(0)

    options = [
        f"-seed={seed + 1}",
        f"-max_len={_MOST}",
        "-rss_limit_mb=0",
        f"-artifact_prefix={out}/",
        "-timeout=600",
        "-print_final_stats=0",
        "-verbosity=0",
    ]
    # `Mutate` is another function once the fuzzing has begun.
    mutator = mutator_for_atheris(fuzzer.target, lambda data, most: atheris.Mutate(data, most))
    atheris.Setup(["fuzz", *options, str(corpus)], one, custom_mutator=mutator)
    atheris.Fuzz()


def fuzz(
    name: str,
    count: int,
    seed: int,
    out: Path,
    *,
    guided: bool,
    tell: Callable[[str], None],
    corpus: Path | None = None,
) -> Outcome:
    """Feed a number of inputs to one reader, in as many processes as needed: after a crash another one continues."""
    total, tries = Outcome(), 0
    while total.inputs < count and tries < 10:
        command = [
            sys.executable,
            "-m",
            "tests.robustness.fuzz",
            "--worker",
            name,
            "--inputs",
            str(count - total.inputs),
            "--seed",
            str(seed + 1000 * tries),
            "--out",
            str(out),
            *(["--guided"] if guided else []),
            *(["--corpus", str(corpus)] if corpus else []),
        ]
        with (out / "stderr.txt").open("wb") as errors:
            home = {"HF_HOME": str(out / "hf_home"), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
            process = subprocess.Popen(command, stdout=errors, stderr=errors, env={**os.environ, **home})
            code = process.wait()
        tally, current = out / f"tally-{process.pid}.json", out / f"current-{process.pid}"
        found = Outcome(**json.loads(tally.read_text())) if tally.exists() else Outcome()
        total.answered += found.answered
        total.refused += found.refused
        total.faulty += found.faulty + (code != 0)
        total.slowest, total.grown = max(total.slowest, found.slowest), max(total.grown, found.grown)
        total.faults |= found.faults
        if code != 0:
            kept = out / f"crash-{slug(name)}-{tries}"
            if current.exists():
                current.rename(kept)
            last = (out / "stderr.txt").read_text(errors="replace").strip().splitlines()[-1:]
            total.faults[f"ended with {code} ({tries})"] = f"{kept}: the process ended with {code}: {last}"
            tell(f"{name}: the process ended with {code}; see {kept}")
        tally.unlink(missing_ok=True)
        current.unlink(missing_ok=True)
        tries += 1
    return total


def main() -> None:
    """Feed every reader its share, print the results, and fail if there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.robustness.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="of all readers together")
    parser.add_argument("--only", help="one reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("fuzz_findings"), help="folder for inputs that did harm")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--guided", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help="folder of inputs to feed first")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.worker:
        work(
            arguments.worker,
            arguments.inputs,
            arguments.seed,
            arguments.out.resolve(),
            arguments.corpus,
            guided=arguments.guided,
        )
        return
    chosen = {name: reader for name, reader in readers().items() if arguments.only in (None, name)}
    shares = sum(reader.share for reader in chosen.values())
    print("| reader | inputs | answered | refused | slowest, s | memory, MiB | faults |\n" + "| --- " * 7 + "|")
    faults, inputs_fed = [], 0
    for name, reader in chosen.items():
        half = -(-arguments.inputs * reader.share // shares // 2)
        for guided in (False, True):
            found = fuzz(
                name, half, arguments.seed, arguments.out, guided=guided, tell=lambda text: print(text, file=sys.stderr)
            )
            faults += list(found.faults.values())
            inputs_fed += found.inputs
            way = "guided" if guided else "mutated"
            print(
                f"| {name}, {way} | {found.inputs} | {found.answered} | {found.refused} | {found.slowest:.2f} "
                f"| {found.grown >> 20} | {len(found.faults)} |",
                flush=True,
            )
    print(f"\n{inputs_fed} inputs, {len(faults)} kinds of fault.")
    print("\n".join(f"- {fault}" for fault in faults))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
