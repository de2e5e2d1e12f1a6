"""The Containerfile's steps without a builder: in namespaces, over this machine's own Debian, in memory.

What a step writes is in an overlay and gone with it. The images it names are taken to be this machine: it has to be the
same release of Debian.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.e2e.server import LIMIT, ROOT

FILE = ROOT / "Containerfile"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OURS = ("PIP_", "SSL_", "REQUESTS_")  # how this machine gets at packages
TOLD = {"VOLUME", "EXPOSE", "STOPSIGNAL"}  # what is for who runs the image
UNSHARE = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]

START = """\
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /srv
"""
STAGE = """\
mkdir -p /srv/{n}/written /srv/{n}/work /srv/{n}/tree
mount -t overlay overlay -o lowerdir=/,upperdir=/srv/{n}/written,workdir=/srv/{n}/work /srv/{n}/tree
mount -t proc proc /srv/{n}/tree/proc
mount --rbind /dev /srv/{n}/tree/dev
mount -t tmpfs tmpfs /srv/{n}/tree/tmp
"""


def refused(command: Sequence[str] = UNSHARE) -> str | None:
    """Why there can be no namespaces here, not even in CI: some machines let nobody make any."""
    done = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=LIMIT, check=False)
    return None if done.returncode == 0 else f"no namespaces can be made here: {done.stderr.strip()}"


@dataclass
class Image:
    """What is known of an image when its last step is done."""

    base: str
    env: dict[str, str] = field(default_factory=lambda: {"PATH": PATH, "HOME": "/root"})
    folder: str = "/"
    user: str = "0"
    entry: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)


def steps() -> list[tuple[str, str]]:
    """The instructions, each on one line."""
    text = FILE.read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def script(context: Path) -> tuple[str, Image]:
    """A shell script that carries the steps out, the last image's root in ``/srv/NUMBER/tree``; and that image."""
    told, images, names = [START], [], {}
    for word, rest in steps():
        if word == "FROM":
            base, *name = rest.split(" AS ")
            images.append(Image(base))
            names[name[0] if name else ""] = len(images) - 1
            told.append(STAGE.format(n=len(images) - 1))
            continue
        told.append(_step(images[-1], len(images) - 1, word, rest, context, names))
    return "\n".join(told), images[-1]


def _step(image: Image, n: int, word: str, rest: str, context: Path, names: dict[str, int]) -> str:
    root = f"/srv/{n}/tree"
    match word:
        case "RUN":
            given = {**{name: text for name, text in os.environ.items() if name.startswith(OURS)}, **image.env}
            words = [f"{name}={text}" for name, text in given.items()]
            inside = f"cd {image.folder} && {rest}"
            return f"echo {shlex.quote('--- ' + rest)}; " + shlex.join(
                ["chroot", root, "env", "-i", *words, "sh", "-ec", inside]
            )
        case "COPY":
            *options, target = rest.split()
            source = str(context)
            if options[0].startswith("--from="):
                source = f"/srv/{names[options.pop(0).removeprefix('--from=')]}/tree"
            place = root + (target if target.startswith("/") else f"{image.folder}/{target}".removesuffix("/."))
            made = place if len(options) > 1 or target.endswith("/") else str(Path(place).parent)
            return f"mkdir -p {made} && cp -a {' '.join(f'{source}/{name}' for name in options)} {place}"
        case "WORKDIR":
            image.folder = rest
            return f"mkdir -p {root}{rest}"
        case "ENV" | "ARG":
            for pair in shlex.split(rest):
                name, _, text = pair.partition("=")
                image.env[name] = text.replace("$PATH", image.env["PATH"])
        case "USER":
            image.user = rest
        case "ENTRYPOINT":
            image.entry = json.loads(rest)
        case "CMD":
            image.command = json.loads(rest)
        case "HEALTHCHECK":
            image.health = json.loads(rest[rest.index("CMD ") + 4 :])
        case _:
            assert word in TOLD, f"what does {word} do?"
    return ""


def _context(folder: Path) -> Path:
    """What the Containerfile may copy: the checkout without what .containerignore leaves out."""
    patterns = (ROOT / ".containerignore").read_text().splitlines()
    kept = [line.removeprefix("!") for line in patterns if line.startswith("!") and "*" not in line]
    context = folder / "context"
    context.mkdir()
    leave = shutil.ignore_patterns("__pycache__", "*.so", "*.o")
    for name in kept:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, context / name, ignore=leave)
        else:
            shutil.copy2(ROOT / name, context / name)
    for generated in (context / "ext" / "janflask_ext").glob("*.c"):
        if not generated.name.endswith("_kernels.c"):
            generated.unlink()
    return context


class Container:
    """The last image, its steps done. ``pid`` is a process in its namespaces."""

    def __init__(self, pid: int, number: int, image: Image, env: dict[str, str]) -> None:
        self.pid = pid
        self.image = image
        self._root = f"/srv/{number}/tree"
        self._env = image.env | env

    def words(self, *command: str) -> list[str]:
        """A command in it, as the image's user, who can get no rights."""
        user = self.image.user
        drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs"]
        caps = ["--bounding-set=-all", "--inh-caps=-all"]
        env = [f"{name}={text}" for name, text in self._env.items()]
        inside = ["nsenter", "-t", str(self.pid), "-m", "-p", "--", "chroot", self._root]
        return [*inside, *drop, *caps, "env", "-i", "-C", self.image.folder, *env, *command]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.words(*command), capture_output=True, text=True, timeout=LIMIT, check=False)


@contextmanager
def built(folder: Path, seconds: float, **env: str) -> Iterator[Container]:
    """The image of the Containerfile. ``env``: what is set when it runs."""
    text, image = script(_context(folder))
    number = sum(word == "FROM" for word, _ in steps()) - 1
    done, log = folder / "done", folder / "build.log"
    (folder / "build.sh").write_text(f"{text}\ntouch {done}\nexec sleep infinity\n")
    with log.open("w") as output:
        command = [*UNSHARE, "bash", str(folder / "build.sh")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while not done.exists():
                assert process.poll() is None, log.read_text()[-6000:]
                seconds -= 0.5
                assert seconds > 0, log.read_text()[-6000:]
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
            (first,) = psutil.Process(process.pid).children()
            yield Container(first.pid, number, image, env)
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends an ``unshare``, which may have ended by itself, and all that runs in its namespaces."""
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children():
            child.kill()  # the first process of its own: with it everything ends
    process.kill()
    process.wait()
