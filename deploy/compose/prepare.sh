#!/bin/sh
# Makes what compose.yaml needs and what must not be in version control: passwords, a key, and the configuration with the
# key's hash. Everything goes into `generated/` beside this script. It is made once: where it is there already, nothing
# changes, since the database and NATS keep the passwords that they were first started with.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cd "$here"
if [ -e generated ]; then
    echo "generated/ is there already. To begin anew, remove it, and the volumes with it:" >&2
    echo "  docker compose --file $here/compose.yaml down --volumes && rm -r $here/generated" >&2
    exit 1
fi

# 256 random bits, in letters, digits, `-` and `_`.
random() {
    head -c 32 /dev/urandom | base64 | tr -d '=\n' | tr '+/' '-_'
}

umask 077
made=$(mktemp -d "$here/generated.XXXXXX")
trap 'rm -rf "$made"' EXIT
database="d$(random)" nats="n$(random)" key="sg_$(random)"

echo "POSTGRES_PASSWORD=$database" >"$made/database.env"
echo "NATS_PASSWORD=$nats" >"$made/nats.env"
cat >"$made/gateway.env" <<END
STREAMGATE_DATABASE_URL=postgres://streamgate:$database@database:5432/streamgate
NATS_PASSWORD=$nats
END
echo "$key" >"$made/administrator.key"

mkdir -p "$made/config/organizations"
cp streamgate.toml "$made/config/streamgate.toml"
cat >>"$made/config/streamgate.toml" <<END

# Made by prepare.sh, for trying things out. Narrower keys: \`streamgate keys create\`.
[[api_keys]]
name = "administrator"
sha256 = "$(printf %s "$key" | sha256sum | cut -d ' ' -f 1)"
permissions = ["records.write", "records.read", "work.handle", "admin"]
organizations = "*"
END
# The example, with its records on the way into the stream.
sed 's/^#routing_queue = "pull"$/routing_queue = "stream"/' ../../config/organizations/contoso.toml \
    >"$made/config/organizations/contoso.toml"
# The gateways run as another user, and this folder holds nothing secret.
chmod -R a+rX "$made/config"

mv "$made" generated
trap - EXIT
# The folder itself stays closed to others: it is mounted by its parts.
echo "made in $here/generated; the key of the administrator is in administrator.key"
