# SPDX-License-Identifier: Apache-2.0
"""What ynlgen says to who calls it wrongly, and what it leaves behind then.

usage: ynlgen_cli_test.py YNLGEN SOURCE_DIR
"""
import os
import subprocess
import sys
import tempfile
import unittest

SOURCE = sys.argv.pop()
YNLGEN = sys.argv.pop()


def run(*arguments):
    return subprocess.run([YNLGEN, *arguments], check=False, capture_output=True, text=True)


class Ynlgen(unittest.TestCase):
    def refused(self, code, message, *arguments):
        result = run(*arguments)
        self.assertEqual(result.returncode, code)
        self.assertIn(message, result.stderr)

    def test_wrong_usage_shows_the_right_one(self):
        self.refused(2, "no spec given\nusage: ynlgen")
        self.refused(2, "--colour: no such option", "--colour", "a=b")
        self.refused(2, "--cpp: needs a value", "a=b", "--cpp")

    def test_a_file_that_cannot_be_read_is_named(self):
        self.refused(1, "open /missing.yaml: No such file", "a=/missing.yaml")
        self.refused(1, "/tmp: not a regular file", "a=/tmp")
        self.refused(1, "spec.yaml: expected NAMESPACE=SPEC", "spec.yaml")

    def test_a_directory_that_cannot_be_written_is_named(self):
        self.refused(1, "write /proc/nowhere/protocol/numbers.h", "--cpp", "/proc/nowhere",
                     f"kernel={SOURCE}/spec/handshake.yaml")

    def test_an_extension_before_its_base_is_refused(self):
        self.refused(1, "no spec kernel before it to extend",
                     f"worker:kernel={SOURCE}/spec/worker.yaml",
                     f"kernel={SOURCE}/spec/handshake.yaml")

    def test_a_refused_spec_leaves_no_file(self):
        with tempfile.TemporaryDirectory() as directory:
            spec = os.path.join(directory, "bad.yaml")
            with open(spec, "w", encoding="utf-8") as file:
                file.write("name: bad\n")
            self.refused(1, "bad.yaml:1: bad: no doc", "--cpp", directory, f"a={spec}")
            self.assertEqual(os.listdir(directory), ["bad.yaml"])


if __name__ == "__main__":
    unittest.main()
