# One image for every command of Palimpsest. The encoder's weights come with the installed packages; nothing is fetched at run time.
FROM python:3.11-slim
# On a machine with a GPU: --build-arg TORCH=torch. The CPU build is much smaller where pip is pointed to it.
ARG TORCH=torch==2.13.0
WORKDIR /app
RUN useradd --create-home --uid 10001 palimpsest && mkdir /data && chown palimpsest /data
RUN pip install --no-cache-dir "$TORCH"
COPY pyproject.toml README.md ./
COPY model model
COPY service service
COPY workers workers
COPY palimpsest palimpsest
COPY migrations migrations
RUN pip install --no-cache-dir .
USER palimpsest
ENV OMP_NUM_THREADS=1 PALIMPSEST_HOST=0.0.0.0 PALIMPSEST_PORT=8000 PALIMPSEST_VAR_DIR=/data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
CMD ["palimpsest", "serve"]
