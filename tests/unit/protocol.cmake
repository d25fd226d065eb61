# SPDX-License-Identifier: Apache-2.0
hs_test(protocol_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/protocol_message_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/protocol_policy_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/protocol_controller_test.cpp
          ${CMAKE_CURRENT_LIST_DIR}/protocol_capture_test.cpp
  LIBS hs_protocol)

# The committed documentation table is what the specs say (else: build the target protocol-doc).
add_test(NAME protocol.documentation_table_is_current
  COMMAND ${CMAKE_COMMAND} -E compare_files ${CMAKE_BINARY_DIR}/generated/protocol.md
          ${CMAKE_SOURCE_DIR}/docs/protocol.md)
