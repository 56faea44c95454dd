# syntax=docker/dockerfile:1
# One image for every command of Palimpsest: serve, migrate, api, worker, jobs. It has no HEALTHCHECK: that depends on the command, and the
# compose files and the Helm chart say it. The encoder's weights come with an installed package; nothing is fetched at run time.

FROM python:3.11.15-slim-trixie AS build
# What pip is told to install for PyTorch. The CPU build is a tenth of the size. For a worker with a GPU: --build-arg TORCH="torch==2.13.0"
ARG TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
ENV PATH=/opt/palimpsest/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/palimpsest
# A layer of its own: the sources below change often, PyTorch does not. TORCH holds its version, and perhaps an option: to be split.
# hadolint ignore=DL3013,SC2086
RUN --mount=type=cache,target=/root/.cache/pip pip install $TORCH
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY model model
COPY service service
COPY workers workers
COPY palimpsest palimpsest
COPY migrations migrations
# The versions are pyproject.toml's.
# hadolint ignore=DL3013
RUN --mount=type=cache,target=/root/.cache/pip pip install ".[s3,otel]"

# Neither compiler nor sources: what was installed, and a user who may change none of it.
FROM python:3.11.15-slim-trixie
LABEL org.opencontainers.image.title="Palimpsest" \
      org.opencontainers.image.description="A memory service for AI agents that learn from corrections"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin palimpsest \
    && install --directory --owner palimpsest --group palimpsest --mode 0700 /data
COPY --from=build /opt/palimpsest /opt/palimpsest
# The root file system may be read-only: all that is written goes below /data (a volume; `serve` alone needs it) and /tmp (in memory).
ENV PATH=/opt/palimpsest/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    OMP_NUM_THREADS=1 \
    PALIMPSEST_HOST=0.0.0.0 \
    PALIMPSEST_PORT=8000 \
    PALIMPSEST_VAR_DIR=/data
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
# api 8000, a worker's calls 7420, health and metrics of worker and jobs 9100
EXPOSE 8000 7420 9100
CMD ["palimpsest", "serve"]
