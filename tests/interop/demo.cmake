# SPDX-License-Identifier: Apache-2.0
# The demo is a test, too: everything but the size of its big file.
add_test(NAME interop.demo COMMAND ${CMAKE_SOURCE_DIR}/tools/demo --build ${CMAKE_BINARY_DIR} --size 16)
set_tests_properties(interop.demo PROPERTIES LABELS interop TIMEOUT 300)
