"""The analogy prompt in MLflow's prompt registry: one version per template, linked to the runs that used it."""

from typing import TYPE_CHECKING, Any

from components.captioning.prompt import TEMPLATE_DIGEST, TEMPLATE_TEXT

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME = "needledrop-analogy"


def record_prompt(client: "MlflowClient", run_id: str, captioning: Any) -> str | None:
    """Register the template if it is new, link it to the run, and return its URI.

    Args:
        client: of the tracking store.
        run_id: of the model's run.
        captioning: the section; kinds that ask no language model have no prompt.
    """
    if not hasattr(captioning, "prompt"):
        return None
    version = _registered(client)
    client.link_prompt_version_to_run(run_id, version)
    client.set_tag(run_id, "needledrop.prompt", version.uri)
    return str(version.uri)


def _registered(client: "MlflowClient") -> Any:
    from mlflow.exceptions import MlflowException

    # An alias names the template; a search by tag would read every version.
    alias = f"template-{TEMPLATE_DIGEST}"
    try:
        known = client.get_prompt_version_by_alias(NAME, alias)
    except MlflowException:
        known = None
    if known is not None:
        return known
    version = client.register_prompt(
        NAME,
        TEMPLATE_TEXT,
        commit_message="ViML, CVPR 2023, section 3.1: A : A' :: B : ?",
        tags={"needledrop.template": TEMPLATE_DIGEST},
    )
    client.set_prompt_alias(NAME, alias, version.version)
    return version
