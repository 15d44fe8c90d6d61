#!/usr/bin/env bash
# Sees to what 'make check-book' needs: Node 20 or newer, npm, and a browser of Chromium's family, which is installed from
# Debian's packages where root may. Prints the browser's path and nothing else; names whatever is missing and fails.
set -euo pipefail

find_browser() {
    local name
    for name in ${CHROMIUM:+"$CHROMIUM"} chromium chromium-browser google-chrome; do
        if command -v "$name"; then return; fi
        if [ "$name" = "${CHROMIUM:-}" ]; then return 1; fi # the one that was asked for, or none
    done
    return 1
}

install_browser() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then return 1; fi
    export DEBIAN_FRONTEND=noninteractive
    for attempt in 1 2; do
        echo "check-book needs a browser: installing Debian's chromium (attempt $attempt of 2)" >&2
        if apt-get update -qq >&2 && apt-get install -y -qq chromium >&2; then return; fi
    done
    return 1
}

missing=()
node_version="$(node --version 2>/dev/null || echo none)"
major="${node_version#v}"
major="${major%%.*}"
if ! [[ "$major" =~ ^[0-9]+$ ]] || [ "$major" -lt 20 ]; then missing+=("Node 20 or newer (found: $node_version)"); fi
if ! command -v npm >/dev/null; then missing+=("npm"); fi
browser="$(find_browser || true)"
if [ -z "$browser" ] && [ -z "${CHROMIUM:-}" ] && install_browser; then browser="$(find_browser || true)"; fi
if [ -z "$browser" ]; then
    if [ -n "${CHROMIUM:-}" ]; then
        missing+=("the browser that CHROMIUM names ($CHROMIUM)")
    else
        missing+=("Chromium (not installed; installing it takes root and apt-get, and a reachable package index)")
    fi
fi
if [ "${#missing[@]}" -gt 0 ]; then
    echo "check-book cannot run on this machine. Missing:" >&2
    printf '  %s\n' "${missing[@]}" >&2
    exit 1
fi
echo "$browser"
