"""Build and run the Containerfile's image without a container engine, to test it: as root, on Debian or Ubuntu.

python containers/without_engine.py build FOLDER      # the image becomes the folder FOLDER/image; needs mmdebstrap
python containers/without_engine.py run FOLDER/image [ARGUMENTS of twincar serve]

`build` makes the base by mmdebstrap, one copy of it for each stage, and runs the steps of the Containerfile in them, as
they stand there; apt and pip use the settings and the certificates of this machine. `run` starts the entry point as the
Containerfile's user, in its environment and nothing else, on a read-only root with an empty /tmp.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_SHARED = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs")  # of this machine, as copies, while a step runs
_SETTINGS = ("PIP_", "SSL_", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Stage:
    """From one FROM to the next."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)
    """Instruction and the rest of its line."""

    def last(self, instruction: str, default: str = "") -> str:
        """The last of its kind, which is the one that counts."""
        return next((rest for kind, rest in reversed(self.steps) if kind == instruction), default)

    @property
    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        pairs = [part for kind, rest in self.steps if kind == "ENV" for part in shlex.split(rest)]
        return dict(part.split("=", 1) for part in pairs)


def stages(path: Path = ROOT / "Containerfile") -> list[Stage]:
    """The stages of the Containerfile; raises ValueError for an instruction that is not understood."""
    found: list[Stage] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, _, rest = line.partition(" ")
        if not line or line.startswith("#"):
            continue
        if kind == "FROM":
            base, *name = rest.split(" AS ")
            found.append(Stage(base, *name or [str(len(found))]))
        elif kind in {"RUN", "COPY", "WORKDIR", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"}:
            found[-1].steps.append((kind, rest))
        else:
            raise ValueError(f"Expected an instruction that this program understands, but found: {line}")
    return found


def build(folder: Path) -> None:
    """All stages, the last of which becomes the image."""
    folder.mkdir(parents=True)
    roots: dict[str, Path] = {}
    for stage in stages():
        suite = stage.base.partition("@")[0].removeprefix("debian:").removesuffix("-slim")
        base = folder / suite
        if not base.exists():
            subprocess.run(["mmdebstrap", "--variant=minbase", "--mode=root", suite, str(base)], check=True)
        roots[stage.name] = root = folder / f"stage-{stage.name}"
        subprocess.run(["cp", "--archive", str(base), str(root)], check=True)
        at = "/"
        for kind, rest in stage.steps:
            print(f"{stage.name}: {kind} {rest}", file=sys.stderr)
            if kind == "WORKDIR":
                at = rest
                _inside(root, at).mkdir(parents=True, exist_ok=True)
            elif kind == "RUN":
                _run_step(root, at, rest)
            elif kind == "COPY":
                _copy(roots, root, at, rest.split())
    root.rename(folder / "image")


def _run_step(root: Path, at: str, command: str) -> None:
    """One RUN, in a mount namespace of its own, in which copies of some files of this machine are there too."""
    mounts = [f"mount --rbind /{name} {root}/{name}" for name in ("proc", "sys", "dev")]
    with tempfile.TemporaryDirectory() as scratch:
        for shared, copy in copies_of(_SHARED, Path(scratch)).items():
            inside = _inside(root, shared)
            if not inside.exists():
                inside.parent.mkdir(parents=True, exist_ok=True)
                inside.mkdir() if copy.is_dir() else inside.touch()
            mounts.append(f"mount --bind {copy} {inside}")
        settings = {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)}
        step = ["chroot", str(root), "/usr/bin/env", f"--chdir={at}", "/bin/sh", "-c", command]
        script = " && ".join(["mount --make-rprivate /", *mounts, f"exec {shlex.join(step)}"])
        environment = {"PATH": _PATH, "DEBIAN_FRONTEND": "noninteractive", **settings}
        subprocess.run(["unshare", "--mount", "/bin/sh", "-c", script], check=True, env=environment)


def copies_of(paths: Sequence[str], folder: Path) -> dict[str, Path]:
    """Copies in `folder` of files and folders, by their paths.

    A step gets copies because it may write: installing certificates makes the bundle in /etc/ssl/certs anew.
    """
    copies = {path: folder / str(number) for number, path in enumerate(paths)}
    for path, copy in copies.items():
        if Path(path).is_dir():
            shutil.copytree(path, copy, symlinks=True)
        else:
            shutil.copy2(path, copy)
    return copies


def _copy(roots: dict[str, Path], root: Path, at: str, words: Sequence[str]) -> None:
    source = ROOT
    if words[0].startswith("--from="):
        source, words = roots[words[0].removeprefix("--from=")], words[1:]
    *names, to = words
    for name in names:
        found, target = _inside(source, name), _inside(root, str(Path(at) / to))
        if found.is_dir():
            shutil.copytree(found, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(found, target)


def _inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def run(image: Path, arguments: Sequence[str]) -> None:
    """Replace this process by the image's entry point."""
    stage = stages()[-1]
    user, command = stage.last("USER"), [*json.loads(stage.last("ENTRYPOINT")), *arguments]
    variables = ["/usr/bin/env", "--ignore-environment", *(f"{name}={to}" for name, to in stage.environment.items())]
    inner = ["chroot", f"--userspec={user}:{user}", str(image), *variables, *command]
    script = " && ".join(
        [
            "mount --make-rprivate /",
            f"mount --bind {image} {image}",
            f"mount -o remount,bind,ro {image}",
            f"mount -t tmpfs tmpfs {image}/tmp",
            f"mount -t proc proc {image}/proc",
            f"exec {shlex.join(inner)}",
        ]
    )
    os.execvpe("unshare", ["unshare", "--mount", "/bin/sh", "-c", script], {"PATH": _PATH})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("build", "run"):
        verbs.add_parser(verb).add_argument("folder", type=Path)
    known, rest = parser.parse_known_args()
    if known.verb == "build":
        build(known.folder.resolve())
    else:
        run(known.folder.resolve(), rest)


if __name__ == "__main__":
    main()
