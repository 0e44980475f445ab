#!/usr/bin/env python3
"""Prints what became of each spec of the node suite.

    node-suite-report.py JUNIT.xml              of one run, whatever it selected
    node-suite-report.py --features|--serial --expected FILE [--only REGEX] JUNIT.xml...
                                                of the runs for features, a table for each feature
    node-suite-report.py --runs --features|--serial [--only REGEX]
                                                which runs those are: name, feature gates, specs
    node-suite-report.py --patterns --expected FILE
                                                the specs that are not run, as one pattern

Features are those of node-suite-features.toml. FILE holds regular expressions of names of specs that
are not run, under a [reason]; with "[reason] unless COMMAND" they are run where COMMAND succeeds. What a
feature's pattern selects and what neither passed nor stands there has failed, and so has a line there
that is about no spec. Of one run, specs that the filters left out are not counted. Exit code 1 if any
failed, or none ran.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as tree

FEATURES = pathlib.Path(__file__).with_name("node-suite-features.toml")
HEADING = re.compile(r"\[(.*?)\](?: unless (.*))?")


def first_line(text):
    """The line that says what went wrong: the rest is a stack, or the whole state of a pod."""
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return " | ".join(lines[:3])[:400]


def read_results(path):
    """(name, state, why) of each spec; the state is passed, failed, skipped, or left out by a filter."""
    if not pathlib.Path(path).exists():
        sys.exit(f"the suite left no report at {path}")
    for case in tree.parse(path).iter("testcase"):
        name = case.get("name")
        status = case.get("status")
        skip = case.find("skipped")
        problem = case.find("failure") if case.find("failure") is not None else case.find("error")
        if name.startswith("[") and not name.startswith("[It]") and problem is None:
            continue
        name = name.removeprefix("[It] ")
        # What a filter leaves out is skipped without a reason.
        if skip is not None and (skip.get("message") or "skipped") == "skipped":
            yield name, "left out", ""
        elif skip is not None:
            yield name, "skipped", skip.get("message")
        elif problem is not None or status not in ("passed", None):
            text = (problem.get("message") or problem.text) if problem is not None else status
            yield name, "failed", first_line(text)
        else:
            yield name, "passed", ""


def succeeds(command):
    """Whether a command of the list of expected skips ends well on this machine."""
    return subprocess.run(["sh", "-c", command], stderr=subprocess.DEVNULL, check=False).returncode == 0


def read_expected(path):
    """(pattern, reason, whether it is run here nevertheless) of every line that is about specs."""
    expected, reason, runs = [], None, False
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            heading = HEADING.fullmatch(line)
            if not line or line.startswith("#"):
                continue
            if heading:
                reason, unless = heading.groups()
                runs = unless is not None and succeeds(unless)
            elif reason is None:
                sys.exit(f"{path}:{number}: a spec without a [reason] above it")
            else:
                expected.append((line, reason, runs))
    return expected


def read_features(arguments):
    """The chosen features in the file's order."""
    features = tomllib.loads(FEATURES.read_text(encoding="utf-8"))["feature"]
    chosen = [f for f in features if f.get("serial", False) == arguments.serial and re.search(arguments.only, f["name"])]
    return chosen or sys.exit(f"no feature of {FEATURES.name} is called {arguments.only}")


def runs(features):
    """The runs for these features: one for most, with all the feature gates that any needs."""
    by_run = {}
    for feature in features:
        gates, specs = by_run.setdefault(feature["name"] if feature.get("apart") else "most", (set(), []))
        gates.update(feature.get("gates", []))
        specs.append(feature["specs"])
    for number, (gates, specs) in enumerate(by_run.values(), 1):
        print(number, ",".join(f"{gate}=true" for gate in sorted(gates)), "|".join(specs), sep=";")


def judge(expected, results, pattern):
    """(state, name, why) of every spec that a feature's pattern selects."""
    for name, (state, why) in sorted(results.items()):
        if not re.search(pattern, name):
            continue
        reasons = [reason for line, reason, here in expected if not here and re.search(line, name)]
        if state == "passed":
            yield "passed", name, ""
        elif reasons and state == "left out":
            yield "skipped", name, reasons[0]
        elif state == "left out" and "[Flaky]" in name:
            yield "skipped", name, "flaky, says upstream"
        elif state == "left out":
            yield "failed", name, "was not run"
        else:
            yield "failed", name, ("skipped: " if state == "skipped" else "") + why


def report_features(arguments):
    """The table of all features; gives back how many specs each outcome has."""
    expected = read_expected(arguments.expected)
    results = {}
    for path in arguments.junit:
        for name, state, why in read_results(path):
            # Each run knows all specs, and leaves out those of the others.
            if results.get(name, ("left out", ""))[0] == "left out":
                results[name] = (state, why)
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for line, _, _ in expected:
        if not any(re.search(line, name) for name in results):
            print(f"failed  {line}: is in the list of specs that are not run, but matches none of this suite")
            counts["failed"] += 1
    summary = []
    for feature in read_features(arguments):
        own = {"passed": 0, "failed": 0, "skipped": 0}
        print(f"\n{feature['name']}")
        for state, name, why in judge(expected, results, feature["specs"]):
            own[state] += 1
            print(f"{state:8}{name}" + (f": {why}" if why else ""))
        summary.append((feature["name"], own))
        for state, count in own.items():
            counts[state] += count
    # How setting the node up failed, which is no spec's failure.
    for name, (state, why) in results.items():
        if state == "failed" and name.startswith("[") and not name.startswith("[sig-"):
            counts["failed"] += 1
            print(f"failed  {name}: {why}")
    print(f"\n{'feature':34}passed  failed  skipped")
    for name, own in summary:
        print(f"{name:34}{own['passed']:6}{own['failed']:8}{own['skipped']:9}")
    return counts


def report_run(path):
    """Every spec of one run."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for name, state, why in sorted(read_results(path), key=lambda result: (result[1], result[0])):
        if state != "left out":
            counts[state] += 1
            print(f"{state:8}{name}" + (f": {why}" if why else ""))
    return counts


def main():
    parser = argparse.ArgumentParser()
    for option in ("runs", "patterns", "features", "serial"):
        parser.add_argument(f"--{option}", action="store_true")
    parser.add_argument("--expected")
    parser.add_argument("--only", default="")
    parser.add_argument("junit", nargs="*")
    arguments = parser.parse_args()
    if arguments.patterns:
        print("|".join(line for line, _, here in read_expected(arguments.expected) if not here))
        return 0
    if arguments.runs:
        runs(read_features(arguments))
        return 0
    if not arguments.junit:
        sys.exit(__doc__)
    if arguments.features or arguments.serial:
        counts = report_features(arguments)
    else:
        counts = report_run(arguments.junit[0])
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
