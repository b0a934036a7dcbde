#!/usr/bin/env bash
# Make a checkpoint of a Hugging Face model in the bucket, on the pod's first worker.
#
#   tpu_scripts/convert.sh [--dry-run] HUB_ID NAME
#
# It then is BUCKET/models/NAME; INIT=bucket/models/NAME lets a run start from it. Without this, a
# run reads a hub id itself, and every worker fetches the model.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
begin "$@"
((${#WORDS[@]} == 2)) || wrong "give the model and the name: convert.sh lmms-lab/llava-onevision-qwen2-7b-ov onevision-7b"
# No chip is needed, and a slice's chips work together only if all its machines take part.
# Until it is complete it grows in a folder beside its place.
start_job 0 "bucket/models/.${WORDS[1]}.building" env JAX_PLATFORMS=cpu \
  critic-jax convert "${WORDS[0]}" "bucket/models/${WORDS[1]}"
