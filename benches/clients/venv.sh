#!/usr/bin/env bash
# Makes a Python environment with real clients in a folder of your own: nothing is installed elsewhere, root is not needed.
#
#   benches/clients/venv.sh DIR
#
# The packages are those of requirements.txt, all pinned, from the package index that this machine's pip uses. An environment
# that has them is not touched again.
set -euo pipefail

die() {
	echo "clients: $*" >&2
	exit 2
}

[ $# -eq 1 ] || die "which folder? venv.sh DIR"
venv=$1
wanted=$(dirname "$0")/requirements.txt
if cmp -s "$wanted" "$venv/requirements.txt" && "$venv/bin/python" -c '' 2>/dev/null; then
	echo "clients: $venv (kept)"
	exit 0
fi

command -v python3 >/dev/null || die "python3 is missing: .ci/setup clients installs it"
echo "clients: installing $(grep -c '==' "$wanted") packages into $venv"
rm -rf "$venv"
mkdir -p "$(dirname "$venv")"
python3 -m venv "$venv" || die "python3 -m venv failed: .ci/setup clients installs what it needs"
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-input --only-binary :all: --no-deps --requirement "$wanted" ||
	"$venv/bin/pip" install --quiet --disable-pip-version-check --no-input --no-deps --requirement "$wanted"
"$venv/bin/pip" check --disable-pip-version-check >/dev/null || die "the packages do not fit together"
# written last: it says that the environment is complete
cp "$wanted" "$venv/requirements.txt"
