# The gateway. EXTRA=triton uses a Triton server; EXTRA=cpu runs the shipped model in this process. Add mllm (cpu,mllm)
# for captions, which need torch (several GB). Add batch (cpu,batch) for batch jobs, stored in SEFAR_JOBS_DIR.
#   docker build -t sefar-serve .
ARG PYTHON=3.12-slim-bookworm

FROM python:${PYTHON} AS build
ARG EXTRA=triton
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY sefar_serve sefar_serve
COPY training training
COPY clients clients
COPY model_repository model_repository
COPY adapters adapters
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /dist . \
    && python -m venv /opt/sefar \
    && /opt/sefar/bin/pip install --constraint constraints.txt "$(echo /dist/*.whl)[${EXTRA}]" \
    && /opt/sefar/bin/pip check \
    && /opt/sefar/bin/pip uninstall --yes pip

FROM python:${PYTHON}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sefar-serve" \
      org.opencontainers.image.description="HTTP gateway for fine-grained action recognition" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/sefar /opt/sefar
# A new volume for batch jobs that is mounted here is owned by the user below.
RUN install -d -o 10001 -g 10001 /var/lib/sefar/jobs
# Only that folder and /tmp are written, so the root file system may be read-only.
ENV PATH=/opt/sefar/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SEFAR_HOST=0.0.0.0 \
    SEFAR_PORT=8000
# The same user as in Triton's image, because shared memory is readable only by its owner.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
# http.client, because urllib would send this request through a proxy if the environment sets one.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['SEFAR_PORT']), timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["sefar", "serve"]
