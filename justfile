export PATH := justfile_directory() / ".venv/bin" + ":" + env("PATH")
server := env("WS_SERVER_URL", "https://localhost:8443")
confined := "--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --pids-limit 100 " + \
    "--log-driver json-file --log-opt max-size=10m --log-opt max-file=3"
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

# All tests, on all processors, or those of a module: ./just test tests.test_wire
test *TESTS="tests":
    trial {{ if TESTS == "tests" { "--jobs auto " } else { "" } }}{{ TESTS }}

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

# A crowd for a long time, and how memory and answers went: ./just soak --minutes 30 --clients 2000
[no-exit-message]
[positional-arguments]
soak *OPTIONS:
    @exec python -m scripts.soak "$@"

# Inputs that nobody would send: ./just fuzz --target http --inputs 1000000 --minutes 20
[no-exit-message]
[positional-arguments]
fuzz *OPTIONS:
    @exec python -m scripts.fuzz "$@"

# The screens of docs/advanced-client.md, made again
record:
    @python -m scripts.record_advanced_client

# The same work on wschat and its peers, side by side: ./just bench --quick
[no-exit-message]
[positional-arguments]
bench *OPTIONS:
    @exec python -m benchmarks "$@"

# Where the server's time goes under load: ./just profile direct
[no-exit-message]
[positional-arguments]
profile *OPTIONS:
    @exec python -m benchmarks.profiling "$@"

# Remove what was made
clean:
    rm -rf .venv .bench .coverage .coverage.* .hypothesis .mypy_cache .ruff_cache _trial_temp* build dist *.egg-info
    find . -name __pycache__ -type d -prune -exec rm -rf {} +
    find . -name dropin.cache -delete

# A self-signed certificate and its key, for --certificate and --private-key
gen-certs DIRECTORY="certs":
    @python -m scripts.gen_certs {{ quote(DIRECTORY) }}

# The images
docker-build:
    docker compose build

# Secrets for docker-compose.yml, in .env: ./just generate-keys, or for others too: ... david
generate-keys *USERS:
    @scripts/generate-keys.sh {{ USERS }}

# Start everything
docker-compose-up:
    docker compose up -d

# Start the server and some clients: ./just docker-compose-up-selective "alice bob"
docker-compose-up-selective CLIENTS:
    docker compose up -d websocket-server \
        $(printf 'client-%s\n' {{ CLIENTS }} | sed 's/^client-bot$/message-bot/')

# Stop everything; accounts, keys and messages are kept
docker-compose-down:
    docker compose down

# What the clients print
docker-compose-logs-clients:
    docker compose logs -f client-alice client-bob client-charlie message-bot

# A client's terminal; Ctrl+P Ctrl+Q leaves it running
docker-attach-client CLIENT:
    docker attach {{ quote(if CLIENT == "bot" { "ws-message-bot" } else { "ws-client-" + CLIENT }) }}

# Say something as a client: ./just docker-send-message alice "@bob Hello Bob!"
docker-send-message CLIENT LINE:
    @printf '%s\n' {{ quote(LINE) }} | docker exec -i \
        {{ quote(if CLIENT == "bot" { "ws-message-bot" } else { "ws-client-" + CLIENT }) }} ./simple-client

# Who is there
docker-active-users:
    @docker exec ws-server wget -qO- http://localhost/active-users

# The server alone, with the accounts and messages that it has in compose
docker-run-server:
    JWT_SECRET=$(sed -n 's/^JWT_SECRET=//p' .env 2>/dev/null) \
        docker run -d --rm --name ws-server {{ confined }} --memory 1g \
        --sysctl net.ipv4.ip_unprivileged_port_start=0 -e JWT_SECRET \
        -p 127.0.0.1:443:443 -p 127.0.0.1:80:80 \
        -v genericwsserver_server-data:/data websocket-server:latest

# A client of that server, or of compose's; USER is who they are in compose
docker-run-client USER="alice":
    WS_PRIVATE_KEY=$(sed -n {{ quote("s/^" + replace_regex(uppercase(USER), "[.-]", "_") + "_PRIVATE_KEY=//p") }} .env 2>/dev/null) \
        docker run -it --rm {{ confined }} --memory 512m --network container:ws-server \
        -e WS_SERVER_URL=https://localhost:443 -e INSECURE_TLS=true -e WS_PRIVATE_KEY \
        -e WS_USER_ID={{ quote(USER) }} -e WS_USERNAME={{ quote(USER) }} \
        -v {{ quote("genericwsserver_" + USER + "-keys:/home/wschat/.config") }} websocket-client:latest

# What the server says
docker-logs:
    docker logs -f ws-server

# Stop the server
docker-stop:
    docker stop ws-server
