# SPDX-License-Identifier: Apache-2.0
hs_test(protocol_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/protocol_message_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/protocol_policy_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/protocol_controller_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/protocol_capture_test.cpp
  LIBS hs_protocol)

# Only this test needs libnl; building the project does not.
pkg_check_modules(NLGENL QUIET IMPORTED_TARGET libnl-genl-3.0)
if(NLGENL_FOUND)
  hs_test(protocol_libnl_test SOURCES ${CMAKE_CURRENT_LIST_DIR}/protocol_libnl_test.cpp
          LIBS hs_protocol PkgConfig::NLGENL)
else()
  add_test(NAME protocol_libnl_test
    COMMAND ${CMAKE_COMMAND} -E echo "skipped: libnl-genl-3-dev is not installed")
  set_tests_properties(protocol_libnl_test PROPERTIES SKIP_REGULAR_EXPRESSION "skipped:")
endif()

# The committed documentation table is what the specs say (else: build the target protocol-doc).
add_test(NAME protocol.documentation_table_is_current
  COMMAND ${CMAKE_COMMAND} -E compare_files ${CMAKE_BINARY_DIR}/generated/protocol.md
          ${CMAKE_SOURCE_DIR}/docs/protocol.md)
