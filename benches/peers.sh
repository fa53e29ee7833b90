#!/usr/bin/env bash
# Fetches real peers into a folder of your own: nothing is installed, root is not needed, the system's apt stays as it is.
#
#   benches/peers.sh DIR [package ...]
#
# Without packages: prometheus, victoria-metrics and prometheus-node-exporter. Programs land in DIR/usr/bin, downloads are
# kept in DIR, and a package that is already there is not fetched again. The packages come from Debian's unstable suite, and
# from the stable one where that fails, on whichever mirror this machine's apt already uses.
# PEERS_SUITES="stable" (say) asks for other suites.
set -euo pipefail

die() {
	echo "peers: $*" >&2
	exit 2
}

[ $# -ge 1 ] || die "which folder? peers.sh DIR [package ...]"
mkdir -p "$1"
root=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- prometheus victoria-metrics prometheus-node-exporter
read -r -a suites <<<"${PEERS_SUITES:-unstable stable}"

missing=()
for package in "$@"; do
	if [ -s "$root/versions/$package" ]; then
		echo "$package $(<"$root/versions/$package") (kept)"
	else
		missing+=("$package")
	fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

for tool in apt-get dpkg-deb; do
	command -v "$tool" >/dev/null || die "$tool is missing: this script needs a Debian, or unpack the programs into $root/usr/bin yourself"
done

# The mirror of the main archive, as apt itself names it; those of security updates and of other vendors end otherwise.
mirror=
# shellcheck disable=SC2016 # $(REPO_URI) is apt's own notation
while read -r uri; do
	case ${uri%/} in
	*/debian) mirror=$uri && break ;;
	esac
done < <(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 2>/dev/null)
[ -n "$mirror" ] || die "apt knows no Debian mirror on this machine"

signed=
for keyring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
	[ -e "$keyring" ] && signed="[signed-by=$keyring]" && break
done

# An apt of our own below $root, for one suite.
private_apt() {
	local suite=$1 home=$root/apt/$1
	shift
	mkdir -p "$home"/{state/lists/partial,cache/archives/partial,preferences.d}
	printf 'deb %s %s %s main\n' "$signed" "$mirror" "$suite" >"$home/sources.list"
	[ -e "$home/status" ] || : >"$home/status"
	apt-get -q=2 \
		-o "Dir::State=$home/state" -o "Dir::State::status=$home/status" -o "Dir::Cache=$home/cache" \
		-o "Dir::Etc::sourcelist=$home/sources.list" -o Dir::Etc::sourceparts=- \
		-o Dir::Etc::preferences=- -o "Dir::Etc::preferencesparts=$home/preferences.d" \
		-o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Sandbox::User="$(id -un)" "$@"
}

declare -A updated=()
fetch() {
	local suite=$1 package=$2 into=$root/debs/$1 deb
	if [ -z "${updated[$suite]-}" ]; then
		private_apt "$suite" update || return 1
		updated[$suite]=1
	fi
	mkdir -p "$into" "$root/versions"
	(cd "$into" && private_apt "$suite" download "$package") || return 1
	deb=$(find "$into" -name "${package}_*.deb" -printf '%T@ %p\n' | sort -rn | head -n 1 | cut -d' ' -f2-)
	[ -n "$deb" ] || return 1
	dpkg-deb -x "$deb" "$root" || return 1
	# written last: it says that the package is complete
	dpkg-deb -f "$deb" Version >"$root/versions/$package"
}

for package in "${missing[@]}"; do
	for suite in "${suites[@]}"; do
		if fetch "$suite" "$package"; then
			echo "$package $(<"$root/versions/$package") ($suite)"
			continue 2
		fi
		echo "peers: no $package from the $suite suite" >&2
	done
	die "no $package: tried the suites ${suites[*]}"
done
