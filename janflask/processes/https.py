"""HTTPS in gunicorn's processes: the certificate, from before the first worker to the last look at its files.

The master reads it before anything runs and follows its files: what it forks, at a reload or after a death, has the
last pair that was right. Each worker follows them as well.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from janflask.errors import JanflaskError, SettingsError
from janflask.settings import Settings

if TYPE_CHECKING:
    import ssl  # the master needs it only where it speaks HTTPS

    from janflask.tls.followed import Certificate

INTERVAL = 2.0  # seconds between two looks of the master

# Tried with gunicorn 27.0.1: findings/gunicorn-http2-one-at-a-time.sh.
NO_HTTP_2 = (
    "HTTP/2 is not spoken here: gunicorn's threads would carry out a connection's requests one after the other, and "
    "hear of no client that gives one up. Have a proxy in front speak it (docs/serving.md)"
)

_shown: Shown | None = None  # the master's, which its workers inherit


def files(settings: Settings) -> tuple[str | None, str | None]:
    """gunicorn's ``certfile`` and ``keyfile``; without the first it speaks no HTTPS."""
    if settings.tls_self_signed:
        from janflask.tls.self_signed import pair_path  # here: a server without TLS needs none of it

        return str(pair_path(settings)), None
    certificate, key = (None if path is None else str(path) for path in (settings.tls_cert, settings.tls_key))
    return certificate, key


def prepare(settings: Settings, server: Any) -> None:
    """In the master, before it listens: reads the certificate, or makes it. Raises SettingsError."""
    global _shown
    if "h2" in server.cfg.http_protocols:
        server.log.warning(NO_HTTP_2)
    _shown = Shown(settings, server.cfg, server.log) if server.cfg.is_ssl else None


def follow(no_fork: AbstractContextManager[Any]) -> None:
    """In the master: follows the files from now on. Nothing is forked while ``no_fork`` is held."""
    if _shown is not None:
        threading.Thread(target=_shown.follow, args=(no_fork,), name="certificate", daemon=True).start()


def reload(no_fork: AbstractContextManager[Any]) -> None:
    """In the master, told to start new workers: they are to have what is in the files now."""
    if _shown is not None:
        with no_fork:
            _shown.certificate.follow(at_once=True)


def context() -> ssl.SSLContext:
    """In a worker: for a new connection."""
    if _shown is None:
        raise RuntimeError("no certificate was read when the server started")
    return _shown.certificate.context()


class Shown:
    """The certificate of a server."""

    def __init__(self, settings: Settings, cfg: Any, log: Any) -> None:
        """``cfg`` is gunicorn's: its command line may have named other files. Raises SettingsError."""
        from janflask.tls.followed import Certificate
        from janflask.tls.pair import BadPairError

        self._settings = settings
        self._log = log
        self._is_own = settings.tls_self_signed and (cfg.certfile, cfg.keyfile) == files(settings)
        self._told = ""
        if self._is_own and (problem := self._keep()) is not None:
            raise SettingsError(f"no certificate can be made: {problem}", param="JANFLASK_TLS_SELF_SIGNED")
        first, second = cfg.certfile or cfg.keyfile, cfg.keyfile if cfg.certfile else None
        try:
            self.certificate: Certificate = Certificate(
                Path(first), Path(second) if second else None, log, settings.tls_min_version, partial(_adjust, cfg)
            )
        except BadPairError as error:
            raise SettingsError(f"no HTTPS: {error} (JANFLASK_TLS_CERT, JANFLASK_TLS_KEY)") from None
        if Path(second or first).stat().st_mode & 0o004:
            log.warning("Every user of this machine can read the server's key: chmod 600 %s", second or first)

    def follow(self, no_fork: AbstractContextManager[Any]) -> None:
        """For ever, whatever goes wrong."""
        pause = threading.Event()
        while not pause.wait(INTERVAL):
            with no_fork:
                try:
                    self.look()
                except Exception:
                    self._log.exception("The certificate could not be looked at")

    def look(self) -> None:
        """Renews the certificate, if it is this server's own and about to end, and reads what has changed."""
        self._renew()
        self.certificate.follow()

    def _renew(self) -> None:
        from janflask.tls.self_signed import is_due

        if self._is_own and is_due(self.certificate.facts) and (problem := self._keep()) not in (None, self._told):
            self._told = problem or ""
            self._log.warning("The certificate cannot be renewed: %s", problem)

    def _keep(self) -> str | None:
        """Makes a certificate if there is none that does; gives why that cannot be done."""
        from janflask.tls import self_signed, trust

        try:
            reason = self_signed.keep(self._settings)
        except (OSError, JanflaskError) as error:
            return str(error)
        if reason is not None:
            self._log.info("A new certificate is in %s: %s", trust.public_path(self._settings), reason)
        return None


def _adjust(cfg: Any, context: ssl.SSLContext) -> None:
    """What else gunicorn's own settings say: which ciphers, and whether clients show certificates, too.

    Raises OSError.
    """
    from ssl import VerifyMode

    if cfg.ciphers:
        context.set_ciphers(cfg.ciphers)
    if cfg.ca_certs:
        context.load_verify_locations(cfg.ca_certs)
    context.verify_mode = VerifyMode(cfg.cert_reqs)
