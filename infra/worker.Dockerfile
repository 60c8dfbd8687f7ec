# One image for the worker, the MLflow server and the Prefect server, so that all of them have the versions of
# constraints.txt. Not built by the tests: tests/stack/test_stack_compose.py reads it, tests/packaging makes the wheel
# from what it copies and runs its installation in an empty environment.
FROM python:3.11.13-slim-bookworm

RUN apt-get update \
    && apt-get install --no-install-recommends --yes curl git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 needledrop \
    && install --directory --owner needledrop /work

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE needledrop.py ./
COPY components components
COPY flows flows
COPY infra/mlflow-auth-entry.sh /usr/local/bin/entry
RUN pip install --no-cache-dir --disable-pip-version-check -c constraints.txt '.[server,redis]'

USER needledrop
WORKDIR /work
ENV HOME=/work PYTHONUNBUFFERED=1
ENTRYPOINT ["entry"]
CMD ["prefect", "worker", "start", "--pool", "needledrop-cpu", "--type", "process"]
