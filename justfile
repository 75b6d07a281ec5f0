export PATH := justfile_directory() / ".venv/bin" + ":" + env("PATH")
server := env("WS_SERVER_URL", "https://localhost:8443")
data_dir := env("WSCHAT_DATA_DIR", env("XDG_DATA_HOME", env("HOME", "") / ".local/share") / "wschat")

# The recipes
default:
    @just --list

# Make the environment (./just has done it by now)
setup:
    @echo "Ready: ./just demo, ./just test, ./just serve"

# A server, alice, bob, charlie and the bot, talking
[no-exit-message]
demo:
    @python -m scripts.demo

# The server; options as in `twistd wschat --help`
[no-exit-message]
[positional-arguments]
serve *OPTIONS:
    @exec twistd --nodaemon --pidfile= --reactor=uvloop wschat "$@"

# Chat as USER with the server that `serve` runs, with CLIENT: simple-client, or advanced-client
[no-exit-message]
chat USER CLIENT="simple-client":
    @WS_SERVER_URL={{ quote(server) }} WS_USER_ID={{ quote(USER) }} \
        SSL_CERT_FILE={{ quote(data_dir / "certificate.pem") }} exec {{ quote(CLIENT) }}

# All tests, or those of a module: ./just test tests.test_wire
test *TESTS="tests":
    trial {{ TESTS }}

# Style
lint:
    ruff check .
    ruff format --check .

# Types
types:
    mypy

# Known faults of the packages that are used, and what bandit sees in ours
audit:
    @python -m scripts.audit

# What CI runs
check: lint types test audit

# Mend the style
fmt:
    ruff check --fix .
    ruff format .

# The tests, with the branches that they took
coverage:
    coverage erase
    coverage run -m twisted.trial tests
    coverage combine --quiet
    python -m scripts.check_coverage

# Faults on purpose, and a count of what was lost: ./just chaos --minutes 10
[no-exit-message]
[positional-arguments]
chaos *OPTIONS:
    @exec python -m scripts.chaos "$@"

# Inputs that nobody would send: ./just fuzz --target http --inputs 1000000 --minutes 20
[no-exit-message]
[positional-arguments]
fuzz *OPTIONS:
    @exec python -m scripts.fuzz "$@"

# The screens of docs/advanced-client.md, made again
record:
    @python -m scripts.record_advanced_client

# Remove what was made
clean:
    rm -rf .venv .coverage .coverage.* .hypothesis .mypy_cache .ruff_cache _trial_temp* build dist *.egg-info
    find . -name __pycache__ -type d -prune -exec rm -rf {} +
    find . -name dropin.cache -delete

# A self-signed certificate and its key, for --certificate and --private-key
gen-certs DIRECTORY="certs":
    @python -m scripts.gen_certs {{ quote(DIRECTORY) }}

# Build the images
docker-build:
    docker compose build

# Start everything
docker-compose-up:
    docker compose up -d

# Start the server and some clients: ./just docker-compose-up-selective "alice bob"
docker-compose-up-selective CLIENTS:
    docker compose up -d websocket-server $(printf 'client-%s ' {{ CLIENTS }})

# Stop everything
docker-compose-down:
    docker compose down

# What the clients print
docker-compose-logs-clients:
    docker compose logs -f client-alice client-bob client-charlie message-bot

# A client's terminal; Ctrl+P Ctrl+Q leaves it running
docker-attach-client CLIENT:
    docker attach ws-client-{{ CLIENT }}

# Who is there
docker-active-users:
    @docker exec ws-server wget -qO- http://localhost/active-users
