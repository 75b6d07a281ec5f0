"""docker-compose.yml, its images and its secrets: what can be read off without an engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from wschat import config
from wschat.client.settings import Settings, config_home

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text("utf-8")

JUSTFILE = (ROOT / "justfile").read_text("utf-8")

#: The containers of those that run, and who their users are.
CONTAINERS = {
    "websocket-server": "ws-server",
    "client-alice": "ws-client-alice",
    "client-bob": "ws-client-bob",
    "client-charlie": "ws-client-charlie",
    "message-bot": "ws-message-bot",
}
USERS = {
    "client-alice": ("alice", "Alice"),
    "client-bob": ("bob", "Bob"),
    "client-charlie": ("charlie", "Charlie"),
    "message-bot": ("bot", "Message Bot"),
}


def stage(name: str) -> str:
    """What the Dockerfile does for one of its images, after what that is made from."""
    _, _, rest = DOCKERFILE.partition(f" AS {name}\n")
    return re.sub(r"\\\n *", "", rest.partition("\nFROM ")[0])


def variables(text: str) -> dict[str, str]:
    """The lines of an environment file."""
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))


class ServicesTests(SynchronousTestCase):
    """Who there is, and what each is told."""

    def test_names(self) -> None:
        """The services and containers have the names that people type."""
        named = {name: s["container_name"] for name, s in SERVICES.items() if "container_name" in s}
        self.assertEqual(named, CONTAINERS)
        self.assertEqual(set(SERVICES), {*CONTAINERS, "client-image"})

    def test_network(self) -> None:
        """All are in genericwsserver_wsnet, and in no other network."""
        self.assertEqual(COMPOSE["name"], "genericwsserver")
        self.assertEqual(list(COMPOSE["networks"]), ["wsnet"])
        network = COMPOSE["networks"]["wsnet"]
        self.assertEqual(network["driver"], "bridge")
        self.assertEqual(network["ipam"]["config"], [{"subnet": "172.25.0.0/16"}])
        for name, service in SERVICES.items():
            self.assertEqual(service["networks"], ["wsnet"], name)

    def test_images(self) -> None:
        """Each image is built by one service alone, from a target that there is."""
        built = [(s["image"], s["build"]["target"]) for s in SERVICES.values() if "build" in s]
        self.assertEqual(
            sorted(built),
            [("websocket-client:latest", "client"), ("websocket-server:latest", "server")],
        )
        for _, target in built:
            self.assertIn(f" AS {target}\n", DOCKERFILE)
        for name in USERS:
            self.assertEqual(SERVICES[name]["image"], "websocket-client:latest")
        for name, service in SERVICES.items():
            self.assertEqual(service["pull_policy"], "never", f"{name}: it is in no registry")

    def test_order(self) -> None:
        """A client starts when its image is built and the server is healthy."""
        for name in USERS:
            conditions = {k: v["condition"] for k, v in SERVICES[name]["depends_on"].items()}
            expected = {
                "websocket-server": "service_healthy",
                "client-image": "service_completed_successfully",
            }
            self.assertEqual(conditions, expected)

    def test_clients(self) -> None:
        """Each client is somebody, by settings that the client itself takes."""
        shared = variables((ROOT / "docker" / "client.env").read_text("utf-8"))
        for name, who in USERS.items():
            service = SERVICES[name]
            self.assertEqual(service["env_file"], "docker/client.env")
            environ = {"HOME": "/home/wschat", **shared, **service["environment"]}
            environ["WS_PRIVATE_KEY"] = ""
            settings = Settings.from_environ(environ)
            self.assertEqual((settings.user_id, settings.username), who)
            self.assertEqual((settings.host, settings.port), ("websocket-server", 443))
            self.assertTrue(settings.insecure_tls)

    def test_programs(self) -> None:
        """Alice and bob have the image's own program; charlie and the bot have theirs."""
        commands = {name: SERVICES[name].get("command") for name in USERS}
        expected = {
            "client-alice": None,
            "client-bob": None,
            "client-charlie": ["./advanced-client"],
            "message-bot": ["./message-bot"],
        }
        self.assertEqual(commands, expected)
        self.assertIn('CMD ["./simple-client"]', stage("client"))
        self.assertEqual(SERVICES["client-charlie"]["environment"]["TERM"], "dumb")

    def test_terminals(self) -> None:
        """`docker attach` finds a terminal, and /quit is the end of it."""
        for name in USERS:
            service = SERVICES[name]
            self.assertTrue(service["stdin_open"] and service["tty"], name)
        for name in ("client-alice", "client-bob", "client-charlie"):
            self.assertEqual(SERVICES[name]["restart"], "on-failure")
        for name in ("websocket-server", "message-bot"):
            self.assertEqual(SERVICES[name]["restart"], "unless-stopped")

    def test_volumes(self) -> None:
        """The server's data, and each client's keys, are in a volume that nobody else has."""
        mounted = [volume for s in SERVICES.values() for volume in s.get("volumes", ())]
        names = [volume.partition(":")[0] for volume in mounted]
        self.assertEqual(sorted(names), sorted(COMPOSE["volumes"]))
        self.assertEqual(len(set(names)), len(names))
        self.assertEqual(SERVICES["websocket-server"]["volumes"], ["server-data:/data"])
        keys = config_home({"XDG_CONFIG_HOME": "/home/wschat/.config"}).parent
        for name in USERS:
            (volume,) = SERVICES[name]["volumes"]
            self.assertEqual(volume.partition(":")[2], str(keys))


