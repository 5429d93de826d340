#!/usr/bin/env bash
# Fills docs/results/speed.json, or the file that is named, one record a line of the README's table; about four minutes on
# a quiet machine. `bench/moved.py` says what has changed.
set -euo pipefail
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
into=$(realpath -m "${1:-$root/docs/results/speed.json}")
cd "$root"
rm -f "$into"
record() { solver bench --json "$into" "$@"; }
closures=(--closure none --closure smagorinsky --closure dynamic_smagorinsky --closure wale)
record --grid 64x96x64 "${closures[@]}"
record --grid 32x48x32 "${closures[@]}"
record --flow box --grid 64x64x64
record --grid 128x128x128 --rounds 5
record --flow box --grid 128x128x128 --rounds 5
mpirun -n 2 solver bench --json "$into" --grid 64x96x64
mpirun -n 2 solver bench --json "$into" --grid 128x128x128 --rounds 5
mpirun -n 2 solver bench --json "$into" --flow box --grid 128x128x128 --rounds 5
