# syntax=docker/dockerfile:1
# An image of bridgekit: dependencies by hash, no root, data in /data (config.yaml, registration, database, keys).

FROM rust:1.95-slim-bookworm AS mls
# The MLS engine for the MIMI connector: one wheel for Python 3.11 and newer.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY requirements-bootstrap.lock ./
RUN python3 -m venv /opt/maturin \
 && /opt/maturin/bin/pip install --no-cache-dir --require-hashes -r requirements-bootstrap.lock
COPY mls mls
RUN /opt/maturin/bin/maturin build --release --manifest-path mls/Cargo.toml --out /dist

FROM python:3.12-slim AS build
WORKDIR /source
COPY requirements-bootstrap.lock requirements-image.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements-bootstrap.lock \
 && python -m venv /opt/bridgekit \
 && uv pip install --no-cache --python /opt/bridgekit/bin/python --require-hashes -r requirements-image.lock
COPY --from=mls /dist /mls
COPY . .
RUN uv build --wheel --no-build-isolation --out-dir /dist \
 && uv pip install --no-cache --python /opt/bridgekit/bin/python --no-deps /dist/*.whl /mls/*.whl \
 && /opt/bridgekit/bin/python -m compileall -q /opt/bridgekit

FROM python:3.12-slim
LABEL org.opencontainers.image.title="bridgekit" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 bridgekit \
 && useradd --no-log-init --uid 10001 --gid 10001 --home-dir /data --shell /usr/sbin/nologin bridgekit \
 && install --directory --owner 10001 --group 10001 --mode 0700 /data
COPY --from=build /opt/bridgekit /opt/bridgekit
ENV PATH="/opt/bridgekit/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    BRIDGEKIT_HEALTH=http://127.0.0.1:29331/health/live
USER 10001
WORKDIR /data
VOLUME /data
# The appservice listener (the homeserver speaks to it) and the admin listener (health, metrics).
EXPOSE 29330 29331
# Where the config moves the admin listener, set BRIDGEKIT_HEALTH.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['BRIDGEKIT_HEALTH'], timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["bridgekit"]
CMD ["run", "--config", "/data/config.yaml"]
