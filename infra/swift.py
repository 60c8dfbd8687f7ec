"""The S3 service: OpenStack Swift, one copy of everything, in a virtual environment of its own.

Swift's packages and ours would fight over versions. Of its many processes five are needed: the proxy, which
speaks S3, one server each for accounts, containers and objects, and the updater, which brings a container's
listing up to date where its server was away when an object came.
"""

import getpass
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from flows.errors import ERROR, Refusal
from infra.health import problem
from infra.part import Part
from infra.ports import HOST
from infra.state import BUCKETS, REGION, USER, State, write_private

_REQUIREMENTS = Path(__file__).with_name("swift-requirements.txt")
_BACKENDS = ("account", "container", "object")

_SERVER = """\
[DEFAULT]
bind_ip = {host}
bind_port = {port}
workers = 0
user = {user}
swift_dir = {etc}
log_level = {level}
"""
_BACKEND = """\
devices = {devices}
recon_cache_path = {devices}
mount_check = false
disable_fallocate = true
conn_timeout = 5
node_timeout = 60
container_update_timeout = 20

[pipeline:main]
pipeline = healthcheck {name}-server

[filter:healthcheck]
use = egg:swift#healthcheck

[app:{name}-server]
use = egg:swift#{name}
"""
_UPDATER = """
[object-updater]
interval = 20
concurrency = 1
"""
# Without the cache filter: it would ask a memcached that is not there. Sessions are not used, requests are signed.
_PROXY = """\
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck proxy-logging listing_formats bulk s3api tempauth slo dlo versioned_writes symlink proxy-logging proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
conn_timeout = 5
node_timeout = 60

[filter:s3api]
use = egg:swift#s3api
location = {region}
dns_compliant_bucket_names = true

[filter:tempauth]
use = egg:swift#tempauth
user_{account}_stack = {secret} .admin

[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
"""
# Unlike the servers, the updater does not take its folder from its file.
_START_UPDATER = """\
from swift.common.utils import set_swift_dir
set_swift_dir({etc!r})
from swift.obj.updater import main
main()
"""
# Eventlet warns at each start that it is in maintenance; Swift is built on it.
_QUIET = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}
_PLAIN_FILTERS = (
    ("catch_errors", "catch_errors"), ("gatekeeper", "gatekeeper"), ("healthcheck", "healthcheck"),
    ("proxy-logging", "proxy_logging"), ("listing_formats", "listing_formats"), ("bulk", "bulk"),
    ("slo", "slo"), ("dlo", "dlo"), ("symlink", "symlink"),
)  # fmt: skip


def install(venv: Path) -> None:
    """Install Swift into its virtual environment, once per set of versions.

    Raises:
        Refusal: the packages cannot be had; with pip's last words.
    """
    mark = venv / f".ready-{hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()[:16]}"
    if mark.exists():
        return
    for command in (
        [sys.executable, "-m", "venv", "--clear", venv],
        [venv / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "-r", _REQUIREMENTS],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refusal(f"cannot install Swift: {' '.join(done.stderr.split())[-300:]}", ERROR)
    mark.touch()


def configure(state: State, venv: Path) -> None:
    """Write the servers' files and, at the first start or for other ports, the rings that say who has what."""
    etc, devices = _etc(state), state.folder / "swift" / "devices"
    (devices / "d1").mkdir(parents=True, exist_ok=True)
    etc.mkdir(exist_ok=True)
    _require_attributes(devices / "d1")
    paths = state.secrets["s3_paths"]
    write_private(
        etc / "swift.conf",
        f"[swift-hash]\nswift_hash_path_prefix = {paths[:20]}\nswift_hash_path_suffix = {paths[20:]}\n\n"
        "[storage-policy:0]\nname = one-copy\ndefault = yes\n",
    )
    shared = {"host": HOST, "user": getpass.getuser(), "etc": etc, "devices": devices}
    for name in _BACKENDS:
        port = getattr(state.ports, f"s3_{name}")
        text = (_SERVER + _BACKEND).format(name=name, port=port, level="WARNING", **shared)
        write_private(etc / f"{name}.conf", text + (_UPDATER if name == "object" else ""))
        _make_ring(etc, venv, name, port)
    proxy = (_SERVER + _PROXY).format(
        port=state.ports.s3, level="INFO", region=REGION, account=USER, secret=state.secrets["s3"], **shared
    )
    filters = "".join(f"\n[filter:{name}]\nuse = egg:swift#{egg}\n" for name, egg in _PLAIN_FILTERS)
    write_private(etc / "proxy.conf", proxy + filters)


def parts(state: State, venv: Path) -> list[Part]:
    """Return the servers; the proxy, which everyone talks to, comes last."""
    made = [_server(state, venv, name, getattr(state.ports, f"s3_{name}")) for name in _BACKENDS]
    updater = [str(venv / "bin" / "python"), "-c", _START_UPDATER.format(etc=str(_etc(state)))]
    updater += [str(_etc(state) / "object.conf"), "-v"]
    made.append(Part("s3-updater", state.folder, updater, lambda: None, _QUIET))
    return [*made, _server(state, venv, "proxy", state.ports.s3)]


def make_buckets(state: State) -> None:
    """Make each bucket that is missing: also the proof that all servers work together.

    Raises:
        Refusal: the service refuses or does not answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    client = s3_client(state)
    try:
        there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        for name in BUCKETS:
            if name not in there:
                client.create_bucket(Bucket=name)
    except (BotoCoreError, ClientError) as error:
        raise Refusal(f"the S3 service at {state.s3_endpoint}: {error}", ERROR) from error


def s3_client(state: State):  # type: ignore[no-untyped-def]
    """Return a boto3 client of the stack's service."""
    import boto3
    from botocore.config import Config

    exports = state.s3_exports()
    return boto3.client(
        "s3",
        endpoint_url=state.s3_endpoint,
        aws_access_key_id=exports["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=exports["AWS_SECRET_ACCESS_KEY"],
        region_name=REGION,
        config=Config(retries={"mode": "standard", "max_attempts": 8}),
    )


def _server(state: State, venv: Path, name: str, port: int) -> Part:
    command = [str(venv / "bin" / f"swift-{name}-server"), str(_etc(state) / f"{name}.conf"), "-v"]
    part = "s3" if name == "proxy" else f"s3-{name}"
    return Part(part, state.folder, command, lambda: problem(f"http://{HOST}:{port}/healthcheck"), _QUIET)


def _make_ring(etc: Path, venv: Path, name: str, port: int) -> None:
    """Make the ring of one kind of server: 16 partitions, one copy, one device."""
    ring, builder = etc / f"{name}.ring.gz", etc / f"{name}-{port}.builder"
    if builder.exists() and ring.exists():
        return
    builder.unlink(missing_ok=True)
    for words in (["create", "4", "1", "1"], ["add", f"r1z1-{HOST}:{port}/d1", "1"], ["rebalance"]):
        done = subprocess.run(
            [venv / "bin" / "swift-ring-builder", builder, *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Refusal(f"swift-ring-builder: {' '.join((done.stdout + done.stderr).split())[-300:]}", ERROR)
    made = etc / f"{name}-{port}.ring.gz"
    made.replace(ring)


def _require_attributes(folder: Path) -> None:
    try:
        os.setxattr(folder, "user.needledrop", b"1")
    except OSError as error:
        raise Refusal(
            f"{folder}: its file system keeps no extended attributes ({error.strerror}), which Swift needs; "
            "choose another place with --folder",
            ERROR,
        ) from None


def _etc(state: State) -> Path:
    return state.folder / "swift" / "etc"
