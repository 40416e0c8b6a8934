"""Empty lakes in a folder and on S3, a finished year, and logins of Postgres that need a password.

moto replaces AWS: it has the same protocol and can check keys. SeaweedFS is the object store of the stack.
"""

from __future__ import annotations

import itertools
import json
import shutil
import ssl
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import boto3
import psycopg2
import pytest
import requests
import trustme

from tests.conftest import at, fresh, sql
from tests.servers.keys import KEYS
from tests.servers.proxy import Proxy
from tests.servers.startup import wait_until
from tests.steps import BRONZE, BRONZE_KEY, run
from utils.settings import Settings
from utils.storage.lake import Lake

BUCKETS = itertools.count(1)


def new_bucket(url: str, scratch: Path) -> Settings:
    """Create a bucket and return the settings of an empty lake below a prefix in it."""
    name = f"lake-{next(BUCKETS)}"
    boto3.client("s3", endpoint_url=url, region_name="us-east-1", **KEYS).create_bucket(Bucket=name)
    return Settings(
        lake=f"s3://{name}/delaywatch",
        warehouse="",
        scratch=scratch,
        threads=2,
        aws_endpoint_url=url,
        aws_region="us-east-1",
        **KEYS,
    )


@pytest.fixture
def s3_proxy(moto_url: str) -> Iterator[Proxy]:
    """A proxy in front of S3."""
    host, port = moto_url.removeprefix("http://").split(":")
    with Proxy((host, int(port))) as proxy:
        yield proxy


@pytest.fixture
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let boto3 retry at once."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)


@pytest.fixture
def bucket_settings(moto_url: str, tmp_path: Path) -> Settings:
    """Settings of an empty lake below a prefix of a new bucket."""
    return new_bucket(moto_url, tmp_path)


@pytest.fixture
def checking_keys(moto_url: str, bucket_settings: Settings) -> Iterator[Settings]:
    """Let the S3 server check keys and permissions; return settings of a user that may only list and read."""
    iam = boto3.client("iam", endpoint_url=moto_url, region_name="us-east-1", **KEYS)
    name = f"reader-{bucket_settings.lake[5:].split('/')[0]}"
    iam.create_user(UserName=name)
    may_read = {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [may_read]})
    iam.put_user_policy(UserName=name, PolicyName="read", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    requests.post(f"{moto_url}/moto-api/reset-auth", data="0", timeout=10)
    yield bucket_settings.replace(aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"])
    requests.post(f"{moto_url}/moto-api/reset-auth", data="inf", timeout=10)


@pytest.fixture
def tls_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ssl.SSLContext]:
    """A function that returns the context of a server on 127.0.0.1; this process trusts its certificate.

    not_after: the end of the certificate.
    """
    issuer, bundle = trustme.CA(), tmp_path / "issuer.pem"
    issuer.cert_pem.write_to_path(bundle)
    for variable in ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(variable, str(bundle))

    def create(not_after: datetime | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issuer.issue_cert("127.0.0.1", not_after=not_after).configure_cert(context)
        return context

    return create


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A temporary folder that every user may enter; the folders of pytest are closed to other users."""
    with tempfile.TemporaryDirectory(prefix="delaywatch-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def folder_settings(tmp_path: Path) -> Settings:
    """Settings of an empty lake in a folder."""
    return Settings(lake=(tmp_path / "lake").as_uri(), warehouse="", scratch=tmp_path, threads=2)


# For slow tests: `make test` runs them in a folder only.
BUCKET_WHEN_SLOW = pytest.mark.parametrize(
    "lake_settings", ["folder", pytest.param("bucket", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture(params=["folder", "bucket"])
def lake_settings(request: pytest.FixtureRequest) -> Settings:
    """Settings of an empty lake, once in a folder and once on S3."""
    settings = request.getfixturevalue(f"{request.param}_settings")
    assert isinstance(settings, Settings)
    return settings


@pytest.fixture
def login(warehouse: str) -> Iterator[Callable[[str], str]]:
    """A function that creates a member of a role and returns its URL."""
    names = []

    def create(role: str) -> str:
        names.append(f"login_{role}")
        sql(warehouse, f"CREATE ROLE {names[-1]} LOGIN IN ROLE {role}")
        return at(warehouse, username=names[-1])

    yield create
    for name in names:
        sql(warehouse, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@pytest.fixture
def ask_password_of(postgres: str) -> Iterator[Callable[[str], None]]:
    """A function after which the server asks a login for its password; the login need not exist yet."""
    (file,) = sql(postgres, "SHOW hba_file")[0]
    rules = Path(file).read_text()

    def ask(login: str) -> None:
        Path(file).write_text(f"local all {login} scram-sha-256\n{rules}")
        sql(postgres, "SELECT pg_reload_conf()")
        wrong = at(postgres, username=login, password="wrong")
        wait_until(lambda: "password authentication failed" in refusal(wrong), f"{login} needs a password")

    yield ask
    Path(file).write_text(rules)
    sql(postgres, "SELECT pg_reload_conf()")


def refusal(url: str) -> str:
    """Return the error of a refused login; empty if the server accepts it."""
    try:
        sql(url)
    except psycopg2.OperationalError as error:
        return str(error)
    return ""


@pytest.fixture(scope="session")
def finished_year(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A lake in a folder and the name of a database, both with the finished small year. Do not change them."""
    folder, name = tmp_path_factory.mktemp("finished") / "lake", "template_finished_year"
    sql(postgres, f"CREATE DATABASE {name} TEMPLATE template_warehouse")
    settings = Settings(lake=folder.as_uri(), warehouse=at(postgres, database=name), scratch=folder.parent, threads=2)
    Lake(settings).store.put(BRONZE_KEY, BRONZE)
    run(settings)
    return folder, name


@pytest.fixture
def done(finished_year: tuple[Path, str], postgres: str, tmp_path: Path) -> Iterator[Settings]:
    """The test's own lake in a folder and warehouse, both with the finished small year."""
    folder, template = finished_year
    lake = tmp_path / "lake"
    shutil.copytree(folder, lake)
    for warehouse in fresh(postgres, template):
        yield Settings(lake=lake.as_uri(), warehouse=warehouse, scratch=tmp_path, threads=2)
