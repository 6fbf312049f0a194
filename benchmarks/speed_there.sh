#!/usr/bin/env bash
# The speed ladder on a borrowed machine with a GPU and without a network, ten minutes a command.
#
#   bash benchmarks/speed_there.sh carry         here, once: .whl/ gets the wheels that it may lack
#   bash benchmarks/speed_there.sh eager OUT     there: what runs at once, and the tests marked gpu
#   bash benchmarks/speed_there.sh compiled OUT  there: what compiles first
#   bash benchmarks/speed_there.sh rehearse OUT  here: the same path on the CPU, tiny
set -euo pipefail
cd "$(dirname "$0")/.."
task=${1:?carry, eager, compiled or rehearse}

if [ "$task" = carry ]; then
    # PyTorch, transformers and the like are there; these are small and may not be
    python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 -d .whl \
        diffusers tyro docstring-parser typeguard typing-extensions importlib-metadata zipp \
        jaxtyping wadler-lindig einops psutil tqdm pyyaml sybil beartype hypothesis sortedcontainers
    exit
fi

out=${2:?a folder for the results}
mkdir -p "$out"
if [ -d .whl ] && [ "$task" != rehearse ]; then
    site=$(mktemp -d)
    python3 -m pip install -q --no-index --no-deps --no-compile --target "$site" .whl/*.whl
    export PYTHONPATH=$site
fi
export PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
bench() { python3 -m zero123 bench --out "$out" "$@" 2>&1 | tee -a "$out/log.txt"; }

case $task in
eager)
    bench --model full-random --device cuda --steps 50 --repeats 5 --rungs plain \
        "written-out attention" "constant attention" "constant times" "constant photo" sub-pixel \
        winograd "fused qkv" channels-last traced float16 bfloat16 "int8 weights" exact "exact, bfloat16" \
        "exact, guided to 0.7" "exact, deep every 2" "exact, deep every 3" "exact, dpm++ 20" \
        "exact, unipc 10" low-memory
    python3 -m pytest -q -m gpu tests/speed/test_switches.py -p no:cacheprovider 2>&1 | tee "$out/gpu-tests.txt"
    ;;
compiled)
    mkdir -p "$out/compiled"
    out="$out/compiled"
    bench --model full-random --device cuda --steps 50 --repeats 5 --rungs \
        compiled "exact, compiled" "exact, bfloat16, compiled" fast turbo
    ;;
rehearse)
    bench --model tiny-random --device cpu --steps 3 --repeats 1 --rungs plain exact \
        "exact, deep every 2" "exact, dpm++ 20" low-memory
    ;;
esac
