#!/usr/bin/env bash
# Serve a model as an OpenAI-style endpoint, on a slice of one machine.
#
#   tpu_scripts/serve.sh [--dry-run] MODEL [--option value ...]
#
# MODEL: a hub id, or a folder such as bucket/runs/critic-7b/critic. The endpoint listens on the machine
# itself only; the tunnel that is printed brings it to this one. It runs, and the pod is billed, until the
# pod is deleted. Further words are options of critic-jax serve.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
begin "$@"
((${#WORDS[@]} >= 1)) || wrong "give the model: serve.sh bucket/runs/critic-7b/critic"
one_host "critic-jax serve"
start_job 0 "critic-jobs/$RUN/log" critic-jax serve --model "${WORDS[0]}" --port 8000 "${WORDS[@]:1}"
say "to reach it at http://127.0.0.1:8000/v1: gcloud compute tpus tpu-vm ssh $POD --project=$PROJECT --zone=$ZONE -- -N -L 8000:127.0.0.1:8000"
