#!/usr/bin/env bash
# Tries the engine on PostgreSQL on a Citus cluster: a coordinator and two workers on free ports of loopback, whose tables
# deploy/citus/distribute.sql distributes. The engine's own tests run on it; then two gateways, clients of two organizations
# that live on different workers, and kill -9 for every server and gateway in turn; `streamgate verify` has the last word.
#
# It needs PostgreSQL 15 or newer under /usr/lib/postgresql, and the extension in that server's folders. Debian has no
# package of Citus. Either install that of its makers (https://docs.citusdata.com/en/stable/installation/multi_node.html),
# or build it: https://github.com/citusdata/citus at a release for that PostgreSQL (13.2 for 15 to 17), with
# postgresql-server-dev-15, flex, libcurl4-openssl-dev, liblz4-dev and libzstd-dev: ./configure && make install-extension.
# (13.2.2 does not compile against PostgreSQL 15.18 and newer as it is: `have_createdb_privilege` in
# src/include/pg_version_compat.h has to get another name, since the server has it itself by now.)
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! ls /usr/share/postgresql/*/extension/citus.control >/dev/null 2>&1; then
    echo "the extension citus is not installed under /usr/share/postgresql: this file says where to get it" >&2
    exit 1
fi
export STREAMGATE_TEST_CITUS=1
# Each test makes a database on three servers, so more than a few at once get in each other's way.
cargo test --lib store::postgres -- --test-threads=3
cargo test --test it_postgres -- --test-threads=1 --include-ignored whatever_of_a_cluster
