# One image for the worker, the MLflow server and the Prefect server, so that all of them have the versions of
# constraints.txt. Checked by tests/stack/test_stack_compose.py; not built by the tests.
FROM python:3.11.13-slim-bookworm

RUN apt-get update \
    && apt-get install --no-install-recommends --yes curl git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 needledrop \
    && install --directory --owner needledrop /work

WORKDIR /app
COPY pyproject.toml constraints.txt README.md ./
COPY components components
COPY flows flows
COPY infra/mlflow-auth-entry.sh /usr/local/bin/entry
RUN pip install --no-cache-dir --disable-pip-version-check -c constraints.txt '.[server,redis]'

USER needledrop
WORKDIR /work
ENV HOME=/work PYTHONUNBUFFERED=1
ENTRYPOINT ["entry"]
CMD ["prefect", "worker", "start", "--pool", "needledrop-cpu", "--type", "process"]
