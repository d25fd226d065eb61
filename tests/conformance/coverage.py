#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks tests/conformance/table.txt and makes docs/conformance.md of it.

coverage.py SOURCE_DIR           prints the table; fails when a row has no test, names one that
                                 does not exist, is missing, or docs/conformance.md is out of date
coverage.py SOURCE_DIR --write   writes docs/conformance.md
"""
import fnmatch
import pathlib
import re
import sys

REQUIRED = [f"R1.{n}" for n in range(1, 16)] + ["R4.1", "R4.2", "R4.3", "R7.4", "R7.5"]
REQUIRED += ["race: " + name for name in (
    "a second completion", "cancel twice", "cancel between dequeue and fd hand-over",
    "consumer closes its socket between dequeue and hand-over",
    "submit's error path racing cancel", "completion of nothing when the queue was empty",
    "a reference taken after publishing",
    "a leaked fd when the reply could not be built or sent", "drain racing cancel",
    "drain with its list swapped so that nothing was drained",
    "errno sign flipped on the way", "an unbounded status",
    "a forged DONE from an unprivileged process", "parse failure reported as success",
    "a missing peername dereferenced", "timeout reported as EACCES",
    "a received fd whose close blocks", "SCM_RIGHTS truncated because fds ran out",
    "a client that never reads its replies",
    "reporting success while the worker still holds the socket")]


def read_table(path):
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("|")]
        if len(parts) != 3:
            raise SystemExit(f"{path}:{number}: not ROW | BEHAVIOUR | TESTS")
        tests = [test.strip() for test in parts[2].split(",") if test.strip()]
        rows.append((number, parts[0], parts[1], tests))
    return rows


def known_tests(root):
    tests = {}
    for source in sorted((root / "tests").rglob("*.cpp")):
        for suite, name in re.findall(r"^TEST(?:_F|_P)?\(\s*(\w+)\s*,\s*(\w+)\s*\)",
                                      source.read_text(), re.MULTILINE):
            tests[f"{suite}.{name}"] = source.relative_to(root)
    for source in sorted((root / "tests").rglob("*.cmake")):
        for name in re.findall(r"add_test\(NAME\s+([\w.]+)", source.read_text()):
            tests[f"ctest:{name}"] = source.relative_to(root)
    return tests


def document(rows, tests):
    lines = ["# Conformance: every behaviour of the service and its tests", "",
             "Generated from tests/conformance/table.txt by tests/conformance/coverage.py; "
             "`ctest -R conformance_table` fails when a row has no test.", "",
             "| row | behaviour | tests |", "|---|---|---|"]
    for _, row, behaviour, named in rows:
        cells = []
        for name in named:
            count = len(fnmatch.filter(tests, name))
            cells.append(f"`{name}`" + (f" ({count})" if "*" in name else ""))
        lines.append(f"| {row} | {behaviour} | {'<br>'.join(cells)} |")
    return "\n".join(lines) + "\n"


def main():
    root = pathlib.Path(sys.argv[1])
    table = root / "tests/conformance/table.txt"
    docs = root / "docs/conformance.md"
    rows = read_table(table)
    tests = known_tests(root)
    text = document(rows, tests)
    if "--write" in sys.argv[2:]:
        docs.write_text(text)
        return 0
    problems = []
    for number, row, _, named in rows:
        if not named:
            problems.append(f"{table}:{number}: {row} has no test")
        for name in named:
            if not fnmatch.filter(tests, name):
                problems.append(f"{table}:{number}: {row} names {name}, which does not exist")
    present = {row for _, row, _, _ in rows}
    problems += [f"{table}: no row {row}" for row in REQUIRED if row not in present]
    if not docs.exists() or docs.read_text() != text:
        problems.append(f"{docs}: out of date; run tests/conformance/coverage.py {root} --write")
    for _, row, behaviour, named in rows:
        print(f"{row:<6} {behaviour}\n       " + "\n       ".join(named))
    print(f"{len(rows)} behaviours in {len(present)} rows, "
          f"{sum(len(named) for _, _, _, named in rows)} references to tests")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
