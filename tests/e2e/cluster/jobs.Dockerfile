# Image for tests/e2e/cluster/test_job_runner.py: the core of Modelyard, and a worker that does what its spec says.
#   docker build -f tests/e2e/cluster/jobs.Dockerfile -t docker.io/local/modelyard-jobs-test:1 .
FROM docker.io/library/python:3.11-slim-bookworm AS builder
WORKDIR /build
RUN python3 -m venv /opt/venv
COPY pyproject.toml constraints.txt README.md ./
RUN mkdir -p services/modelyard services/inference clients/modelyard \
    && /opt/venv/bin/pip install --quiet --no-cache-dir -c constraints.txt '.[core,kubernetes]' && /opt/venv/bin/pip uninstall -y -q modelyard
COPY services services
COPY clients clients
RUN cp -r services/modelyard services/inference clients/modelyard /opt/venv/lib/python3.11/site-packages/

FROM docker.io/library/python:3.11-slim-bookworm
COPY --from=builder /opt/venv /opt/venv
COPY tests/__init__.py /opt/tests/tests/__init__.py
COPY tests/support/__init__.py tests/support/sample_worker.py tests/support/sample_service.py /opt/tests/tests/support/
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/opt/tests PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
CMD ["python", "-m", "tests.support.sample_service"]
