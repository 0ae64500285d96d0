"""A node's cache of bundles: one download for all its pods, and nothing to who would get nothing at the centre."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from modelyard.core.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable
from modelyard.serving.adapters.bundle_relay import BundleRelay

DATA = bytes(range(256)) * 20_000
SHA = hashlib.sha256(DATA).hexdigest()


@dataclass
class FakeCentre:
    """Gives `bundles` to whom `tokens` lets; counts bytes and calls. `breaks`: after how many the connection is lost, once."""

    bundles: dict[str, bytes]
    tokens: set[str] = field(default_factory=lambda: {"good"})
    calls: list[tuple[str, int]] = field(default_factory=list)
    breaks: int = 0
    away: bool = False

    def __call__(self, token: str) -> FakeLink:
        return FakeLink(self, token)


@dataclass
class FakeLink:
    centre: FakeCentre
    token: str

    def download(self, sha256: str, offset: int) -> Iterator[bytes]:
        self.centre.calls.append((self.token, offset))
        if self.centre.away:
            raise Unavailable("NO_CONNECTION", "away")
        if self.token not in self.centre.tokens:
            raise PermissionDenied("BAD_TOKEN", "no")
        if sha256 not in self.centre.bundles:
            raise NotFound("BUNDLE_NOT_WANTED", "none")
        data = self.centre.bundles[sha256][offset:]
        for at in range(0, len(data), 100_000):
            if self.centre.breaks and at >= self.centre.breaks:
                self.centre.breaks = 0
                raise Unavailable("NO_CONNECTION", "lost")
            yield data[at : at + 100_000]


def relay(folder: Path, centre: FakeCentre, most: int = 1 << 30) -> BundleRelay:
    return BundleRelay(folder, centre, most)


def test_many_pods_cost_one_download(tmp_path: Path) -> None:
    centre = FakeCentre({SHA: DATA})
    cache, got = relay(tmp_path, centre), []

    def pod() -> None:
        got.append(b"".join(cache.download("good", SHA, 0)))

    pods = [threading.Thread(target=pod) for _ in range(8)]
    for each in pods:
        each.start()
    for each in pods:
        each.join()
    assert got == [DATA] * 8
    assert cache.fetched == 1
    assert sum(offset < len(DATA) for _, offset in centre.calls) == 1
    assert b"".join(cache.download("good", SHA, 5_000_000)) == DATA[5_000_000:]


def test_who_gets_nothing_at_the_centre_gets_nothing_here(tmp_path: Path) -> None:
    centre = FakeCentre({SHA: DATA})
    cache = relay(tmp_path, centre)
    assert b"".join(cache.download("good", SHA, 0)) == DATA
    with pytest.raises(PermissionDenied):
        list(cache.download("stolen", SHA, 0))
    centre.away = True
    assert b"".join(cache.download("good", SHA, 0)) == DATA, "who had it before has it while the centre is away"
    with pytest.raises(Unavailable):
        list(cache.download("stolen", SHA, 0))


def test_a_download_that_broke_off_is_gone_on_with(tmp_path: Path) -> None:
    centre = FakeCentre({SHA: DATA}, breaks=1_000_000)
    cache = relay(tmp_path, centre)
    with pytest.raises(Unavailable):
        list(cache.download("good", SHA, 0))
    assert b"".join(cache.download("good", SHA, 0)) == DATA
    assert [offset for _, offset in centre.calls][:2] == [0, 1_000_000]


def test_other_bytes_are_not_kept(tmp_path: Path) -> None:
    centre = FakeCentre({SHA: DATA[:-1] + b"x"})
    with pytest.raises(Unavailable, match="other bytes"):
        list(relay(tmp_path, centre).download("good", SHA, 0))
    assert not list((tmp_path / "bundles").iterdir())
    assert not list((tmp_path / "partial").iterdir())


def test_the_disk_is_bounded_and_readers_keep_what_they_read(tmp_path: Path) -> None:
    other = DATA[::-1]
    centre = FakeCentre({SHA: DATA, hashlib.sha256(other).hexdigest(): other})
    cache = relay(tmp_path, centre, len(DATA) + 1)
    reading = cache.download("good", SHA, 0)
    first = next(reading)
    assert b"".join(cache.download("good", hashlib.sha256(other).hexdigest(), 0)) == other
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == [hashlib.sha256(other).hexdigest()]
    assert first + b"".join(reading) == DATA


@pytest.mark.parametrize("sha256", ["../etc/passwd", "A" * 64, "", "a" * 63])
def test_a_name_that_is_no_digest_is_refused(tmp_path: Path, sha256: str) -> None:
    with pytest.raises(InvalidArgument):
        list(relay(tmp_path, FakeCentre({})).download("good", sha256, 0))
