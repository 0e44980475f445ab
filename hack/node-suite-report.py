#!/usr/bin/env python3
"""Prints what became of each spec of a node suite's run: node-suite-report.py JUNIT.xml

Specs that the filters left out are not counted. Exit code 1 if any failed, or none ran.
"""

import sys
import xml.etree.ElementTree as tree


def first_line(text):
    """The line that says what went wrong: the rest is a stack, or the whole state of a pod."""
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return " | ".join(lines[:3])[:400]


def main():
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    results = []
    for case in tree.parse(sys.argv[1]).iter("testcase"):
        name = case.get("name")
        status = case.get("status")
        skip = case.find("skipped")
        problem = case.find("failure") if case.find("failure") is not None else case.find("error")
        # What a filter leaves out is skipped without a reason.
        if skip is not None and (skip.get("message") or "skipped") == "skipped":
            continue
        if name.startswith("[") and not name.startswith("[It]") and problem is None:
            continue
        if skip is not None:
            results.append(("skipped", name, skip.get("message")))
        elif problem is not None or status not in ("passed", None):
            text = (problem.get("message") or problem.text) if problem is not None else status
            results.append(("failed", name, first_line(text)))
        else:
            results.append(("passed", name, ""))
    for result, name, why in sorted(results):
        counts[result] += 1
        print(f"{result:8}{name.removeprefix('[It] ')}" + (f": {why}" if why else ""))
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
