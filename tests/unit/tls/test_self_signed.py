"""The certificate that the server makes itself."""

from __future__ import annotations

import fcntl
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from janflask.errors import StoreBusyError
from janflask.files.disk import opened_root
from janflask.settings import Settings
from janflask.tls import self_signed
from janflask.tls.pair import read_facts, read_pair
from janflask.tls.self_signed import LIFE, RENEWED, is_due, keep, names, pair_path
from janflask.tls.trust import public_path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", allowed_hosts=("Llm.Example", "*.lan"), host="0.0.0.0")


def test_it_is_made_once_and_its_key_is_nobody_elses(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_signed.socket, "gethostname", lambda: "box")
    assert keep(settings) == "there is none yet"
    pair, public = pair_path(settings), public_path(settings)
    assert pair.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in public.read_bytes()
    before = pair.read_bytes()
    assert keep(settings) is None
    assert pair.read_bytes() == before
    facts = read_pair(pair, None).facts
    assert set(facts.names) == {"localhost", "127.0.0.1", "::1", "box", "llm.example"}
    assert facts == read_facts(public)
    assert facts.problem() is None


def test_it_is_no_authority(settings: Settings) -> None:
    """Whoever trusts it must not come to trust what its key could sign."""
    keep(settings)
    certificate = x509.load_pem_x509_certificate(public_path(settings).read_bytes())
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign) == (True, False)


def test_it_is_renewed_before_its_end(settings: Settings) -> None:
    keep(settings)
    facts = read_facts(public_path(settings))
    last = facts.not_after - RENEWED
    assert not is_due(facts, last - timedelta(minutes=1))
    assert keep(settings, last - timedelta(minutes=1)) is None
    assert is_due(facts, last + timedelta(minutes=1))
    assert (keep(settings, last + timedelta(minutes=1)) or "").startswith("it ends on")
    renewed = read_facts(public_path(settings))
    assert renewed.not_after > facts.not_after
    assert (keep(settings, renewed.not_after + timedelta(days=1)) or "").startswith("it has expired")


def test_one_made_by_a_wrong_clock_goes(settings: Settings) -> None:
    now = datetime.now(UTC)
    keep(settings, now + LIFE)
    assert (keep(settings, now) or "").startswith("it is not valid before")
    keep(settings, datetime(1970, 1, 5, tzinfo=UTC))
    assert keep(settings, now) is not None
    assert keep(settings, now) is None


def test_a_new_name_makes_a_new_one(settings: Settings, tmp_path: Path) -> None:
    keep(settings)
    more = Settings(data_dir=settings.data_dir, allowed_hosts=("llm.example", "box.lan"))
    assert keep(more) == "it is not for box.lan"
    assert keep(more) is None
    assert keep(settings) is None, "one for more names does"


@pytest.mark.parametrize(
    "host", ["fe80::1%eth0", "::ffff:10.0.0.1", "2001:DB8:0::1", "UPPER.example.", "with_underscore", "*", "\xfcber"]
)
def test_whatever_the_server_is_called_it_is_not_made_again_and_again(tmp_path: Path, host: str) -> None:
    settings = Settings(data_dir=tmp_path, host=host)
    keep(settings)
    assert keep(settings) is None
    assert set(names(settings)) <= set(read_facts(public_path(settings)).names)


def test_what_others_could_have_read_or_written_goes(settings: Settings) -> None:
    keep(settings)
    pair = pair_path(settings)
    before = pair.read_bytes()
    pair.chmod(0o644)
    assert "cannot be used" in (keep(settings) or "")
    assert pair.read_bytes() != before
    assert pair.stat().st_mode & 0o777 == 0o600
    pair.write_bytes(before[:100])
    assert "holds no certificate" in (keep(settings) or "")
    elsewhere = settings.data_dir / "elsewhere"
    pair.replace(elsewhere)
    pair.symlink_to(elsewhere)
    with pytest.raises(OSError):
        keep(settings)
    assert pair.is_symlink(), "it is the owner's"


def test_the_public_part_comes_back(settings: Settings) -> None:
    keep(settings)
    public = public_path(settings)
    before = public.read_bytes()
    public.write_bytes(b"something else")
    assert keep(settings) is None
    assert public.read_bytes() == before
    public.unlink()
    keep(settings)
    assert public.read_bytes() == before


def test_servers_that_start_together_agree(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        reasons = list(pool.map(lambda _: keep(settings), range(8)))
    assert [reason for reason in reasons if reason is not None] == ["there is none yet"]


def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    """The master, above all, whose other threads wait meanwhile."""
    settings = Settings(data_dir=tmp_path, lock_timeout=0.1)
    settings.secrets_dir.mkdir()
    with opened_root(settings.secrets_dir) as folder:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(StoreBusyError):
            keep(settings)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_bytes(b"")
    with pytest.raises(OSError):
        keep(Settings(data_dir=tmp_path))


def test_strict_clients_take_it(settings: Settings) -> None:
    """As Python does from 3.13 on."""
    keep(settings)
    server = read_pair(pair_path(settings), None).context
    client = ssl.create_default_context(cafile=public_path(settings))
    client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    for name in ("localhost", "127.0.0.1", "::1", "llm.example"):
        _shake_hands(server, client, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(server, client, "other.example")


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    ways = [ssl.MemoryBIO(), ssl.MemoryBIO()]
    asking = client.wrap_bio(ways[0], ways[1], server_hostname=name)
    answering = server.wrap_bio(ways[1], ways[0], server_side=True)
    for _ in range(3):
        for side in (asking, answering):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert asking.version() == "TLSv1.3"
