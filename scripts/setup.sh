#!/usr/bin/env bash
# Makes .venv from the pinned requirements of this machine's profile. Does nothing when it is up to date.
# usage: scripts/setup.sh [--test]     --test also sees to what the tests need: llama.cpp's converter, Chromium
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

find_python() {
  for name in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
    [ -n "$name" ] && command -v "$name" >/dev/null 2>&1 || continue
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$name"; return; }
  done
  echo "Python 3.11 or newer is needed (set PYTHON to one)" >&2
  exit 1
}

# The engine and the pins are built for CUDA 13, which needs this driver; one CUDA profile takes 13 GB, caches and a model the rest.
CUDA_DRIVER=580
CUDA_DISK_GB=20

require_gpu_box() {
  local driver free
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)
  if [ -n "$driver" ] && [ "${driver%%.*}" -lt "$CUDA_DRIVER" ] 2>/dev/null; then
    echo "The NVIDIA driver is $driver; the cuda profile needs $CUDA_DRIVER or newer (CUDA 13). Update the driver, or use" \
      "the processor: PROFILE=cpu make setup" >&2
    exit 1
  fi
  free=$(df --output=avail -B 1000000000 . | tail -n 1 | tr -d ' ')
  if [ "$free" -lt "$CUDA_DISK_GB" ]; then
    echo "$free GB of disk are free in $PWD; the cuda profile needs $CUDA_DISK_GB GB" >&2
    exit 1
  fi
}

# CUDA where a GPU answers, else the CPU; PROFILE=cpu|cuda overrides.
profile=${PROFILE:-$(nvidia-smi -L 2>/dev/null | grep -q GPU && echo cuda || echo cpu)}
requirements=requirements/$profile.txt
stamp=.venv/.trimtab-$(cat "$requirements" pyproject.toml scripts/setup.sh | sha256sum | cut -c1-16)

if [ ! -e "$stamp" ]; then
  [ "$profile" != cuda ] || require_gpu_box
  python=$(find_python)
  say "Making .venv with $("$python" --version) and the $profile profile ($(wc -l <"$requirements") packages; a minute or two)"
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
  # The CPU build of torch comes from a folder of wheels where one is configured, else from PyTorch's own index. The CUDA
  # build is that of the ordinary index: PyTorch's other indexes have builds for a CUDA that the engine was not built for.
  if [ "$profile" = cuda ]; then from=()
  elif [ -n "${PIP_FIND_LINKS:-}" ]; then from=(--find-links "$PIP_FIND_LINKS")
  else from=(--torch-backend=cpu); fi
  .venv/bin/uv pip install --python .venv/bin/python --no-deps --compile-bytecode "${from[@]}" -r "$requirements"
  .venv/bin/uv pip install --python .venv/bin/python --quiet --no-deps --no-build-isolation -e .
  .venv/bin/python -m compileall -q trimtab trimtab_client feedback_ui serve align store common
  rm -f .venv/.trimtab-*
  touch "$stamp"
else
  say ".venv is up to date ($profile profile)"
fi

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if [ "${1:-}" = --test ]; then
  # llama.cpp and its converter, where `trimtab releases export --to gguf` looks for them
  gguf=.venv/share/trimtab-gguf
  if ! cmp -s requirements/gguf.txt "$gguf/installed.txt"; then
    say "Installing llama.cpp's converter in $gguf"
    rm -rf "$gguf"
    .venv/bin/uv pip install --quiet --no-deps --target "$gguf" -r requirements/gguf.txt
    cp requirements/gguf.txt "$gguf/installed.txt"
  fi
  missing=()
  command -v chromium >/dev/null 2>&1 || missing+=(chromium)
  [ -e /usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4 ] || missing+=(libtcmalloc-minimal4)
  if [ ${#missing[@]} -gt 0 ]; then
    say "Installing what the tests need of the system: ${missing[*]} (a minute)"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  fi
fi
