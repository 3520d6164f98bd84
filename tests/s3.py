"""S3 by moto's server, which ends with the test run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
import together
from projects import free_port
from standins import PATIENCE

BUCKET = "models"

MOTO = """\
import sys
from metaloom.system.lifeline import end_with_parent
end_with_parent()
from moto.server import main
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""


class Moto:
    """S3 that checks who asks, as soon as the bucket and one user with a policy are there."""

    ACTIONS = 5  # without a password: the user, its key, its policy, another user and its key

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, port: int | None = None) -> None:
        self.port = port or self.port
        env = os.environ | {"INITIAL_NO_AUTH_ACTION_COUNT": str(self.ACTIONS)}
        lifeline = together.lifeline()
        self.process = subprocess.Popen(
            [sys.executable, "-c", MOTO, str(self.port)],
            env=env, stdin=lifeline, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(lifeline)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/moto-api/", timeout=5)
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.1)
        self.users = self._users()

    def _users(self) -> dict[str, tuple[str, str]]:
        import boto3

        def client(service: str, key: str = "a", secret: str = "b"):
            url = f"http://127.0.0.1:{self.port}"
            return boto3.client(
                service, "us-east-1", endpoint_url=url, aws_access_key_id=key, aws_secret_access_key=secret
            )

        iam = client("iam")
        users = {}
        for name in ("owner", "stranger"):
            iam.create_user(UserName=name)
            key = iam.create_access_key(UserName=name)["AccessKey"]
            users[name] = key["AccessKeyId"], key["SecretAccessKey"]
        policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
        iam.put_user_policy(UserName="owner", PolicyName="all", PolicyDocument=policy)
        client("s3", *users["owner"]).create_bucket(Bucket=BUCKET)
        return users

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    server = Moto()
    server.start()
    yield server
    server.stop()
