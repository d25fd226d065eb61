# SPDX-License-Identifier: Apache-2.0
add_test(NAME kernel.smoke COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/kernel/smoke ${CMAKE_BINARY_DIR})
set_tests_properties(kernel.smoke PROPERTIES LABELS kernel TIMEOUT 1800 RUN_SERIAL ON SKIP_RETURN_CODE 77)
