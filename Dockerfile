# Headrace in a container: one node, in the foreground.
#
#     docker build -t headrace:0.1.0 .
#     docker build -t headrace:0.1.0-cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .
#     docker run -v "$PWD":/etc/headrace:ro -v recordings:/var/lib/headrace headrace:0.1.0
#
# The file is /etc/headrace/headrace.toml, with [node] folder = "/var/lib/headrace/node". See docs/cluster.md.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
# Where torch comes from: without GPUs by default, which makes the image smaller by gigabytes.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /build
RUN python -m venv /opt/headrace
# What changes seldom first: torch alone is most of the image.
COPY constraints.txt ./
RUN /opt/headrace/bin/pip install --no-cache-dir --index-url "${TORCH_INDEX}" \
        --extra-index-url https://pypi.org/simple -c constraints.txt torch
COPY . .
RUN /opt/headrace/bin/pip install --no-cache-dir -c constraints.txt "."

FROM python:${PYTHON}
# srt-live-transmit is for srt:// sources and outputs; tini passes signals on and reaps what has ended.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends srt-tools tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 headrace \
    && useradd --uid 10001 --gid headrace --home-dir /var/lib/headrace --create-home --shell /usr/sbin/nologin headrace
COPY --from=build /opt/headrace /opt/headrace
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/headrace
VOLUME /var/lib/headrace
STOPSIGNAL SIGTERM
# The page's own port, inside the container; [page] is on by default.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8750/healthz', timeout=4)"]
ENTRYPOINT ["tini", "--", "headrace"]
CMD ["up", "-n", "-c", "/etc/headrace/headrace.toml"]
