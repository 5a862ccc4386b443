#!/bin/sh
# Installs what the tests use besides Go. As root on Debian it installs what is
# missing; elsewhere it says what is missing, and the tests that need it say
# that they were skipped (or fail, with ACQUIRER_TEST_REQUIRE=1, as in CI).
set -eu

missing=""
want() { # package, program to look for
	for p in $2; do
		if command -v "$p" >/dev/null 2>&1 || [ -x "$p" ]; then return 0; fi
	done
	missing="$missing $1"
}
postgres=$(ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | tail -n 1 || true)
want postgresql "postgres ${postgres:-/nonexistent}"
want chromium "chromium chromium-browser google-chrome"
want prometheus "prometheus"
want jbigkit-bin "jbgtopbm"
want tshark "tshark"
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing:$missing"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $missing >/dev/null
	exit 0
fi
echo "not installed:$missing"
echo "The tests that need them are skipped and say so. On Debian: sudo apt-get install$missing"
