# A run that lasts: docker build -t edgelstm . && docker run -d --restart unless-stopped \
#   -v /srv/ward:/data --device /dev/ttyUSB0 --group-add dialout edgelstm
# What it runs stands in /data/run.toml (edgelstm run --config), outputs beside it.
FROM python:3.12-slim

ARG EXTRAS="resample"

WORKDIR /opt/edgelstm
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY edgelstm ./edgelstm
RUN pip install --no-cache-dir ".[${EXTRAS}]" \
    && rm -rf /opt/edgelstm \
    && useradd --system --uid 10001 --create-home edgelstm \
    && mkdir /data \
    && chown edgelstm /data

USER edgelstm
WORKDIR /data
VOLUME ["/data"]
ENV PYTHONUNBUFFERED=1
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5m --timeout=30s CMD ["edgelstm", "doctor", "--folder", "/data"]
ENTRYPOINT ["edgelstm"]
CMD ["run", "--config", "/data/run.toml"]
