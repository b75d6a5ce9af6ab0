# The labeler command with all it needs; see docs/guides/docker.md.
#
#     docker build -t labeler:0.1.0 .                              # for CPUs
#     docker build -t labeler:0.1.0 --build-arg VARIANT=cuda .     # for NVIDIA GPUs
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG VARIANT=cpu
ARG EXTRAS=cluster,s3,gcs,azure
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY .ci/constraints.txt /src/.ci/constraints.txt
RUN python3 -m venv /opt/labeler
# PyTorch comes first and without its dependencies: its own index lacks some of the pinned versions. The build on PyPI
# brings the CUDA libraries, so no CUDA base image is needed.
RUN case "$VARIANT" in \
      cpu) /opt/labeler/bin/pip install -c .ci/constraints.txt --no-deps \
             --index-url https://download.pytorch.org/whl/cpu torch torchvision ;; \
      cuda) ;; \
      *) echo "VARIANT must be cpu or cuda, not $VARIANT" >&2; exit 1 ;; \
    esac
COPY pyproject.toml README.md LICENSE /src/
COPY labeler /src/labeler
COPY ontologies /src/ontologies
COPY workflows /src/workflows
# autodistill requires the OpenCV build that needs libGL. Both builds share one folder, so both go before one returns.
RUN /opt/labeler/bin/pip install -c .ci/constraints.txt ".[$EXTRAS]" \
    && /opt/labeler/bin/pip uninstall -q -y opencv-python opencv-python-headless \
    && /opt/labeler/bin/pip install -c .ci/constraints.txt --no-deps opencv-python-headless \
    && /opt/labeler/bin/pip uninstall -q -y pip

FROM python:${PYTHON}-slim
# KubeRay probes its pods with wget.
RUN apt-get update && apt-get install -y --no-install-recommends wget && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/labeler /opt/labeler
# Clusters run containers under any user id: the home folder, with the caches, is writable for all of them, and USER
# names those that /etc/passwd does not know.
RUN useradd --uid 1000 --create-home labeler && chmod 1777 /home/labeler
ENV PATH=/opt/labeler/bin:$PATH HOME=/home/labeler USER=labeler PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /home/labeler
# Presets or hub ids whose weights become part of the image, such as "fast best".
ARG WEIGHTS=
RUN for name in $WEIGHTS; do labeler models --fetch "$name" || exit 1; done; \
    mkdir -p .cache && chmod -R a+rwX .cache
ENTRYPOINT ["labeler"]
CMD ["--help"]