class ConfinementTests(SynchronousTestCase):
    """What the containers may not do."""

    def test_confined(self) -> None:
        """None writes outside its volume and /tmp, has capabilities or gains any, or grows."""
        for name, service in SERVICES.items():
            self.assertIs(service["read_only"], True, name)
            self.assertEqual(service["tmpfs"], ["/tmp"], name)
            self.assertEqual(service["cap_drop"], ["ALL"], name)
            self.assertNotIn("cap_add", service, name)
            self.assertEqual(service["security_opt"], ["no-new-privileges:true"], name)
            self.assertLessEqual(service["pids_limit"], 100, name)
            self.assertEqual(set(service["logging"]["options"]), {"max-size", "max-file"}, name)
        for name in CONTAINERS:
            self.assertRegex(SERVICES[name]["mem_limit"], r"\A\d+[mg]\Z")

    def test_ports(self) -> None:
        """Only the server is published, and to this machine unless somebody says otherwise."""
        published = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}
        expected = [
            "${BIND_ADDRESS:-127.0.0.1}:${HTTPS_PORT:-443}:443",
            "${BIND_ADDRESS:-127.0.0.1}:${HTTP_PORT:-80}:80",
        ]
        self.assertEqual(published, {"websocket-server": expected})
        sysctls = SERVICES["websocket-server"]["sysctls"]
        self.assertEqual(sysctls, {"net.ipv4.ip_unprivileged_port_start": 0})

    def test_no_secrets(self) -> None:
        """No secret is in the file or in the example: all are empty until somebody sets them."""
        given = [s["environment"] for s in SERVICES.values() if "environment" in s]
        secrets = [
            (name, value)
            for environment in given
            for name, value in environment.items()
            if "SECRET" in name or "PRIVATE_KEY" in name
        ]
        self.assertEqual(len(secrets), 5)
        for _, value in secrets:
            self.assertRegex(value, r"\A\$\{[A-Z_]+:-\}\Z")
        self.assertIsNone(config.load({}, {"HOME": "/root", "JWT_SECRET": ""}).jwt_secret)

    def test_example(self) -> None:
        """.env.example has every variable that the file reads, without a value."""
        text = (ROOT / "docker-compose.yml").read_text("utf-8")
        example = variables((ROOT / ".env.example").read_text("utf-8"))
        self.assertEqual(set(re.findall(r"\$\{([A-Z_]+)", text)), set(example))
        self.assertEqual(set(example.values()), {""})


