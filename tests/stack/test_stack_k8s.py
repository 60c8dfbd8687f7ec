"""infra/k8s cannot be applied here; the job templates are rendered as Prefect renders them, and looked at."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from infra.state import USER, State

FOLDER = Path(__file__).parents[2] / "infra" / "k8s"
KINDS = ("cpu", "gpu")


def template(kind: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((FOLDER / f"jobs-{kind}.json").read_text())
    return read


def rendered(kind: str, **values: Any) -> dict[str, Any]:
    """The job that Prefect would make with the defaults of the template and `values`."""
    from prefect.utilities.templating import apply_values

    read = template(kind)
    defaults = {name: prop["default"] for name, prop in read["variables"]["properties"].items() if "default" in prop}
    given = {"name": "run", "command": "python", "env": {}, "labels": {}}
    job: dict[str, Any] = apply_values(read["job_configuration"], defaults | given | values)["job_manifest"]
    return job


@pytest.mark.parametrize("kind", KINDS)
def test_placeholders_and_variables_are_the_same_names(kind: str) -> None:
    read = template(kind)
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(read["job_configuration"])))
    assert used == set(read["variables"]["properties"])
    assert all(prop.get("description") for prop in read["variables"]["properties"].values())


@pytest.mark.stack
@pytest.mark.parametrize("kind", KINDS)
def test_a_prefect_server_takes_it_for_a_work_pool(kind: str, stack: State) -> None:
    who, name = (USER, stack.secrets["prefect"]), f"needledrop-k8s-{kind}"
    pool = {"name": name, "type": "kubernetes", "base_job_template": template(kind)}
    made = httpx.post(f"{stack.prefect_url}/api/work_pools/", auth=who, json=pool)
    try:
        assert made.status_code == 201, made.text
        assert made.json()["base_job_template"]["job_configuration"] == template(kind)["job_configuration"]
    finally:
        httpx.delete(f"{stack.prefect_url}/api/work_pools/{name}", auth=who)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_runs_once_without_rights_with_shared_memory_and_secrets_from_the_cluster(kind: str) -> None:
    job = rendered(kind, shared_memory="3Gi")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert job["spec"]["backoffLimit"] == 0, "Prefect decides about another try"
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("needledrop-run", False)
    assert pod["securityContext"]["runAsNonRoot"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert volumes[mounts["/dev/shm"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "3Gi"}
    assert container["envFrom"] == [{"secretRef": {"name": "needledrop"}}]
    assert container["image"].rpartition(":")[2] not in ("", "latest")
    assert container["resources"]["limits"] == container["resources"]["requests"]
    assert not re.search(r"password|secret_access|auth_string", json.dumps(template(kind)), re.IGNORECASE)


def test_the_gpu_variant_asks_for_gpus_and_a_queue_and_may_wait_for_them() -> None:
    gpu, cpu = rendered("gpu", gpus=2, queue="team-a"), rendered("cpu")
    assert gpu["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert gpu["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert "nvidia" not in json.dumps(cpu)
    assert "kueue" not in json.dumps(cpu)
    waits = template("gpu")["variables"]["properties"]["pod_watch_timeout_seconds"]["default"]
    assert waits >= 3600, "a queued job has no pod for as long as it waits"


def test_the_accounts_of_the_templates_exist_and_a_run_has_no_rights() -> None:
    documents = list(yaml.safe_load_all((FOLDER / "access.yaml").read_text()))
    accounts = {one["metadata"]["name"]: one for one in documents if one["kind"] == "ServiceAccount"}
    assert all(
        template(kind)["variables"]["properties"]["service_account_name"]["default"] in accounts for kind in KINDS
    )
    assert accounts["needledrop-run"]["automountServiceAccountToken"] is False
    bound = {subject["name"] for one in documents if one["kind"] == "RoleBinding" for subject in one["subjects"]}
    assert bound == {"needledrop-worker"}
    verbs = {verb for one in documents if one["kind"] == "Role" for rule in one["rules"] for verb in rule["verbs"]}
    assert "*" not in verbs
    assert {one["metadata"].get("namespace", "needledrop") for one in documents} == {"needledrop"}
