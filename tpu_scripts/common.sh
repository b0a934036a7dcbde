# shellcheck shell=bash disable=SC2034
# What the scripts share: settings, options, words, and calls to gcloud. Sourced, never run.
set -euo pipefail
if ((BASH_VERSINFO[0] < 5)); then
  echo "${0##*/}: error: bash $BASH_VERSION is too old; 5 or newer is needed" >&2
  exit 2
fi

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
HERE=${HERE#"$PWD"/} # as a user would type it
ME=$(basename "$0")
DRY='' YES='' WORDS=() LOG=/dev/null

# Exit codes are those of critic-jax: 1 the work failed, 2 the command or a setting is wrong.
wrong() { printf '%s: error: %s\n' "$ME" "$*" >&2; exit 2; }
failed() { say "error: $*" >&2; exit 1; }
say() { printf '%s %s: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$ME" "$*" | tee -a "$LOG"; }

# Print a command, and run it unless this is a dry run.
run() {
  { printf '+'; printf ' %q' "$@"; printf '\n'; } >&2
  [[ -n $DRY ]] || "$@"
}

# The comment on top of a script is its --help.
help() { awk 'NR > 1 && /^#/ { sub(/^# ?/, ""); print; next } NR > 1 { exit }' "$0"; exit 0; }

# Options that every script has; the other words are left in WORDS. Then the settings.
begin() {
  while (($#)); do
    case $1 in
      --help | -h) help ;;
      --dry-run) DRY=1 ;;
      --yes) YES=1 ;;
      *) WORDS+=("$1") ;;
    esac
    shift
  done
  settings
}

no_words() {
  ((${#WORDS[@]} == 0)) || wrong "unknown word ${WORDS[0]}; see $ME --help"
}

SETTINGS='PROJECT ZONE BUCKET POD TYPE SLICES BILLING RUN CONFIG FIELDS DATA INIT WAIT_MINUTES STUCK_MINUTES RETRIES POLL ANSWER GRACE'

settings() {
  local file=${POD_ENV:-pod.env} name
  [[ -f $file && -r $file ]] || wrong "no settings: $file is not there; cp $HERE/pod.env.example pod.env, then change it"
  while read -r name; do
    [[ " $SETTINGS " == *" $name "* ]] || wrong "$file: no setting is called $name; there are $SETTINGS"
  done < <(sed -nE 's/^[[:space:]]*(export[[:space:]]+)?([A-Za-z_0-9]+)=.*/\2/p' "$file")
  bash -eu "$file" >/dev/null || wrong "$file: a line is no setting (above)"
  # shellcheck disable=SC1090
  source "$file"
  for name in PROJECT ZONE BUCKET POD TYPE RUN; do
    [[ -n ${!name:-} ]] || wrong "$file: $name is not set; pod.env.example says what it is"
  done
  : "${SLICES:=1}" "${BILLING:=spot}" "${CONFIG:=}" "${FIELDS:=}" "${DATA:=}" "${INIT:=}"
  : "${WAIT_MINUTES:=720}" "${STUCK_MINUTES:=30}" "${RETRIES:=20}"
  # Seconds between two looks; for workers to answer one; for the service to tell of a preemption.
  : "${POLL:=30}" "${ANSWER:=300}" "${GRACE:=60}"
  [[ $ZONE =~ ^[a-z]+-[a-z]+[0-9]+-[a-z0-9]+$ ]] || wrong "$file: ZONE=$ZONE; it should be a zone like us-west4-a"
  [[ $POD =~ ^[a-z][a-z0-9-]{0,50}$ ]] || wrong "$file: POD=$POD; it should be lower-case letters, digits and dashes"
  [[ $RUN =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || wrong "$file: RUN=$RUN; it should be a folder's name"
  [[ $BUCKET =~ ^gs://[a-z0-9][a-z0-9._-]+$ ]] || wrong "$file: BUCKET=$BUCKET; it should be like gs://my-bucket, without a folder"
  [[ $SLICES =~ ^[1-9][0-9]*$ ]] || wrong "$file: SLICES=$SLICES; it should be a number from 1"
  for name in WAIT_MINUTES RETRIES; do
    [[ ${!name} =~ ^[0-9]+$ ]] || wrong "$file: $name=${!name}; it should be a whole number"
  done
  for name in STUCK_MINUTES POLL ANSWER GRACE; do
    [[ ${!name} =~ ^[0-9]*\.?[0-9]+$ ]] || wrong "$file: $name=${!name}; it should be a number"
  done
  [[ $BILLING =~ ^(spot|reserved|on-demand)$ ]] || wrong "$file: BILLING=$BILLING; it should be spot, reserved or on-demand"
  slice "$file"
  if [[ -z $DRY ]]; then
    mkdir -p "runs/pods/$POD"
    LOG=runs/pods/$POD/log
  fi
}

# TYPE -> ACCELERATOR and RUNTIME, as the service names them, and HOSTS, the machines of a slice.
# https://cloud.google.com/tpu/docs/runtimes; machines: the pages v4, v5p, v5e and v6e beside it.
slice() {
  local kind=${TYPE%-*} count=${TYPE##*-}
  [[ $TYPE == *-* && $count =~ ^[1-9][0-9]*$ ]] || wrong "$1: TYPE=$TYPE; it should be like v5e-32"
  case $kind in
    v4) RUNTIME=tpu-ubuntu2204-base HOSTS=$(((count + 7) / 8)) ;;
    v5p) RUNTIME=v2-alpha-tpuv5 HOSTS=$(((count + 7) / 8)) ;;
    v5e | v5litepod) kind=v5litepod RUNTIME=v2-alpha-tpuv5-lite HOSTS=$((count <= 8 ? 1 : count / 4)) ;;
    v6e) RUNTIME=v2-alpha-tpuv6e HOSTS=$((count <= 8 ? 1 : count / 4)) ;;
    *) wrong "$1: TYPE=$TYPE; it should begin with v4, v5e, v5p or v6e" ;;
  esac
  ACCELERATOR=$kind-$count
}

what() { printf '%s (%s, %s slice(s), %s)' "$POD" "$ACCELERATOR" "$SLICES" "$BILLING"; }

nodes() {
  if ((SLICES == 1)); then printf '%s\n' "$POD"; else
    for ((n = 0; n < SLICES; n++)); do printf '%s-%s\n' "$POD" "$n"; done
  fi
}

tpu() { run gcloud compute tpus "$@" --project="$PROJECT" --zone="$ZONE" --quiet; }
storage() { run gcloud storage "$@" --project="$PROJECT" --quiet; }

# The request's state in the service's own word; NONE where there is none, UNKNOWN where the service
# does not say. A dry run prints the question and takes the answer given here.
state() {
  local said
  if [[ -n $DRY ]]; then
    tpu queued-resources describe "$POD" '--format=value(state.state)'
    printf '%s\n' "$1"
  elif said=$(gcloud compute tpus queued-resources describe "$POD" '--format=value(state.state)' \
    --project="$PROJECT" --zone="$ZONE" --quiet 2>&1); then
    printf '%s\n' "${said:-UNKNOWN}"
  elif grep -qi 'not.found' <<<"$said"; then
    printf 'NONE\n'
  else
    printf '%s\n' "$said" >&2
    printf 'UNKNOWN\n'
  fi
}

# Say what is left that costs money; for the end of a script, whichever way it ends.
billed() {
  [[ -z $DRY ]] || return 0
  local now
  now=$(state ACTIVE 2>/dev/null) || now=UNKNOWN
  case $now in
    NONE) say "no pod $POD is there, none is billed" ;;
    SUSPENDED | FAILED) say "$(what) is $now: its chips are gone and not billed; $HERE/delete.sh clears the request" ;;
    ACCEPTED | WAITING_FOR_RESOURCES | CREATING) say "the request for $(what) is still in the queue and is BILLED once it is met; to withdraw it: $HERE/delete.sh" ;;
    *) say "$(what) is $now and BILLED until it is deleted: $HERE/delete.sh" ;;
  esac
}

