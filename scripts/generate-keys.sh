#!/bin/sh
# Makes the secrets of docker-compose.yml, in .env: scripts/generate-keys.sh [USER ...]
#
# That is JWT_SECRET, and a private key for each USER (alice, bob, charlie and bot).  What
# .env has already stays as it is.  Prints the names of what was made, never a secret.
set -eu
umask 077
cd "$(dirname "$0")/.."

fail() {
    echo "generate-keys: $1" >&2
    exit 1
}

# `openssl` as every system with TLS has it; its DER ends with the 32 bytes of a key.
command -v openssl >/dev/null || fail "openssl is needed"

# A private key as WS_PRIVATE_KEY takes it: base64 of the Ed25519 seed and the public key.
private_key() {
    openssl genpkey -algorithm ed25519 -outform DER -out "$work/key"
    openssl pkey -inform DER -in "$work/key" -pubout -outform DER -out "$work/public"
    { tail -c 32 "$work/key"; tail -c 32 "$work/public"; } | openssl base64 -A
}

# Gives NAME in .env the value that COMMAND prints, unless it has one.
provide() {
    name=$1
    shift
    if grep -q "^$name=." "$work/env"; then
        echo "$name: kept"
        return
    fi
    value=$("$@")
    [ ${#value} -ge 64 ] || fail "$name: could not be made"
    value=$value awk -v name="$name" '
        index($0, name "=") == 1 { $0 = name "=" ENVIRON["value"]; seen = 1 }
        { print }
        END { if (!seen) print name "=" ENVIRON["value"] }
    ' "$work/env" >"$work/new"
    mv "$work/new" "$work/env"
    echo "$name: made"
}

[ $# -gt 0 ] || set -- alice bob charlie bot
work=$(mktemp -d .env.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
if [ -e .env ]; then cat .env; else cat .env.example; fi >"$work/env"

provide JWT_SECRET openssl rand -hex 32
for user in "$@"; do
    case $user in
    *[!A-Za-z0-9._-]* | '') fail "'$user' is no user id" ;;
    esac
    provide "$(printf %s "$user" | tr 'a-z.-' 'A-Z__')_PRIVATE_KEY" private_key
done
mv "$work/env" .env
echo "They are in .env, for containers that are yet to be made.  A user who is registered with"
echo "another key stays so: \`docker compose down -v\` forgets all users, and their messages."
