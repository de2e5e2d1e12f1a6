"""llama.cpp's own log, on its way into ours."""

from __future__ import annotations

import ctypes
import logging
import re
from collections import deque
from typing import Any

from llama_cpp import llama_cpp as lib

log = logging.getLogger(__name__)

WARN_LEVEL, ERROR_LEVEL = 3, 4  # GGML_LOG_LEVEL_WARN, _ERROR

# What llama.cpp says of a file that it cannot load, and what that means for who has it.
ADVICE = (
    ("unknown model architecture", "the llama.cpp of this server cannot run it, use another model"),
    ("corrupted or incomplete", "the file is not whole, download it again"),
    ("' not found", "the file is damaged or of a newer kind, download it again or use another"),
    ("unknown pre-tokenizer type", "the llama.cpp of this server is too old for it, use another model"),
    ("key not found in model", "it is no whole language model: an adapter or another addition to one, or damaged"),
    ("CLIP cannot be used", "it only lets another model see: name it as that one's settings.mmproj"),
    ("must be loaded with the first split", "name its first part, the one with -00001-of-"),
    ("invalid split file name", "the names of its parts must end in .gguf, in small letters"),
    ("GGUFv1 is no longer", "the file is of an outdated kind, download a newer one"),
    ("failed to read header", "the file is damaged, download it again"),
    ("unable to allocate", "the machine has too little free memory for it, lower ctx_len or stop another model"),
)

# How it calls a decode that was left off because we asked it to (measuring), which is no error.
LEFT_OFF = ("graph_compute_async failed with error 1", "compute status: 1", "failed to decode, ret = 2")


class LibraryLog:
    """llama.cpp's log: written to ours, its last errors kept as the reason why a model does not load."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: deque[str] = deque(maxlen=50)
        self._callback = lib.llama_log_callback(self._write)  # kept alive: the library holds only its address
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _write(self, level: int, text: bytes, _user_data: Any) -> None:
        if level not in (ERROR_LEVEL, WARN_LEVEL) and not log.isEnabledFor(logging.DEBUG):
            return  # a model that loads says a thousand lines
        line = text.decode("utf-8", "replace").rstrip()
        if not line:
            return
        if level == ERROR_LEVEL and not line.endswith(LEFT_OFF):
            self.errors.append(line)
            del self.errors[:-5]
            log.error("%s", line)
        elif level == WARN_LEVEL:
            self.warnings.append(line)
            log.debug("%s", line)
        else:
            log.debug("%s", line)

    def clear(self) -> None:
        """Forgets: what comes is about something else."""
        self.errors.clear()
        self.warnings.clear()

    def reason(self) -> str:
        """The last errors, as far as they say anything, and what to do about them."""
        told = [line.split(": ", 1)[-1].removeprefix("error loading model: ") for line in self.errors]
        reason = "; ".join(line for line in told if line != "failed to load model") or "llama.cpp gave no reason"
        reason = re.sub(r" from /\S+| \(file: [^)]*\)", "", reason)  # where models lie is nobody's business
        advice = next((text for sign, text in ADVICE if sign in reason), None)
        return reason if advice is None else f"{reason}: {advice}"
