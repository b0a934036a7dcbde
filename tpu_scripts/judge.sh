#!/usr/bin/env bash
# Judge a file of the bucket with a critic, on every worker, and leave it there.
#
#   tpu_scripts/judge.sh [--dry-run] MODEL INPUT [--option value ...]
#
# MODEL: a hub id, or a folder such as bucket/runs/critic-7b/critic. INPUT: a file of the bucket, from its root,
# whose pictures lie beside it. Judgments: BUCKET/runs/RUN/results.jsonl; ids in there are not judged
# again. Further words are options of critic-jax judge.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
begin "$@"
((${#WORDS[@]} >= 2)) || wrong "give the model and the input: judge.sh bucket/runs/critic-7b/critic pairs/input.jsonl"
start_job all "bucket/runs/$RUN/results.jsonl" critic-jax judge --model "${WORDS[0]}" \
  --input "bucket/${WORDS[1]}" --output "bucket/runs/$RUN/results.jsonl" "${WORDS[@]:2}"
