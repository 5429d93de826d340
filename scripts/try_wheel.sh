#!/usr/bin/env bash
# Build sdist and wheel, install the wheel into a fresh environment, run from an empty folder. Before a release.
#   scripts/try_wheel.sh              with everything that it needs, as a user gets it
#   scripts/try_wheel.sh SITE         without: dependencies are those in SITE, the site-packages of an environment
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
unset PYTHONPATH # or pip would find the checkout there and install nothing
trap 'rm -rf "$work"' EXIT
git -C "$root" ls-files -z | tar -C "$root" --null -T - -cf - | { mkdir "$work/source" && tar -C "$work/source" -xf -; }
python3 -m venv "$work/env"
pip="$work/env/bin/python -m pip --disable-pip-version-check --quiet"
cd "$work/source"
if [ $# -gt 0 ]; then
  build="python3 -c"  # of this environment, which has setuptools
  $build "from setuptools import build_meta as b; b.build_sdist('$work/dist')" >"$work/log" 2>&1
  mkdir "$work/sdist" && tar -C "$work/sdist" --strip-components 1 -xzf "$work"/dist/*.tar.gz
  cd "$work/sdist" && $build "from setuptools import build_meta as b; b.build_wheel('$work/dist')" >>"$work/log" 2>&1
  $pip install --no-deps "$work"/dist/*.whl
  echo "$1" > "$("$work/env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"
else
  $pip install build
  "$work/env/bin/python" -m build --outdir "$work/dist" .
  $pip install "$(ls "$work"/dist/*.whl)[view]"
fi
mkdir "$work/empty"
cd "$work/empty"
export OMP_NUM_THREADS=1
solver="$work/env/bin/solver"
$solver --version
$solver cases
time $solver run channel180_coarse --steps 1
time $solver new mine --from channel180_coarse
time $solver run mine --steps 3 --closure tbnn
$solver runs
ls -la "$work/dist"
