"""`./just audit`: what is known against the packages in use, and what bandit sees in ours."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import msgspec

#: What bandit reads: all that runs, and not the tests.
SOURCES: Final = ("wschat", "clients", "scripts", "twisted")


class Vulnerability(msgspec.Struct):
    """An advisory: its name, and the versions that are not concerned."""

    id: str
    fix_versions: list[str] = msgspec.field(default_factory=list)


class Package(msgspec.Struct):
    """A package as pip-audit tells of it; `skip_reason` when it could not be looked up."""

    name: str
    version: str = ""
    vulns: list[Vulnerability] = msgspec.field(default_factory=list)
    skip_reason: str = ""


class Report(msgspec.Struct):
    """The output of `pip-audit --format json`."""

    dependencies: list[Package]


def findings(report: Report) -> list[str]:
    """A line for every advisory."""
    return [
        f"{package.name} {package.version}: {found.id}, mended in "
        f"{', '.join(found.fix_versions) or 'no version yet'}"
        for package in report.dependencies
        for found in package.vulns
    ]


def summary(report: Report) -> str:
    """How many packages were looked up, and how many could not be."""
    unknown = [package for package in report.dependencies if package.skip_reason]
    known = len(report.dependencies) - len(unknown)
    if not unknown:
        return f"pip-audit: {known} packages looked up"
    return (
        f"pip-audit: {known} packages looked up; {len(unknown)} COULD NOT BE AUDITED, "
        f"the index has no advisories of them: {unknown[0].skip_reason}"
    )


def _packages() -> list[str]:
    command = ["pip-audit", "--local", "--skip-editable", "--progress-spinner", "off"]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, check=False)
    try:
        report = msgspec.json.decode(done.stdout, type=Report)
    except msgspec.DecodeError:  # without a network, say: that is no finding
        lines = done.stderr.decode("utf-8", "replace").splitlines() or ["it says nothing"]
        print(f"pip-audit: NOTHING COULD BE AUDITED: {lines[-1]}")
        return []
    print(summary(report))
    return findings(report)


def main() -> None:
    """Both; status 1 when either found something."""
    found = _packages()
    command = ["bandit", "--quiet", "--configfile", "pyproject.toml", "--recursive", *SOURCES]
    bandit = subprocess.run(command, check=False)
    print(f"bandit: {'nothing found' if bandit.returncode == 0 else 'see above'}", flush=True)
    if found or bandit.returncode:
        sys.exit("\n".join(found) or 1)


if __name__ == "__main__":
    main()