# Try so often, for what the network may refuse once.
again() {
  local left=$1
  shift
  until "$@"; do
    ((--left > 0)) || return 1
    say "did not work; again in $POLL seconds, $left more"
    sleep "$POLL"
  done
}

# Run a command on workers (all, or a number) of every node, one folder of outputs a node below
# OUTPUTS, where that is set. False if one of them failed or could not be reached.
on_workers() {
  local workers=$1 command=$2 node fine=0 folder
  for node in $(nodes); do
    folder=()
    if [[ -n ${OUTPUTS:-} && -z $DRY ]]; then
      mkdir -p "$OUTPUTS/$node"
      folder=("--output-directory=$OUTPUTS/$node")
    fi
    tpu tpu-vm ssh "$node" "--worker=$workers" "--command=$command" "${folder[@]}" || fine=1
  done
  return "$fine"
}

# The workers' scripts are worker.sh below another name; words are quoted for its shell.
worker() { printf 'bash critic-worker.sh'; printf ' %q' "$@"; }

# start_job WORKERS WATCH WORD...: start a command on workers and leave it there. WATCH: what grows
# while the job gets on, from the worker's home.
start_job() {
  local workers=$1 watch=$2
  shift 2
  local attempt=${POD_ATTEMPT:-$(date -u +%Y%m%dT%H%M%SZ)}
  [[ -z $DRY ]] || attempt=${POD_ATTEMPT:-ATTEMPT}
  say "starting on $(what), workers $workers: $*"
  again 5 on_workers "$workers" "$(worker start "$RUN" "$attempt" "$watch" -- "$@")" ||
    failed "the job could not be started on all workers; the same again is safe, $HERE/logs.sh shows what they say"
  say "started; $HERE/status.sh and $HERE/logs.sh look on; $POD is BILLED until it is deleted: $HERE/delete.sh"
}

# For jobs that one machine does on its own.
one_host() {
  ((HOSTS * SLICES == 1)) || wrong "TYPE=$TYPE, SLICES=$SLICES has $((HOSTS * SLICES)) machines, and $1 runs on one; take v4-8, v5p-8, v5e-8 or v6e-8"
}
