#!/usr/bin/env bats
# What befalls a pod, as a shell sees it: exit codes, what is said, what is billed at the end.
# Python finds the stand-in for gcloud, and more of what befalls: test_scenarios.py.

setup() {
  world=$BATS_TEST_TMPDIR/world
  "${PYTHON:-python3}" -c 'import sys; from pathlib import Path; from pod_world import PodWorld
PodWorld(Path(sys.argv[1]))' "$world"
  export PATH=$world/programs:$PATH POD_WORLD=$world
  cd "$world/here"
}

teardown() {
  pkill -9 -f "$BATS_TEST_TMPDIR" || true
}

script() {
  "$world/clone/tpu_scripts/$1" "${@:2}"
}

plan() {
  echo "$1" >"$world/plan.json"
}

# How many calls of gcloud had these words one after another.
calls() {
  grep -c "\"queued-resources\", \"$1\"" "$world/calls.jsonl" || true
}

says() {
  grep -qF -- "$1" <<<"$output" || { echo "not said: $1"; echo "$output"; return 1; }
}

none_billed() {
  says 'no pod critic is there, none is billed'
}

billed() {
  says 'is ACTIVE and BILLED until it is deleted: '
}

within_a_minute() {
  for ((tenth = 0; tenth < 600; tenth++)); do
    "$@" && return
    sleep 0.1
  done
  echo "not within a minute: $*"
  return 1
}

ended() {
  ! kill -0 "$1" 2>/dev/null
}

steps() {
  [ "$(wc -l <"$world/buckets/my-critic/runs/first/metrics.jsonl")" = "$1" ]
}

@test "settings to the end of a run: nothing is left" {
  run script run.sh --delete
  [ "$status" = 0 ]
  steps 6
  says 'run.sh: done: gs://my-critic/runs/first'
  none_billed
  [ "$(calls create)" = 1 ] && [ "$(calls delete)" = 1 ]
}

@test "a dry run calls nothing" {
  run script run.sh --dry-run
  [ "$status" = 0 ]
  says 'gcloud compute tpus queued-resources create critic'
  [ ! -e "$world/calls.jsonl" ] || [ "$(calls create)" = 0 ]
}

@test "waiting for chips" {
  plan '{"create": [{"states": ["ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]}]}'
  run script create.sh
  [ "$status" = 0 ]
  says 'critic is WAITING_FOR_RESOURCES'
  says 'critic is PROVISIONING'
  says 'is there and BILLED until it is deleted: '
}

@test "no quota: told once, exit code 2" {
  plan '{"create": [{"error": "RESOURCE_EXHAUSTED: Quota limit exceeded"}]}'
  run script run.sh
  [ "$status" = 2 ]
  says 'Quota limit exceeded'
  none_billed
  [ "$(calls create)" = 1 ]
}

@test "preempted twice in mid-run: every step once" {
  plan '{"preempt_after": [1, 1]}'
  printf '%s\n' 'critic-w-0 1 sleep 100 & wait' 'critic-w-0 3 sleep 100 & wait' >"$world/faults"
  run script run.sh
  [ "$status" = 0 ]
  steps 6
  says 'interrupted (2 of 5 allowed)'
  billed
  [ "$(calls create)" = 3 ]
}

@test "a worker that fails: named, not started again" {
  printf '%s\n' 'critic-w-0 2 sleep 100 & wait' 'critic-w-1 2 exit 7' >"$world/faults"
  run script run.sh
  [ "$status" = 1 ]
  says 'worker 1 of critic failed first, exit code 7'
  billed
  [ "$(calls create)" = 1 ]
}

@test "a connection refused once" {
  plan '{"refuse_ssh": 1}'
  run script run.sh
  [ "$status" = 0 ]
  steps 6
  says 'did not work; again in'
}

@test "the user aborts in the queue: what is asked for is said" {
  plan '{"create": [{"states": ["WAITING_FOR_RESOURCES"]}]}'
  # With job control a program in the background listens to Ctrl-C.
  set -m
  script run.sh >"$world/said" 2>&1 3>&- &
  within_a_minute grep -q 'critic is WAITING_FOR_RESOURCES' "$world/said"
  kill -INT -- "-$!"
  within_a_minute ended "$!"
  wait "$!" || status=$?
  output=$(cat "$world/said")
  [ "$status" = 130 ]
  says 'is still in the queue and is BILLED once it is met'
  run script delete.sh --yes
  [ "$status" = 0 ]
  none_billed
}

@test "deleting asks first" {
  script create.sh
  run script delete.sh <<<n
  [ "$status" = 1 ]
  billed
  run script delete.sh <<<y
  [ "$status" = 0 ]
  none_billed
}

@test "what no page of gcloud names is refused" {
  run gcloud compute tpus queued-resources create critic --colour red
  [ "$status" = 2 ]
}
