#!/bin/sh
# Leases one work item, shows it, and completes it.
#
#   work-item.sh
set -eu
. "$(dirname "$0")/call.sh"

leased=$(call POST /work-items/lease "{\"organizationId\":\"$organization\",\"max\":1}")
printf '%s\n' "$leased"
found=$(printf '%s\n' "$leased" | sed -n 's/^{"value":\[{"id":"\([^"]*\)","leaseToken":"\([^"]*\)".*/\1 \2/p')
if [ -z "$found" ]; then
    echo "Nothing is due. Hand over a record first, with route-record.sh." >&2
    exit 1
fi
call POST "/work-items/${found% *}/complete" "{\"leaseToken\":\"${found#* }\"}"