class ImagesTests(SynchronousTestCase):
    """docker/Dockerfile."""

    def test_base(self) -> None:
        """Both images are made from a slim one whose version is pinned, and from nothing else."""
        self.assertRegex(DOCKERFILE, r"(?m)^ARG PYTHON=3\.\d+\.\d+-slim-[a-z]+$")
        outside = re.findall(r"^FROM (\S+:\S+)", DOCKERFILE, re.MULTILINE)
        self.assertEqual(outside, ["python:${PYTHON}"])

    def test_signals(self) -> None:
        """tini is the first process of both."""
        self.assertIn('ENTRYPOINT ["tini", "-g", "-e", "143", "--"]', stage("base"))
        self.assertEqual(DOCKERFILE.count("ENTRYPOINT"), 1)

    def test_user(self) -> None:
        """Neither runs as root."""
        for name in ("server", "client"):
            self.assertEqual(re.findall(r"^USER (.*)$", stage(name), re.M), ["wschat"], name)

    def test_server(self) -> None:
        """The server listens where compose publishes it, and keeps its data in its volume."""
        assignments = re.findall(r"([A-Z_]+)=(\S+)", stage("server").partition("ENV ")[2])
        settings = config.load({}, {"HOME": "/root", **dict(assignments)})
        self.assertEqual((settings.listen, settings.http), (":443", ":80"))
        self.assertEqual(str(settings.data_dir), "/data")
        self.assertLess(settings.drain_seconds, 10, "`docker stop` waits no longer")
        self.assertIn("VOLUME /data", stage("server"))
        for option in ("--nodaemon", "--reactor=uvloop", "--log-format=json"):
            self.assertIn(f'"{option}"', stage("server"))

    def test_programs(self) -> None:
        """The three programs are in the client's working directory."""
        links = re.search(r"ln -s (.*?) \. ", stage("client"))
        assert links is not None
        programs = [Path(target).name for target in links[1].split()]
        self.assertEqual(programs, ["simple-client", "advanced-client", "message-bot"])
        for program in programs:
            module = program.replace("-", "_")
            self.assertTrue((ROOT / "clients" / f"{module}.py").is_file(), module)

    def test_server_health(self) -> None:
        """The server is asked by wget, which only it has."""
        self.assertRegex(stage("server"), r"HEALTHCHECK .*wget.*http://localhost/health")
        self.assertNotIn("wget", stage("base") + stage("client"))

    def test_client_health(self) -> None:
        """A client is healthy while it has a connection, of IPv4 or IPv6, and not otherwise."""
        check = re.search(r'CMD \["grep", "-qE", "(.*?)", (.*?)\]', stage("client"))
        assert check is not None
        self.assertEqual(check[2], '"/proc/net/tcp", "/proc/net/tcp6"')
        connected = "   0: 0C0019AC:AA56 0A0019AC:01BB 01 00000000:00000000 02:000003C5 00000000"
        over = connected.replace(" 01 ", " 06 ")
        listening = "   1: 0B00007F:9C5B 00000000:0000 0A 00000000:00000000 00:00000000 00000000"
        heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt"
        address = "0000000000000000FFFF00000A0019AC"
        connected6 = f"  10: {address}:AA56 {address}:01BB 01 00000000:00000000 00:00000000"
        for line, healthy in (
            (connected, True),
            (connected6, True),
            (over, False),
            (listening, False),
            (heading, False),
        ):
            self.assertEqual(re.search(check[1], line) is not None, healthy, line)

    def test_context(self) -> None:
        """The builder is given what it copies, and nothing that is not named."""
        ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        self.assertEqual(ignored[0], "*")
        given = {line[1:] for line in ignored if line.startswith("!")}
        copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
        self.assertEqual({name for line in copied for name in line.split()}, given)


class DocsTests(SynchronousTestCase):
    """docs/containers.md and the file say the same."""

    text = (ROOT / "docs" / "containers.md").read_text("utf-8")

    def test_services(self) -> None:
        """Its table has the services, containers and users that there are."""
        rows = re.findall(r"^\| `([a-z-]+)` \| `(ws-[a-z-]+)` \| .* \| ?(\w*) \|$", self.text, re.M)
        users = {name: user for name, (user, _) in USERS.items()}
        expected = [(name, c, users.get(name, "")) for name, c in CONTAINERS.items()]
        self.assertEqual(rows, expected)

    def test_variables(self) -> None:
        """Its table has the variables of .env, with the values that they have when empty."""
        section = self.text.partition("\n## Secrets\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| (`[A-Z_`, ]+`) \| (.*?) \|", section, re.MULTILINE)
        defaults = {name: text for names, text in rows for name in re.findall(r"[A-Z_]+", names)}
        self.assertEqual(set(defaults), set(variables((ROOT / ".env.example").read_text("utf-8"))))
        compose = (ROOT / "docker-compose.yml").read_text("utf-8")
        for name, value in re.findall(r"\$\{([A-Z_]+):-([^}]+)\}", compose):
            self.assertIn(value, defaults[name])

    def test_names_in_commands(self) -> None:
        """The services, containers and recipes that its commands name are there."""
        blocks = re.findall(r"```sh\n(.*?)```", self.text, re.DOTALL)
        commands = "\n".join([*blocks, *re.findall(r"`((?:docker|just) [^`]*)`", self.text)])
        containers = set(re.findall(r"\bws-[a-z-]+", commands))
        self.assertEqual(containers - set(CONTAINERS.values()), set())
        lines = "\n".join(re.findall(r"docker compose .*", commands))
        services = set(re.findall(r"\b(?:client|message|websocket)-[a-z]+", lines))
        self.assertEqual(services - set(SERVICES), {"client-david"})
        recipes = set(re.findall(r"^([a-z-]+)(?: .*)?:$", JUSTFILE, re.MULTILINE))
        named = set(re.findall(r"\bjust ([a-z-]+)", commands))
        self.assertGreater(len(named), 5)
        self.assertEqual(named - recipes, set())

    def test_david(self) -> None:
        """Its new client is one, as it stands, and has what the others have."""
        (block,) = re.findall(r"```yaml\n(  client-david:.*?)```", self.text, re.DOTALL)
        text = (ROOT / "docker-compose.yml").read_text("utf-8")
        compose = yaml.safe_load(text.replace("\nnetworks:\n", f"\n{block}\nnetworks:\n"))
        david, bob = compose["services"]["client-david"], compose["services"]["client-bob"]
        self.assertEqual(david["environment"], ["WS_USER_ID=david", "WS_USERNAME=David Wilson"])
        own = {"container_name", "environment", "volumes"}
        self.assertEqual(set(david), set(bob))
        for key in set(bob) - own:
            self.assertEqual(david[key], bob[key], key)
