# One image for the worker, the MLflow server and the Prefect server, so that all of them have the versions of
# constraints.txt. Not built by the tests: tests/stack/test_stack_compose.py reads it, tests/packaging makes the wheel
# from what it copies and runs its installation in an empty environment.
FROM python:3.11.13-slim-bookworm

RUN apt-get update \
    && apt-get install --no-install-recommends --yes curl git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 needledrop \
    && install --directory --owner needledrop /srv/needledrop

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE needledrop.py ./
COPY components components
COPY flows flows
COPY infra/mlflow-auth-entry.sh /usr/local/bin/entry
RUN pip install --no-cache-dir --disable-pip-version-check -c constraints.txt '.[server,redis]'

USER needledrop
WORKDIR /srv/needledrop
# What every run needs, whoever starts it: the compose file's workers, or a job of Kubernetes.
ENV HOME=/srv/needledrop PYTHONUNBUFFERED=1 \
    NEEDLEDROP_CHECKOUTS=/srv/needledrop/checkouts NEEDLEDROP_PATIENCE_S=120 \
    MLFLOW_HTTP_REQUEST_MAX_RETRIES=7 PREFECT_CLIENT_MAX_RETRIES=8 \
    DO_NOT_TRACK=1 DVC_NO_ANALYTICS=1 GX_ANALYTICS_ENABLED=False HF_HUB_DISABLE_TELEMETRY=1 \
    MLFLOW_DISABLE_TELEMETRY=true PREFECT_SERVER_ANALYTICS_ENABLED=false
ENTRYPOINT ["entry"]
CMD ["needledrop", "worker"]
