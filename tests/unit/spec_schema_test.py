# SPDX-License-Identifier: Apache-2.0
"""spec/*.yaml against the kernel's own schema for such specs and the kernel's own reader of them.

usage: spec_schema_test.py SOURCE_DIR

Both come from tools/fetch-ynl-schema. Without them the test is skipped (exit code 77), but with
HS_CI=1 in the environment it fails.
"""
import glob
import importlib.util
import os
import re
import subprocess
import sys
import unittest

import jsonschema
import yaml

SKIPPED = 77
SOURCE = sys.argv.pop(1)
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")),
                     "handshaked", "ynl")
SPECS = sorted(glob.glob(SOURCE + "/spec/*.yaml"))


def load(path):
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def schema_of(spec):
    return f"{CACHE}/Documentation/netlink/{spec.get('protocol', 'genetlink')}.yaml"


def kernel_reader():
    """The module nlspec, wherever this kernel has it."""
    path = glob.glob(CACHE + "/tools/net/ynl/**/nlspec.py", recursive=True)[0]
    module_spec = importlib.util.spec_from_file_location("nlspec", path)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module


def read_family(path):
    return kernel_reader().SpecFamily(path, schema_path="")   # validated by a test of its own


def validate(spec):
    jsonschema.Draft7Validator(load(schema_of(spec))).validate(spec)


def documented_numbers():
    """{(family, attribute set): {attribute: number}} as ynlgen reads the specs (docs/protocol.md)."""
    tables = {}
    current = None
    with open(SOURCE + "/docs/protocol.md", encoding="utf-8") as file:
        for line in file:
            heading = re.match(r"### (\S+): attribute set (\S+)", line)
            row = re.match(r"\| ([a-z0-9-]+) \| (\d+) \|", line)
            if heading:
                current = tables.setdefault(heading.groups(), {})
            elif line.startswith("## "):
                current = None
            elif row and current is not None:
                current[row[1]] = int(row[2])
    return tables


class SpecSchema(unittest.TestCase):
    def test_all_specs_are_there(self):
        names = [os.path.basename(path) for path in SPECS]
        self.assertEqual(names, ["consumer.yaml", "control.yaml", "handshake.yaml", "nlctrl.yaml",
                                 "worker.yaml"])

    def test_every_spec_is_valid_against_the_kernels_schema(self):
        for path in SPECS:
            with self.subTest(path):
                validate(load(path))

    def test_the_schema_refuses_what_it_should(self):
        spec = load(SOURCE + "/spec/handshake.yaml")
        spec["colour"] = "red"
        with self.assertRaises(jsonschema.ValidationError):
            validate(spec)

    def test_the_kernels_reader_sees_the_numbers_that_ynlgen_sees(self):
        documented = documented_numbers()
        compared = 0
        for path in SPECS:
            family = read_family(path)
            for name, attribute_set in family.attr_sets.items():
                ours = documented[(family.name, name)]
                for attribute, definition in attribute_set.items():
                    with self.subTest(f"{path}: {name}.{attribute}"):
                        self.assertEqual(ours[attribute], definition.value)
                        compared += 1
        self.assertGreater(compared, 100)

    def test_the_handshake_spec_has_the_numbers_of_the_kernels(self):
        kernels = read_family(CACHE + "/Documentation/netlink/specs/handshake.yaml")
        ours = read_family(SOURCE + "/spec/handshake.yaml")
        for name, attribute_set in kernels.attr_sets.items():
            for attribute, definition in attribute_set.items():
                with self.subTest(f"{name}.{attribute}"):
                    self.assertEqual(ours.attr_sets[name][attribute].value, definition.value)
                    self.assertEqual(ours.attr_sets[name][attribute].type, definition.type)
        for name, operation in kernels.msgs.items():
            self.assertEqual(ours.msgs[name].value, operation.value)
        self.assertEqual(list(ours.mcast_groups), list(kernels.mcast_groups))

    def test_the_controllers_spec_has_the_numbers_of_the_kernels(self):
        kernels = read_family(CACHE + "/Documentation/netlink/specs/nlctrl.yaml")
        ours = read_family(SOURCE + "/spec/nlctrl.yaml")
        names = {"ctrl-attrs": "controller", "mcast-group-attrs": "group", "op-attrs": "operation",
                 "policy-attrs": "policy-description", "op-policy-attrs": "operation-policy"}
        # Linux 6.12's spec has these two the other way round; linux/netlink.h is right.
        wrong = {("policy-attrs", "mask"), ("policy-attrs", "pad")}
        for theirs, name in names.items():
            for attribute, definition in kernels.attr_sets[theirs].items():
                if (theirs, attribute) in wrong:
                    continue
                with self.subTest(f"{name}.{attribute}"):
                    self.assertEqual(ours.attr_sets[name][attribute].value, definition.value)
                    self.assertEqual(ours.attr_sets[name][attribute].type, definition.type)
        for name, operation in kernels.msgs.items():
            self.assertEqual(ours.msgs[name].req_value, operation.req_value)
            self.assertEqual(ours.msgs[name].rsp_value, operation.rsp_value)


if __name__ == "__main__":
    fetched = subprocess.run([SOURCE + "/tools/fetch-ynl-schema", CACHE], check=False,
                             capture_output=True, text=True)
    if fetched.returncode != 0:
        print("the kernel's schema is not to be had:", fetched.stderr.strip())
        sys.exit(1 if os.environ.get("HS_CI") == "1" else SKIPPED)
    unittest.main()
