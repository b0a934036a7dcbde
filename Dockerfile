# critic_jax in an image, for those who run pods from images (GKE, docker on a TPU machine, a GPU host).
#
#   docker build -t critic-jax .                            # for TPUs
#   docker build -t critic-jax --build-arg CHIPS=cuda .     # for GPUs
#   docker run --rm --privileged --net=host critic-jax train critic_7b --data gs://my-bucket/critic-113k
#
# A TPU machine's chips are seen with --privileged --net=host, a GPU host's with --gpus all.
FROM python:3.12-slim

ARG CHIPS=tpu
WORKDIR /critic_jax

# What a new line of code does not change: the packages.
COPY pyproject.toml setup.py README.md LICENSE ./
RUN mkdir critic_jax data_tools configs && touch critic_jax/__init__.py data_tools/__init__.py configs/__init__.py \
    && pip install --no-cache-dir ".[$CHIPS,gcs,serve]"

COPY critic_jax critic_jax
COPY data_tools data_tools
COPY configs configs
RUN pip install --no-cache-dir --no-deps --force-reinstall .

# Runs, copies of data sets and compiled programs: a disk or a mounted bucket belongs here.
VOLUME /critic
WORKDIR /critic
ENV CRITIC_JAX_CACHE=/critic/cache
ENTRYPOINT ["critic-jax"]
