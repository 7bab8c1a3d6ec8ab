#!/bin/sh
# Makes the bundled model from nothing: text, vocabulary, training, file, score. About an hour on two cores.
#   deploy/model/make.sh [DIR]      DIR (build/model) gets everything; the shipped file is not touched
# Environment: STROBE (build/release/server/strobe).
# Stopped or killed, the same command goes on from the last checkpoint. Same machine type, same bits; see README.md.
set -eu
cd "$(dirname "$0")/../.."
out=${1:-build/model}
strobe=${STROBE:-build/release/server/strobe}
[ -x "$strobe" ] || { echo "make.sh: no program '$strobe': run deploy/quickstart.sh first" >&2; exit 2; }
mkdir -p "$out"
text=$out/text
if [ ! -f "$out/vocab.gguf" ]; then
    "$strobe" corpus -o "$text" --seed 1 --problems 120000 --stories 16000
    "$strobe" corpus -o "$text" --seed 1 --split test --problems 2000
    "$strobe" vocab --text "$text/train.txt" --n-vocab 1536 --special '<|endoftext|>' --special '<|user|>' \
        --special '<|assistant|>' --special '<|end|>' --chat-template deploy/model/chat.jinja -o "$out/vocab.gguf"
fi
if [ -d "$out/run/checkpoints/last" ]; then
    "$strobe" train --resume "$out/run"
else
    "$strobe" train --config deploy/model/train.json --data "$text/train.txt" --held-out "$text/test.txt" \
        --tokenizer "$out/vocab.gguf" --out "$out/run"
fi
# The small Duo model, from less of the same text and a vocabulary of its own (ten minutes on one thread), and its router.
if [ ! -f "$out/duo-vocab.gguf" ]; then
    "$strobe" corpus -o "$out/duo-text" --seed 1 --problems 40000 --stories 6000
    "$strobe" corpus -o "$out/duo-text" --seed 1 --split test --problems 1000
    "$strobe" vocab --text "$out/duo-text/train.txt" --n-vocab 512 --special '<|endoftext|>' --special '<|user|>' \
        --special '<|assistant|>' --special '<|end|>' --chat-template deploy/model/chat.jinja -o "$out/duo-vocab.gguf"
fi
if [ -d "$out/duo/checkpoints/last" ]; then
    "$strobe" train --resume "$out/duo"
else
    "$strobe" duo train --config deploy/model/duo.json --data "$out/duo-text/train.txt" --held-out "$out/duo-text/test.txt" \
        --tokenizer "$out/duo-vocab.gguf" --out "$out/duo" --threads 1
fi
"$strobe" duo router -m "$out/duo/model.gguf" -o "$out/strobe-duo.gguf" --steps 300 --tokens 131072 --threads 1
"$strobe" corpus eval -m "$out/run/model.gguf" --n 500 | tee "$out/score.txt"
echo "model: $out/run/model.gguf"
