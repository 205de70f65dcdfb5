"""Servers of buckets, on loopback and in processes of their own: moto's S3, seen through boto3, and one of Google's kind."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    # Nothing outside is asked who we are.
    "AWS_EC2_METADATA_DISABLED": "true",
}


class BucketServer:
    """The server.

    Args:
        port: Where it listens; 0 takes one that is free.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **ENVIRONMENT},
        )
        deadline = time.monotonic() + 60.0
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url, timeout=5.0):
                break
            assert self._process.poll() is None and time.monotonic() < deadline, "the server does not start"
            time.sleep(0.05)

    @property
    def environ(self) -> dict[str, str]:
        """What clients need to find it."""
        return {**ENVIRONMENT, "AWS_ENDPOINT_URL": self.url, "S3_ENDPOINT": self.url}

    def client(self):
        """A client that is not ours."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            region_name="us-east-1",
        )

    def make_bucket(self, name: str) -> Bucket:
        """A new bucket."""
        client = self.client()
        client.create_bucket(Bucket=name)
        return Bucket(client, name)

    def stop(self) -> None:
        """End it; its buckets are gone."""
        self._process.kill()
        self._process.wait()


class GoogleServer:
    """A server that speaks Google's storage API, with one bucket `runs`; Google's tools find it by an address alone."""

    def __init__(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        program = (
            "from gcp_storage_emulator.server import create_server; "
            f"create_server('127.0.0.1', {port}, in_memory=True, default_bucket='runs').run()"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60.0
        while not self.listed():
            assert self._process.poll() is None and time.monotonic() < deadline, "the server does not start"
            time.sleep(0.05)

    @property
    def environ(self) -> dict[str, str]:
        """What clients need to find it."""
        return {"STORAGE_EMULATOR_HOST": self.url, "GOOGLE_CLOUD_PROJECT": "testing"}

    def listed(self) -> dict[str, int] | None:
        """Name of every object, and its size; None while the server does not answer."""
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self.url}/storage/v1/b/runs/o", timeout=5.0) as answer,
        ):
            return {"": 0, **{one["name"]: int(one["size"]) for one in json.load(answer).get("items", ())}}
        return None

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class Bucket:
    """A bucket, read without our code.

    Args:
        client: The client.
        name: Its name.
    """

    def __init__(self, client, name: str) -> None:
        self.client = client
        self.name = name

    def listed(self, prefix: str = "") -> list[str]:
        """All keys that begin so."""
        found = []
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
            found += [one["Key"] for one in page.get("Contents", ())]
        return sorted(found)

    def read(self, key: str) -> bytes:
        """The content of an object."""
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def put(self, key: str, content: bytes) -> None:
        """Put an object there."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def download(self, prefix: str, directory: Path) -> Path:
        """Everything below a prefix, as files."""
        for key in self.listed(prefix):
            path = directory / key.removeprefix(prefix).lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.read(key))
        return directory


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
