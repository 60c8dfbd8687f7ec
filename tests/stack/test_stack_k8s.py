"""infra/k8s cannot be applied here; the job templates are rendered as Prefect renders them, and looked at."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import prefect
import pytest
import yaml

from flows.deploy.checkout import shared
from flows.environment import PATIENT, TELEMETRY, Environment
from infra.state import USER, State
from tests.stack.deployed_line import Line
from tests.stack.image import ENTRY, image_environment

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


PREFECTS = Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json"
"""What Prefect ships of every kind of worker; a worker refuses a job that lacks what its own template fixes."""


def fixed(template: Any, path: str = "") -> dict[str, Any]:
    """The values of a template that are no placeholders, by path."""
    if isinstance(template, dict):
        return {name: one for key, inner in template.items() for name, one in fixed(inner, f"{path}/{key}").items()}
    if isinstance(template, list):
        return {name: one for at, inner in enumerate(template) for name, one in fixed(inner, f"{path}/{at}").items()}
    return {} if "{{" in str(template) else {path: template}


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_all_that_prefects_own_template_for_kubernetes_fixes_and_the_same_types(kind: str) -> None:
    theirs = json.loads(PREFECTS.read_text())["prefect-kubernetes"]["kubernetes"]["default_base_job_configuration"]
    ours = template(kind)
    wanted = fixed(theirs["job_configuration"])
    assert wanted["/job_manifest/spec/template/spec/parallelism"] == 1
    assert wanted.items() <= fixed(ours["job_configuration"]).items()
    assert set(ours["job_configuration"]) == set(theirs["job_configuration"])
    there, here = theirs["variables"]["properties"], ours["variables"]["properties"]
    assert len(set(there) & set(here)) >= 12, "cpu and memory are one each: what a run asks for is what it may have"
    for name in set(there) & set(here):
        same = ("type", "enum", "additionalProperties", "allOf")
        assert [here[name].get(key) for key in same] == [there[name].get(key) for key in same] or name == "image_pull_policy"  # fmt: skip
    assert ours["variables"]["definitions"]["KubernetesClusterConfig"]["required"] == ["config", "context_name"]


def secret(*values: str) -> dict[str, str]:
    """The keys that runs.env.example names for the secret of the runs."""
    lines = [line for line in (FOLDER / "runs.env.example").read_text().splitlines() if not line.startswith("#")]
    assert all(line.endswith("=") for line in lines), "the example has no values"
    return {line.partition("=")[0]: value for line, value in zip(lines, values or [""] * len(lines), strict=False)}


def test_the_image_and_the_secret_hold_all_that_a_run_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    image = image_environment()
    assert image.items() >= (PATIENT | TELEMETRY).items()
    for name in [name for name in os.environ if name.startswith(("NEEDLEDROP_", "MLFLOW_", "PREFECT_", "AWS_"))]:
        monkeypatch.delenv(name)
    filled = dict.fromkeys(secret(), "http://one.example")
    for name, value in (image | filled).items():
        monkeypatch.setenv(name, value)
    environment = shared(Environment())
    assert environment.checkouts == Path("/srv/needledrop/checkouts")
    unset = {name for name, value in environment if value is None} - {"prefect_api_key", "mlflow_token", "aws_session_token"}  # fmt: skip
    assert not unset, f"runs.env.example does not name {unset}"


@pytest.mark.stack
@pytest.mark.timeout(900)
def test_what_a_jobs_container_runs_finds_its_code_and_the_ledger(deployed: Line, tmp_path: Path) -> None:
    """The pod without a cluster: the image's environment, the secret, the command, and an empty work folder."""
    run = deployed.submit("needledrop-approve/approve", version=999, by=USER, reason="heard it")
    (work := tmp_path / "work").mkdir()
    image = {name: value.replace("/srv/needledrop", str(work)) for name, value in image_environment().items()}
    given = {name: deployed.environment[name] for name in secret() if name in deployed.environment}
    ours = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PREFECT__FLOW_RUN_ID": str(run)}
    command = rendered("cpu", command="prefect flow-run execute")["spec"]["template"]["spec"]["containers"][0]["args"]
    done = subprocess.run(
        [*ENTRY, *command.split()], cwd=work, env=image | given | ours, capture_output=True, text=True, check=False
    )
    assert "UnknownVersion" in deployed.state(run)[2], done.stdout + done.stderr
    assert (work / "checkouts" / "release-1" / "dvc.yaml").is_file()


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
