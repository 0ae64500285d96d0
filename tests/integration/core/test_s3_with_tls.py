"""A real MinIO behind a certificate of the company's own authority."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from modelyard.core.artifacts_s3 import S3ArtifactStore, connect
from modelyard.core.errors import Unavailable
from modelyard.core.settings import CoreSettings
from tests.support.certificates import Authority
from tests.support.minio import S3Server, s3_server_with_tls


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[S3Server]:
    with s3_server_with_tls(authority) as made:
        yield made


def store(server: S3Server, folder: Path, ca: Path | None) -> S3ArtifactStore:
    settings = CoreSettings(
        data_dir=folder,
        s3_endpoint=server.endpoint,
        s3_access_key=SecretStr(server.access_key),
        s3_secret_key=SecretStr(server.secret_key),
        s3_ca=ca,
    )
    return S3ArtifactStore(connect(settings), "yard", "tests", folder / "cache", 1 << 20)


def test_an_authority_that_is_named_is_believed(server: S3Server, authority: Authority, tmp_path: Path) -> None:
    blob = store(server, tmp_path, authority.ca).put(io.BytesIO(b"model" * 1000))
    with store(server, tmp_path / "other", authority.ca).open(blob.uri) as found:
        assert found.read() == b"model" * 1000


@pytest.mark.parametrize("named", [False, True])
def test_a_server_of_another_authority_is_given_nothing(server: S3Server, tmp_path: Path, *, named: bool) -> None:
    ca = Authority(tmp_path / "somebody").ca if named else None
    with pytest.raises(Unavailable, match="MODELYARD_S3_CA") as caught:
        store(server, tmp_path, ca).put(io.BytesIO(b"secret"))
    assert caught.value.reason == "ARTIFACT_STORE_NOT_TRUSTED"
