"""The stack's servers: closed to strangers, on loopback only, silent about secrets, restarted by `up`."""

import stat

import httpx
import psutil
import pytest

from infra.part import Part
from infra.stack import down, parts, up
from infra.state import POOL, USER, State
from infra.swift import s3_client
from tests.stack.conftest import SWIFT

pytestmark = pytest.mark.stack

MLFLOW = "/api/2.0/mlflow/experiments/search?max_results=1"
STRANGERS = [None, (USER, "wrong"), ("admin", "password1234"), ("stranger", "wrong")]


@pytest.fixture(scope="module", autouse=True)
def with_its_worker(stack: State) -> None:
    """Other tests have workers of their own; here the stack is whole."""
    up(stack.folder, swift_venv=SWIFT)


def part(state: State, name: str) -> Part:
    return next(one for one in parts(state, SWIFT) if one.name == name)


@pytest.mark.parametrize("who", STRANGERS)
def test_mlflow_refuses_strangers(stack: State, who: tuple[str, str] | None) -> None:
    assert httpx.get(stack.mlflow_url + MLFLOW, auth=who).status_code == 401
    assert httpx.get(stack.mlflow_url, auth=who).status_code == 401, "the pages too"


@pytest.mark.parametrize("who", STRANGERS)
def test_prefect_refuses_strangers(stack: State, who: tuple[str, str] | None) -> None:
    reply = httpx.post(f"{stack.prefect_url}/api/flow_runs/filter", auth=who, json={})
    assert reply.status_code == 401


def test_both_answer_those_who_know_the_password(stack: State) -> None:
    assert httpx.get(stack.mlflow_url + MLFLOW, auth=(USER, stack.secrets["mlflow"])).status_code == 200
    reply = httpx.post(f"{stack.prefect_url}/api/work_pools/filter", auth=(USER, stack.secrets["prefect"]), json={})
    assert POOL in {pool["name"] for pool in reply.json()}


def test_s3_refuses_a_wrong_secret_and_no_secret(stack: State) -> None:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import ClientError

    right = s3_client(stack)
    right.put_object(Bucket="needledrop-media", Key="closed/a", Body=b"a")

    for options in ({"aws_access_key_id": f"{USER}:stack", "aws_secret_access_key": "wrong"},
                    {"config": Config(signature_version=UNSIGNED)}):  # fmt: skip
        client = boto3.client("s3", endpoint_url=stack.s3_endpoint, region_name="us-east-1", **options)
        with pytest.raises(ClientError) as refused:
            client.get_object(Bucket="needledrop-media", Key="closed/a")
        # An unsigned request is no S3 request to it: 400, bad request.
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403)
    assert right.get_object(Bucket="needledrop-media", Key="closed/a")["Body"].read() == b"a"


def test_a_role_enters_its_own_databases_only(stack: State) -> None:
    import psycopg2  # of the extra `server`, which the default tests do without

    psycopg2.connect(stack.database("ledger")).close()
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(stack.database("ledger").replace(stack.secrets["ledger_database"], "wrong"))
    with pytest.raises(psycopg2.OperationalError, match="permission denied"):
        psycopg2.connect(stack.database("ledger").rpartition("/")[0] + "/mlflow")


def test_every_part_listens_on_loopback_only(stack: State) -> None:
    heard = set()
    for one in parts(stack, SWIFT):
        for process in one.members():
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    heard.add(connection.laddr.ip)
    assert heard == {"127.0.0.1"}


def test_secrets_stand_in_private_files_and_nowhere_else(stack: State) -> None:
    for name in ("env", "secrets.json", "mlflow-auth.ini", "swift/etc/proxy.conf"):
        assert stat.S_IMODE((stack.folder / name).stat().st_mode) == 0o600, name
    values = set(stack.secrets.values())
    for one in parts(stack, SWIFT):
        for process in one.members():
            assert not any(value in word for word in process.cmdline() for value in values), process
    for log in (stack.folder / "logs").iterdir():
        text = log.read_text(errors="replace")
        assert not any(value in text for value in values), log


def test_up_leaves_what_runs_and_restarts_what_died(stack: State) -> None:
    before = {one.name: one.process() for one in parts(stack, SWIFT)}
    assert all(before.values())
    # Of MLflow the first process alone: its child lives on and holds the port.
    for name in ("s3-container", "mlflow"):
        died = before[name]
        assert died is not None
        died.kill()
        died.wait(10)
    up(stack.folder, swift_venv=SWIFT)
    after = {one.name: one.process() for one in parts(stack, SWIFT)}
    assert {name for name in before if before[name] != after[name]} == {"s3-container", "mlflow"}
    assert all(one.problem() is None for one in parts(stack, SWIFT))


def test_other_ports_are_refused_while_it_runs(stack: State) -> None:
    from flows.errors import Refusal
    from infra.ports import free_ports

    with pytest.raises(Refusal, match="runs at other ports"):
        up(stack.folder, free_ports(), swift_venv=SWIFT)


def test_down_leaves_no_process_and_all_data(stack: State) -> None:
    s3_client(stack).put_object(Bucket="needledrop-media", Key="kept", Body=b"kept")
    members = [process for one in parts(stack, SWIFT) for process in one.members()]
    assert len(down(stack.folder)) == len(parts(stack, SWIFT))
    assert not [process for process in members if process.is_running()]
    again = up(stack.folder, swift_venv=SWIFT)
    assert again.secrets == stack.secrets
    assert s3_client(again).get_object(Bucket="needledrop-media", Key="kept")["Body"].read() == b"kept"
    assert all(one.problem() is None for one in parts(again, SWIFT))
