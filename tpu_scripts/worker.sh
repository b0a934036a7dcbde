#!/usr/bin/env bash
# What a worker does for the scripts beside this one; setup.sh puts it there as critic-worker.sh.
#
#   worker.sh lock BUCKET REVISION PACKAGES     work out versions, once a bucket and pyproject.toml
#   worker.sh setup BUCKET REVISION PACKAGES    mount the bucket, install
#   worker.sh start RUN ATTEMPT WATCH -- WORD...   start a command and leave it
#   worker.sh state|log|stop RUN
#
# The bucket is mounted at ~/bucket, which is the same path on every worker, as a state must have: gcloud
# logs in by one name. What runs is kept in ~/critic-jobs/RUN.
set -euo pipefail
cd "$HOME"
export PATH=$HOME/critic-venv/bin:$HOME/.local/bin:$PATH

mount_bucket() {
  mountpoint -q bucket && return
  if ! command -v gcsfuse >/dev/null; then
    # https://cloud.google.com/storage/docs/cloud-storage-fuse/install
    local keys=/usr/share/keyrings/cloud.google.asc from=https://packages.cloud.google.com/apt
    curl -fsS "$from/doc/apt-key.gpg" | sudo tee "$keys" >/dev/null
    echo "deb [signed-by=$keys] $from gcsfuse-$(lsb_release -c -s) main" |
      sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
    # A new machine's own updates may hold the lock for a while.
    sudo apt-get -o DPkg::Lock::Timeout=600 update -qq
    sudo apt-get -o DPkg::Lock::Timeout=600 install -y -qq gcsfuse
  fi
  mkdir -p bucket
  # All workers must see at once what one of them wrote.
  gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 "${1#gs://}" "$HOME/bucket"
}

# The system's Python may be older than the project allows; uv brings one.
need_uv() { command -v uv >/dev/null || python3 -m pip install --user --quiet 'uv>=0.8'; }

source_of() {
  rm -rf critic-source
  mkdir critic-source
  tar -xzf "bucket/install/critic_jax-$1.tar.gz" -C critic-source
}

lock() {
  mount_bucket "$1"
  [[ ! -s bucket/install/$3.txt ]] || { echo "the versions of $3 are worked out already"; return; }
  need_uv
  source_of "$2"
  uv pip compile --quiet --python-version 3.12 --extra tpu --extra gcs --extra serve \
    --output-file critic-versions.txt critic-source/critic_jax/pyproject.toml
  cp critic-versions.txt "bucket/install/$3.txt"
}

setup() {
  mount_bucket "$1"
  local done="critic_jax $2, packages $3"
  [[ $(cat critic-venv/installed 2>/dev/null) != "$done" ]] || { echo "$done: already installed"; return; }
  need_uv
  source_of "$2"
  uv venv --quiet --allow-existing --python 3.12 critic-venv
  rm -f critic-venv/installed
  uv pip install --quiet --python critic-venv/bin/python -r "bucket/install/$3.txt"
  uv pip install --quiet --python critic-venv/bin/python --no-deps --reinstall-package critic-jax ./critic-source/critic_jax
  echo "$done" >critic-venv/installed
  echo "$done: installed"
}

alive() { [[ -s $1 ]] && kill -0 "$(cat "$1")" 2>/dev/null; }

start() {
  local job=critic-jobs/$1
  if alive "$job/keeper"; then
    [[ $(cat "$job/words") == "${*:5}" ]] || { echo "another job is running here: $(cat "$job/words")" >&2; return 1; }
    echo "is running already"
    return
  fi
  rm -rf "$job"
  mkdir -p "$job"
  echo "${*:5}" >"$job/words"
  echo "$3" >"$job/watch"
  setsid nohup bash "$0" keep "$@" >"$job/keeper-log" 2>&1 </dev/null &
  echo $! >"$job/keeper"
}

send_log() {
  mkdir -p "bucket/logs/$1/$2"
  cp "critic-jobs/$1/log" "bucket/logs/$1/$2/$HOSTNAME.log" 2>/dev/null || true
}

# Run the command, keep its exit code and the time, and send its log once a minute.
keep() {
  local run=$1 attempt=$2 job=$HOME/critic-jobs/$1 code=0
  shift 4
  # One of the whole pod's compilers is enough, and none after a preemption.
  export JAX_COMPILATION_CACHE_DIR=$HOME/bucket/compiled
  trap : TERM # waits for the command, which gets the signal itself
  (while sleep 60; do send_log "$run" "$attempt"; done) &
  local sender=$!
  # shellcheck disable=SC2016
  bash -c 'echo $$ >"$0"; exec "$@"' "$job/pid" "$@" >"$job/log" 2>&1 </dev/null || code=$?
  kill "$sender" 2>/dev/null || true
  send_log "$run" "$attempt"
  echo "$code $(date +%s.%N)" >"$job/exit.part"
  mv "$job/exit.part" "$job/exit"
}

# One line: running, ended, stopped (asked to; the same command goes on), lost (killed with its
# keeper, or the machine was started anew) or none.
state() {
  local job=critic-jobs/$1 code=- at=- is=none size=0 last=''
  if [[ -s $job/exit ]]; then
    read -r code at <"$job/exit"
    is=ended
    # 143 is SIGTERM to one that saves nothing first: it goes on from what it wrote.
    [[ $code != 143 ]] || is=stopped
    [[ $code != 0 ]] || ! grep -q '^critic-jax: .*: stopped at step ' "$job/log" || is=stopped
  elif alive "$job/keeper"; then is=running
  elif [[ -d $job ]]; then is=lost; fi
  if [[ -s $job/watch ]]; then
    local watch
    watch=$(cat "$job/watch")
    size=$( (find "$watch" "$watch".* -type f -printf '%s\n' 2>/dev/null || true) | awk '{ n += $1 } END { printf "%.0f", n }')
    last=$( (tail -n 1 "$watch" 2>/dev/null || true) | grep -oE '"step": [0-9]+' | head -n 1 | grep -oE '[0-9]+' || true)
  fi
  echo "critic-worker is=$is code=$code at=$at size=$size step=${last:--} host=$HOSTNAME"
}

log() {
  echo "== $HOSTNAME"
  tail -n 40 "critic-jobs/$1/log" 2>/dev/null || echo "(no job $1 here)"
}

# TERM, and KILL for what does not heed it; with the processes that the command began.
stop() {
  local job=critic-jobs/$1 n
  alive "$job/keeper" || { echo "nothing runs"; return; }
  kill -TERM "$(cat "$job/pid")" 2>/dev/null || true
  for ((n = 0; n < 4 * ${STOP_SECONDS:-60}; n++)); do
    alive "$job/keeper" || break
    sleep 0.25
  done
  alive "$job/keeper" && kill -KILL "$(cat "$job/pid")" 2>/dev/null || true
  while alive "$job/keeper"; do sleep 0.1; done
  kill -KILL -- "-$(cat "$job/keeper")" 2>/dev/null || true
}

"$@"
