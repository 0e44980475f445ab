#!/usr/bin/env python3
"""Tells what a run of critest showed, spec by spec.

    critest-report.py [--focused] [--handler] EXPECTED REPORT.json    results, one line each, and their number
    critest-report.py --patterns EXPECTED                 the expected skips as patterns for ginkgo

EXPECTED holds names of specs that are not run yet, under a [reason]. A spec that is skipped without
being named there has failed, and so has one that is named there but does not exist. With --focused
specs that were not selected are left out. With --handler critest itself has skipped what the
runtime of a handler says that it cannot do.
"""

import json
import re
import subprocess
import sys

PREFIX = "[k8s.io] "
# What critest says where Status does not name a feature.
LACKS = re.compile(r"does not implement recursive readonly mounts|which supports user namespaces")
HEADING = re.compile(r"\[(.*?)\](?: unless (.*))?")


def succeeds(command):
    """Whether a command of the list of expected skips ends well on this machine."""
    return subprocess.run(["sh", "-c", command], stderr=subprocess.DEVNULL, check=False).returncode == 0


def read_expected(path):
    """name -> reason."""
    expected, reason, runs = {}, None, False
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            heading = HEADING.fullmatch(line)
            if heading and not line.startswith(PREFIX):
                reason, unless = heading.groups()
                runs = unless is not None and succeeds(unless)
            elif runs:
                continue
            elif line and not line.startswith("#"):
                if reason is None:
                    sys.exit(f"{path}:{number}: a spec without a [reason] above it")
                expected[line] = reason
    return expected


def read_report(path):
    """(name, state, seconds, message) of every spec."""
    try:
        with open(path, encoding="utf-8") as file:
            suites = json.load(file)
    except (OSError, ValueError) as error:
        sys.exit(f"critest left no report: {error}")
    for suite in suites:
        for problem in suite.get("SpecialSuiteFailureReasons") or []:
            print(f"note: {problem}")
        for spec in suite["SpecReports"] or []:
            failure = spec.get("Failure") or {}
            message = " ".join((failure.get("Message") or "").split())
            name = " ".join((spec.get("ContainerHierarchyTexts") or []) + [spec["LeafNodeText"]])
            if spec["LeafNodeType"] == "It":
                yield name.removeprefix(PREFIX), spec["State"], spec["RunTime"] / 1e9, message
            elif spec["State"] not in ("passed", "skipped"):
                yield spec["LeafNodeType"], spec["State"], spec["RunTime"] / 1e9, message


def judge(expected, specs, focused, handler):
    """(state, line) of every spec; the state is passed, failed or skipped."""
    seen = set()
    for name, state, seconds, message in sorted(specs):
        seen.add(name)
        if state == "passed":
            yield "passed", f"{name} ({seconds:.1f} s)"
        elif state == "skipped" and name in expected:
            yield "skipped", f"{name}: {expected[name]}"
        elif state == "skipped" and not message:
            # Left out by a focus; without one, nothing may be.
            if not focused:
                yield "failed", f"{name}: was not run"
        elif state == "skipped" and handler and LACKS.search(message):
            yield "skipped", f"{name}: {message[:300]}"
        elif state == "skipped":
            yield "failed", f"{name}: skipped: {message[:300]}"
        else:
            yield "failed", f"{name}: {state}: {message[:600]}"
    for name in sorted(set(expected) - seen):
        yield "failed", f"{name}: is in the list of expected skips, but is no spec of this critest"


def main():
    arguments = sys.argv[1:]
    if arguments[:1] == ["--patterns"] and len(arguments) == 2:
        for name in read_expected(arguments[1]):
            print(re.escape(name).replace("\\ ", " ") + "$")
        return
    focused = arguments[:1] == ["--focused"]
    if focused:
        arguments = arguments[1:]
    handler = arguments[:1] == ["--handler"]
    if handler:
        arguments = arguments[1:]
    if len(arguments) != 2:
        sys.exit(__doc__)
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for state, line in judge(read_expected(arguments[0]), read_report(arguments[1]), focused, handler):
        counts[state] += 1
        print(f"{state:8}{line}")
    if counts["passed"] == 0:
        counts["failed"] += 1
        print("failed  no spec passed")
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    sys.exit(1 if counts["failed"] else 0)


if __name__ == "__main__":
    main()
