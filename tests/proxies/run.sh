#!/usr/bin/env bash
# Sends the odd requests of the input catalogue through nginx and haproxy, and prints what came of each. Both are started
# on free ports of loopback, with a configuration in a folder that goes away. On Debian: apt-get install nginx-light haproxy
set -euo pipefail
cd "$(dirname "$0")/../.."
exec cargo test --test it -- --ignored --nocapture proxies_and_the_gateway
